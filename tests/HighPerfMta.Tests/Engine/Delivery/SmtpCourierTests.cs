using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class SmtpCourierTests
{
    private const string Text = "Subject: x\r\n\r\n.dot\r\n..\r\nhello\r\n";

    public static TheoryData<string> Capabilities => ["", "PIPELINING", "CHUNKING", "PIPELINING CHUNKING", "SIZE 8BITMIME SMTPUTF8 PIPELINING"];

    [Theory]
    [MemberData(nameof(Capabilities))]
    public async Task A_message_arrives_octet_for_octet_and_the_connection_is_reused(string capabilities)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = capabilities.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i < 3; i++)
        {
            DeliveryOutcome outcome = await bench.SendAsync(Text);
            Assert.Equal(DeliveryStatus.Delivered, outcome.Status);
            Assert.Equal(250, outcome.Code);
            Assert.Equal("mx.example[192.0.2.1]", outcome.Peer);
            Assert.Equal("Ok: queued as 12345", outcome.Text);
            Assert.Equal(CourierState.Ready, bench.Courier.State);
        }

        Assert.Equal(1, bench.Mx.Sessions);
        Assert.All(bench.Mx.Messages, static m => Assert.Equal(Text, m.Text));
        Assert.Equal(3, bench.Mx.Messages.Count);
        await bench.Courier.QuitAsync();
        Assert.Equal(CourierState.Closed, bench.Courier.State);
        Assert.Equal("QUIT", bench.Mx.LinesOf(0).Last());
    }

    /// <summary>Blocks of plain lines are sent from where they are; between them are lines that begin with a dot, lines longer than a block, and what is less than one.</summary>
    [Theory]
    [MemberData(nameof(Capabilities))]
    public async Task A_large_message_arrives_octet_for_octet_whatever_its_lines(string capabilities)
    {
        string line = new string('x', 76) + "\r\n";
        string plain = string.Concat(Enumerable.Repeat(line, 3000));
        await using CourierBench bench = new();
        bench.Mx.Announces = capabilities.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        string[] texts =
        [
            plain,
            plain + ".",
            $"{plain[..(20_000 / line.Length * line.Length)]}.\r\n..\r\n{plain}.x\r\n{new string('y', 200_000)}\r\n{plain}",
            "." + plain[..65_540],
            $"{new string('z', 65_534)}\r\n.{plain}",
        ];
        foreach (string text in texts)
        {
            Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync(text)).Status);
        }

        ReceivedMessage[] messages = [.. bench.Mx.Messages];
        Assert.Equal(texts.Length, messages.Length);
        for (int i = 0; i < texts.Length; i++)
        {
            bool ends = capabilities.Contains("CHUNKING", StringComparison.Ordinal) || texts[i].EndsWith("\r\n", StringComparison.Ordinal);
            Assert.Equal(ends ? texts[i] : texts[i] + "\r\n", messages[i].Text);
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("PIPELINING,CHUNKING")]
    public async Task A_message_whose_octets_are_fewer_than_its_record_says_never_gets_an_end(string announced)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, announced);
        DeliveryTask whole = bench.Task("a@from.example", "Subject: x\r\n\r\nhello\r\n", "b@to.example");
        Envelope envelope = new() { Id = bench.Queue.NextId(), Sender = whole.Message.Envelope.Sender, Recipients = whole.Message.Envelope.Recipients, ReceivedAt = bench.Time.GetUtcNow() };
        DeliveryTask truncated = new()
        {
            Message = new QueuedMessage(envelope, whole.Message.Body, null, [whole.Message.GetRecipient(0)]),
            RecipientIndexes = [0],
            RecipientCount = 1,
            Outcomes = new DeliveryOutcome[1],
        };
        await Assert.ThrowsAsync<InvalidOperationException>(() => bench.Courier.DeliverAsync(truncated, CancellationToken.None).AsTask());
        await bench.Courier.DisposeAsync();
        Assert.Empty(bench.Mx.Messages);
    }
}
