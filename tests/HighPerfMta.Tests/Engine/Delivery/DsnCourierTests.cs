using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>What a next hop is told of RET, ENVID, NOTIFY and ORCPT (RFC 3461 §5.2.1, §5.2.2).</summary>
public class DsnCourierTests
{
    private static readonly EnvelopeParameters Asked = new()
    {
        Return = ReturnContent.Headers,
        EnvelopeId = "QQ+2B314159",
        Recipients =
        [
            new RecipientParameters(NotifyConditions.Success | NotifyConditions.Delay, "rfc822;Bob+2Btag@Example.COM"),
            null,
            new RecipientParameters(NotifyConditions.Never, null),
            new RecipientParameters(NotifyConditions.Unsaid, "utf-8;zoë@b.example"),
        ],
    };

    private static DeliveryTask Task(CourierBench bench, EnvelopeParameters? parameters, string sender = "alice@example.net")
    {
        Envelope envelope = new()
        {
            Id = bench.Queue.NextId(),
            Sender = DeliveryBench.Address(sender),
            Recipients = [.. ((string[])["r0@b.example", "r1@b.example", "r2@b.example", "r3@b.example"]).Select(DeliveryBench.Address)],
            ReceivedAt = bench.Time.GetUtcNow(),
        };
        envelope = parameters is null ? envelope : new EnvelopeWithParameters(envelope, parameters);
        RecipientState state = new(RecipientStatus.Pending, 0, envelope.ReceivedAt, null);
        QueuedMessage message = bench.Queue.Add(envelope, [state, state, state, state], "Subject: x\r\n\r\nhello\r\n"u8.ToArray());
        return new DeliveryTask { Message = message, RecipientIndexes = [0, 1, 2, 3], RecipientCount = 4, Outcomes = new DeliveryOutcome[4] };
    }

    private static string[] Envelope(CourierBench bench) =>
        [.. bench.Mx.LinesOf(0).Where(static l => l.StartsWith("MAIL", StringComparison.Ordinal) || l.StartsWith("RCPT", StringComparison.Ordinal))];

    [Theory]
    [InlineData("DSN,SMTPUTF8")]
    [InlineData("DSN,SMTPUTF8,PIPELINING")]
    [InlineData("DSN,SMTPUTF8,PIPELINING,CHUNKING")]
    public async Task A_next_hop_with_DSN_is_told_as_we_were(string announced)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, announced);
        DeliveryTask task = Task(bench, Asked);
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.All(task.Outcomes, static o => Assert.Equal(DeliveryStatus.Delivered, o.Status));
        Assert.True(task.PassesDsn);
        Assert.Equal(
            [
                "MAIL FROM:<alice@example.net> RET=HDRS ENVID=QQ+2B314159",
                "RCPT TO:<r0@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Btag@Example.COM",
                "RCPT TO:<r1@b.example>",
                "RCPT TO:<r2@b.example> NOTIFY=NEVER",
                "RCPT TO:<r3@b.example> ORCPT=utf-8;zoë@b.example",
            ],
            Envelope(bench));
    }

    [Fact]
    public async Task A_next_hop_without_SMTPUTF8_gets_the_original_recipient_in_ASCII()
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, "DSN");
        await bench.Courier.DeliverAsync(Task(bench, Asked), CancellationToken.None);
        Assert.Equal("RCPT TO:<r3@b.example> ORCPT=utf-8;zo\\x{EB}@b.example", Envelope(bench)[^1]);
    }

    [Theory]
    [InlineData("")]
    [InlineData("PIPELINING,CHUNKING,SMTPUTF8")]
    public async Task A_next_hop_without_DSN_is_told_nothing(string announced)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, announced);
        DeliveryTask task = Task(bench, Asked);
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.False(task.PassesDsn);
        Assert.Equal("MAIL FROM:<alice@example.net>", Envelope(bench)[0]);
        Assert.All(Envelope(bench)[1..], static l => Assert.EndsWith(".example>", l, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("DSN,PIPELINING")]
    [InlineData("DSN,PIPELINING,CHUNKING")]
    public async Task Envelopes_that_go_ahead_have_their_own(string announced)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, announced);
        DeliveryTask[] tasks = CourierRow.Link(
        [
            Task(bench, null, "m0@example.net"), Task(bench, Asked, "m1@example.net"), Task(bench, new EnvelopeParameters { EnvelopeId = "other" }, "m2@example.net"), Task(bench, null, "m3@example.net"),
        ]);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.All(tasks, static t => Assert.True(t.PassesDsn));
        string[] mail = [.. Envelope(bench).Where(static l => l.StartsWith("MAIL", StringComparison.Ordinal))];
        Assert.Equal(["", " RET=HDRS ENVID=QQ+2B314159", " ENVID=other", ""], mail.Select(static l => l[(l.IndexOf('>', StringComparison.Ordinal) + 1)..]));
        Assert.Equal(2, Envelope(bench).Count(static l => l.Contains("NOTIFY=", StringComparison.Ordinal)));
    }
}
