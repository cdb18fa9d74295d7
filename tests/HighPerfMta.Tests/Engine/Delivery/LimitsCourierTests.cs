using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>LIMITS of a peer (RFC 9422), and parameters of MAIL that it may know or not.</summary>
public class LimitsCourierTests
{
    [Theory]
    [InlineData("LIMITS RCPTMAX=2", 2)]
    [InlineData("limits MAILMAX=9 rcptmax=3 X=y", 3)]
    [InlineData("LIMITS RCPTMAX=0", 5)]
    [InlineData("LIMITS RCPTMAX=02", 5)]
    [InlineData("LIMITS RCPTMAX=many", 5)]
    [InlineData("LIMITS", 5)]
    public async Task No_more_recipients_are_sent_than_a_peer_takes(string announced, int taken)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = ["PIPELINING", announced];
        DeliveryTask task = CourierRow.Task(bench, 0, 200, recipients: 5);
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(taken, Assert.Single(bench.Mx.Messages).Recipients.Length);
        Assert.Equal(taken, bench.Mx.LinesOf(0).Count(static l => l.StartsWith("RCPT", StringComparison.Ordinal)));
        Assert.All(task.Outcomes[..taken], static o => Assert.Equal(DeliveryStatus.Delivered, o.Status));
        Assert.All(task.Outcomes[taken..], static o => Assert.Equal((DeliveryStatus.Deferred, 452, new EnhancedCode(4, 5, 3)), (o.Status, o.Code, o.Enhanced)));
        Assert.Equal(taken < 5 ? taken : int.MaxValue, bench.Courier.RecipientLimit);
    }

    [Fact]
    public async Task No_more_domains_are_sent_than_a_peer_takes()
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = ["LIMITS RCPTDOMAINMAX=2"];
        DeliveryTask task = bench.Task("a@from.example", "Subject: x\r\n\r\n", "r0@one.example", "r1@two.example", "r2@one.example", "r3@three.example", "r4@one.example");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(3, Assert.Single(bench.Mx.Messages).Recipients.Length);
        Assert.All(task.Outcomes[3..], static o => Assert.Equal(452, o.Code));
    }

    [Fact]
    public async Task A_connection_carries_no_more_messages_than_a_peer_takes()
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = ["PIPELINING", "CHUNKING", "LIMITS MAILMAX=2"];
        DeliveryTask[] tasks = CourierRow.Tasks(bench, 5);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.Equal([0, 1, 2, 3, 4], CourierRow.Taken(bench));
        Assert.Equal(3, bench.Mx.Sessions);
        Assert.All(Enumerable.Range(0, 3), s => Assert.InRange(bench.Mx.LinesOf(s).Count(static l => l.StartsWith("MAIL", StringComparison.Ordinal)), 1, 2));
    }

    [Theory]
    [InlineData("LIMITS RCPTMAX=1")]
    [InlineData("LIMITS RCPTDOMAINMAX=1")]
    public async Task What_is_too_much_is_not_sent_ahead(string announced)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = ["PIPELINING", "CHUNKING", announced];
        DeliveryTask[] tasks = CourierRow.Link([CourierRow.Task(bench, 0, 200), bench.Task("m1@example.net", "Subject: x\r\n\r\n", "r0@a.example", "r1@b.example"), CourierRow.Task(bench, 2, 200)]);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.Equal([0, 1, 2], CourierRow.Taken(bench));
        Assert.Equal(452, tasks[1].Outcomes[1].Code);
    }

    [Fact]
    public async Task A_long_list_goes_in_as_many_transactions_as_the_peer_needs()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, i) => i < 2 ? ScriptedCouriers.Delivered : ScriptedCouriers.TooManyRecipients;
        bench.Send("s@from.example", "r0@to.example", "r1@to.example", "r2@to.example", "r3@to.example", "r4@to.example");
        await bench.CalmAsync();
        Assert.Equal(["0,1,2,3,4", "2,3,4", "4"], bench.Couriers.Attempts.Select(static a => string.Join(',', a.Recipients)));
    }

    [Theory]
    [InlineData("MT-PRIORITY", (sbyte)-3, " MT-PRIORITY=-3")]
    [InlineData("MT-PRIORITY MIXER", (sbyte)0, " MT-PRIORITY=0")]
    [InlineData("8BITMIME", (sbyte)9, "")]
    public async Task A_priority_is_told_to_who_knows_priorities(string announced, sbyte priority, string expected)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = [announced];
        await bench.Courier.DeliverAsync(Task(bench, new EnvelopeParameters { Priority = priority }), CancellationToken.None);
        Assert.Equal("MAIL FROM:<a@from.example>" + expected, Assert.Single(bench.Mx.Messages).Mail);
    }

    [Theory]
    [InlineData("REQUIRETLS")]
    [InlineData("8BITMIME")]
    public async Task What_may_go_over_TLS_alone_does_not_go_in_plain_text(string announced)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = [announced];
        DeliveryTask task = Task(bench, new EnvelopeParameters { RequireTls = true });
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal((DeliveryStatus.Failed, new EnhancedCode(5, 7, 30)), (task.Outcomes[0].Status, task.Outcomes[0].Enhanced));
        Assert.DoesNotContain(bench.Mx.LinesOf(0), static l => l.StartsWith("MAIL", StringComparison.Ordinal));
    }

    private static DeliveryTask Task(CourierBench bench, EnvelopeParameters parameters)
    {
        Envelope envelope = new()
        {
            Id = bench.Queue.NextId(),
            Sender = DeliveryBench.Address("a@from.example"),
            Recipients = [DeliveryBench.Address("b@to.example")],
            ReceivedAt = bench.Time.GetUtcNow(),
        };
        return new DeliveryTask
        {
            Message = bench.Queue.Add(new EnvelopeWithParameters(envelope, parameters), [new(global::HighPerfMta.Queue.RecipientStatus.Pending, 0, envelope.ReceivedAt, null)], "Subject: x\r\n\r\n"u8.ToArray()),
            RecipientIndexes = [0],
            RecipientCount = 1,
            Outcomes = new DeliveryOutcome[1],
        };
    }
}
