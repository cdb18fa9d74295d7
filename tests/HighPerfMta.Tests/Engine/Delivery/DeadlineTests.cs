using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>DELIVERBY (RFC 2852) and FUTURERELEASE (RFC 4865) in the scheduler, and at the next hop.</summary>
public class DeadlineTests
{
    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    private static QueuedMessage Queue(DeliveryBench bench, Func<DateTimeOffset, EnvelopeParameters> asked)
    {
        DateTimeOffset now = bench.Time.GetUtcNow();
        bench.Queue.Time = bench.Time;
        Envelope envelope = new()
        {
            Id = bench.Queue.NextId(),
            Sender = DeliveryBench.Address("s@from.example"),
            Recipients = [DeliveryBench.Address("r0@to.example"), DeliveryBench.Address("r1@to.example")],
            ReceivedAt = now,
        };
        envelope = new EnvelopeWithParameters(envelope, asked(now));
        return bench.Queue.Add(envelope, [.. Enumerable.Repeat(new RecipientState(RecipientStatus.Pending, 0, envelope.FirstDue, null), 2)]);
    }

    private static QueuedMessage Send(DeliveryBench bench, Func<DateTimeOffset, EnvelopeParameters> asked)
    {
        QueuedMessage message = Queue(bench, asked);
        bench.Room.Enqueue(message);
        return message;
    }

    private static EnvelopeParameters By(DateTimeOffset now, double minutes, bool notify, bool trace = false) => new() { DeliverBy = new DeliverBy(now.AddMinutes(minutes), notify, trace) };

    [Fact]
    public async Task What_is_to_be_returned_is_returned_at_its_time_while_it_waits_for_a_retry()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = Send(bench, static now => By(now, 30, notify: false));
        await bench.CalmAsync();
        await bench.AdvanceAsync(29 * Minute);
        Assert.Empty(bench.Reports.Sent);
        await bench.AdvanceAsync(Minute + TimeSpan.FromSeconds(3));
        (ReportKind kind, _, (int Recipient, DeliveryOutcome Outcome)[] recipients) = Assert.Single(bench.Reports.Sent);
        Assert.Equal(ReportKind.Failure, kind);
        Assert.All(recipients, static r => Assert.Equal(new EnhancedCode(5, 4, 7), r.Outcome.Enhanced));
        Assert.Contains("451 4.2.1 try later", recipients[0].Outcome.Text, StringComparison.Ordinal);
        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(0).Status);
        Assert.Equal(2, bench.Events.Events.Count(static e => e.Kind == MailEventKind.Expired));
    }

    [Fact]
    public async Task Also_while_its_site_takes_nothing()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Connect = static _ => ScriptedCouriers.SiteDown;
        bench.Retry = bench.Retry with { Schedule = [TimeSpan.FromHours(3)] };
        bench.Send("s@from.example", "first@to.example");
        await bench.CalmAsync();
        QueuedMessage message = Send(bench, static now => By(now, 10, notify: false));
        await bench.CalmAsync();
        for (int i = 0; i < 12; i++)
        {
            await bench.AdvanceAsync(Minute);
        }

        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(0).Status);
        Assert.Equal(message.Id, Assert.Single(bench.Reports.Sent).Message.Id);
    }

    [Fact]
    public async Task What_is_to_be_told_of_is_told_once_and_tried_on()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = Send(bench, static now => By(now, 30, notify: true));
        await bench.CalmAsync();
        await bench.AdvanceAsync(29 * Minute);
        Assert.Empty(bench.Reports.Sent);
        await bench.AdvanceAsync(Minute + TimeSpan.FromSeconds(3));
        (ReportKind kind, _, (int Recipient, DeliveryOutcome Outcome)[] recipients) = Assert.Single(bench.Reports.Sent);
        Assert.Equal((ReportKind.Delay, new EnhancedCode(4, 4, 7)), (kind, recipients[0].Outcome.Enhanced));
        await bench.AdvanceAsync(TimeSpan.FromHours(6));
        Assert.Single(bench.Reports.Sent);
        Assert.Equal(RecipientStatus.Pending, message.GetRecipient(0).Status);
        bench.Couriers.Outcome = null;
        await bench.AdvanceAsync(TimeSpan.FromHours(5));
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
    }

    [Fact]
    public async Task The_time_holds_for_the_rest_of_a_message_after_a_restart()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, i) => i == 0 ? ScriptedCouriers.Delivered : ScriptedCouriers.Deferred;
        Send(bench, static now => By(now, 30, notify: false));
        await bench.CalmAsync();
        await bench.RestartAsync();
        await bench.AdvanceAsync(31 * Minute);
        Assert.Equal([1], Assert.Single(bench.Reports.Sent).Recipients.Select(static r => r.Recipient));
    }

    [Fact]
    public async Task A_trace_is_told_of_also_by_a_next_hop_with_DSN()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, task, _) =>
        {
            task.PassesDsn = true;
            return ScriptedCouriers.Delivered;
        };
        Send(bench, static now => By(now, 30, notify: true, trace: true));
        await bench.CalmAsync();
        Assert.Equal(ReportKind.Relayed, Assert.Single(bench.Reports.Sent).Kind);
    }

    [Fact]
    public async Task What_is_held_back_is_tried_at_its_time_and_not_before()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = Send(bench, static now => new EnvelopeParameters { ReleaseAt = now.AddHours(10) });
        await bench.CalmAsync();
        await bench.AdvanceAsync(TimeSpan.FromHours(10) - TimeSpan.FromSeconds(1));
        Assert.Empty(bench.Couriers.Attempts);
        Assert.Empty(bench.Reports.Sent);
        await bench.AdvanceAsync(TimeSpan.FromSeconds(2));
        Assert.Single(bench.Couriers.Attempts);
        Assert.Equal((RecipientStatus.Pending, 1), (message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
        await bench.AdvanceAsync(TimeSpan.FromHours(6));
        Assert.True(bench.Couriers.Attempts.Count > 1);
        Assert.Empty(bench.Reports.Sent);
    }

    [Fact]
    public async Task It_is_held_over_a_restart()
    {
        await using DeliveryBench bench = new();
        Queue(bench, static now => new EnvelopeParameters { ReleaseAt = now.AddHours(10) });
        await bench.RestartAsync();
        await bench.AdvanceAsync(TimeSpan.FromHours(9));
        Assert.Empty(bench.Couriers.Attempts);
        await bench.AdvanceAsync(TimeSpan.FromHours(1) + TimeSpan.FromSeconds(1));
        Assert.Single(bench.Couriers.Attempts);
    }

    [Fact]
    public async Task A_time_that_is_over_holds_nothing_back()
    {
        await using DeliveryBench bench = new();
        QueuedMessage message = Send(bench, static now => new EnvelopeParameters { ReleaseAt = now.AddHours(-1) });
        await bench.CalmAsync();
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
    }

    [Theory]
    [InlineData("DELIVERBY", 600, false, false, " BY=600;R")]
    [InlineData("DELIVERBY 60", 90.5, true, true, " BY=90;NT")]
    [InlineData("DELIVERBY 60", -5, true, false, " BY=-5;N")]
    [InlineData("DELIVERBY 60", 5, true, false, " BY=5;N")]
    [InlineData("8BITMIME", 600, true, false, "")]
    public async Task The_next_hop_is_told_what_is_left(string announced, double seconds, bool notify, bool trace, string expected)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = [announced];
        await bench.Courier.DeliverAsync(Task(bench, new DeliverBy(bench.Time.GetUtcNow().AddSeconds(seconds), notify, trace)), CancellationToken.None);
        Assert.Equal("MAIL FROM:<a@from.example>" + expected, Assert.Single(bench.Mx.Messages).Mail);
    }

    [Theory]
    [InlineData("8BITMIME", 600, "does not promise")]
    [InlineData("DELIVERBY 60", 59, "does not promise")]
    [InlineData("DELIVERBY", 0.5, "not delivered by the time")]
    public async Task What_is_to_be_returned_goes_to_who_promises_that_alone(string announced, double seconds, string reason)
    {
        await using CourierBench bench = new();
        bench.Mx.Announces = [announced];
        DeliveryTask task = Task(bench, new DeliverBy(bench.Time.GetUtcNow().AddSeconds(seconds), false, false));
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal((DeliveryStatus.Failed, "5.4.7"), (task.Outcomes[0].Status, task.Outcomes[0].Enhanced.ToString()));
        Assert.Contains(reason, task.Outcomes[0].Text, StringComparison.Ordinal);
        Assert.Empty(bench.Mx.Messages);
    }

    private static DeliveryTask Task(CourierBench bench, DeliverBy by)
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
            Message = bench.Queue.Add(
                new EnvelopeWithParameters(envelope, new EnvelopeParameters { DeliverBy = by }), [new(RecipientStatus.Pending, 0, envelope.ReceivedAt, null)], "Subject: x\r\n\r\n"u8.ToArray()),
            RecipientIndexes = [0],
            RecipientCount = 1,
            Outcomes = new DeliveryOutcome[1],
        };
    }
}
