using CsCheck;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class RetryTests
{
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(1);

    /// <summary>Due times are rounded up to this.</summary>
    private static readonly TimeSpan Unit = TimeSpan.FromTicks(DueTime.Unit);

    [Fact]
    public void Waits_follow_the_schedule_within_a_fifth_and_the_last_repeats()
    {
        RetryOptions options = new() { Schedule = [TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(10), TimeSpan.FromHours(1)] };
        RetryPolicy policy = new(options, new Random(3));
        Gen.Int[1, 50].Sample(attempts =>
        {
            TimeSpan nominal = options.Schedule[Math.Min(attempts, 3) - 1];
            TimeSpan wait = policy.WaitAfter(attempts);
            return wait >= nominal * 0.8 && wait <= nominal * 1.2;
        });
        List<TimeSpan> many = [.. Enumerable.Range(0, 500).Select(_ => policy.WaitAfter(1))];
        Assert.True(many.Min() < TimeSpan.FromMinutes(4.3) && many.Max() > TimeSpan.FromMinutes(5.7));
    }

    [Fact]
    public void A_sites_back_off_doubles_and_stays_within_the_schedule()
    {
        RetryPolicy policy = new(new RetryOptions { Schedule = [TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(2), TimeSpan.FromHours(1)] }, new Random(3));
        int[] seconds = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600];
        for (int i = 0; i < seconds.Length; i++)
        {
            Assert.InRange(policy.BackOff(i + 1).TotalSeconds, seconds[i] * 0.8, seconds[i] * 1.2);
        }
    }

    [Fact]
    public async Task A_deferred_recipient_is_tried_exactly_when_due_until_it_expires()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await bench.CalmAsync();
        int tried = 1;
        while (true)
        {
            RecipientState state = message.GetRecipient(0);
            Assert.Equal((RecipientStatus.Pending, tried), (state.Status, state.Attempts));
            TimeSpan nominal = bench.Retry.Schedule[Math.Min(tried, bench.Retry.Schedule.Count) - 1];
            Assert.InRange(state.DueAt - bench.Couriers.Attempts.Last().Time, nominal * 0.8, nominal * 1.2);
            if (state.DueAt > message.Envelope.ReceivedAt + bench.Retry.Expire)
            {
                break;
            }

            await bench.AdvanceAsync(state.DueAt - bench.Time.GetUtcNow() - Tick);
            Assert.Equal(tried, bench.Couriers.Attempts.Count);
            await bench.AdvanceAsync(Unit + (2 * Tick));
            Assert.Equal(++tried, bench.Couriers.Attempts.Count);
        }

        Assert.InRange(tried, 25, 50);
        await bench.AdvanceAsync(message.Envelope.ReceivedAt + bench.Retry.Expire - bench.Time.GetUtcNow() - Tick);
        Assert.Equal(1, message.OpenRecipients);
        await bench.AdvanceAsync(Tick);
        RecipientState last = message.GetRecipient(0);
        Assert.Equal((RecipientStatus.Failed, tried), (last.Status, last.Attempts));
        Assert.Equal((DeliveryStage.Expiry, new EnhancedCode(4, 4, 7)), (last.LastOutcome!.Stage, last.LastOutcome.Enhanced));
        Assert.Contains("expired: not delivered within 5 days", last.LastOutcome.Text, StringComparison.Ordinal);
        Assert.Contains("451 4.2.1 try later", last.LastOutcome.Text, StringComparison.Ordinal);
        Assert.Equal(MailEventKind.Expired, bench.Events.Events.Last().Kind);
        Assert.Equal([ReportKind.Delay, ReportKind.Failure], bench.Reports.Sent.Select(static r => r.Kind));
        Assert.Equal(tried, bench.Couriers.Attempts.Count);
    }

    [Fact]
    public async Task The_delay_notice_goes_once_and_on_time()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, task, i) => task.RecipientIndexes[i] == 0 ? ScriptedCouriers.Delivered : ScriptedCouriers.Deferred;
        QueuedMessage message = bench.Send("s@from.example", "a@to.example", "b@to.example", "c@to.example");
        await bench.CalmAsync();
        await bench.AdvanceAsync(TimeSpan.FromHours(4) - Tick);
        Assert.Empty(bench.Reports.Sent);
        await bench.AdvanceAsync(Tick);
        (ReportKind kind, _, (int Recipient, DeliveryOutcome Outcome)[] recipients) = Assert.Single(bench.Reports.Sent);
        Assert.Equal(ReportKind.Delay, kind);
        Assert.Equal([1, 2], recipients.Select(static r => r.Recipient));
        Assert.Equal(ScriptedCouriers.Deferred, recipients[0].Outcome);
        Assert.True(message.GetRecipient(1).DelayNoticeSent);
        for (int i = 0; i < 30; i++)
        {
            await bench.AdvanceAsync(TimeSpan.FromHours(1));
        }

        Assert.Single(bench.Reports.Sent);
        Assert.Equal(2, bench.Events.Events.Count(static e => e.Kind == MailEventKind.Delayed));
        Assert.True(message.GetRecipient(2).DelayNoticeSent);
    }

    [Fact]
    public async Task Held_mail_expires_too_but_makes_no_delay_notice()
    {
        await using DeliveryBench bench = new();
        DateTimeOffset now = bench.Time.GetUtcNow();
        QueuedMessage message = bench.Message("s@from.example", _ => new RecipientState(RecipientStatus.Held, 2, now, null), "r@to.example");
        bench.Room.Enqueue(message);
        await bench.AdvanceAsync(bench.Retry.Expire - Tick);
        Assert.Equal(RecipientStatus.Held, message.GetRecipient(0).Status);
        Assert.Empty(bench.Reports.Sent);
        await bench.AdvanceAsync(Tick);
        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(0).Status);
        Assert.Equal(ReportKind.Failure, Assert.Single(bench.Reports.Sent).Kind);
        Assert.Empty(bench.Couriers.Attempts);
    }

    [Fact]
    public async Task Mail_that_waits_behind_a_failing_site_is_told_and_expires_in_time()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Shards = 1, ConnectionsPerSite = 1 };
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.SiteDown;
        bench.Send("s@from.example", "first@to.example");
        await bench.CalmAsync();
        QueuedMessage waiting = bench.Send("s@from.example", "second@to.example");
        await bench.CalmAsync();
        Assert.Equal(1, bench.Room.Sites().Single().Waiting);
        for (int i = 0; i < 4 * 60; i++)
        {
            await bench.AdvanceAsync(TimeSpan.FromMinutes(1));
        }

        Assert.Contains(bench.Reports.Sent, r => r.Kind == ReportKind.Delay && r.Message.Id == waiting.Id);
        for (int i = 0; i < 116; i++)
        {
            await bench.AdvanceAsync(TimeSpan.FromHours(1));
        }

        Assert.Empty(bench.Queue.Messages);
        Assert.Equal(2, bench.Events.Events.Count(static e => e.Kind == MailEventKind.Expired));
    }

    [Fact]
    public async Task A_restart_keeps_attempts_and_due_times()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        DateTimeOffset now = bench.Time.GetUtcNow();
        QueuedMessage later = bench.Message("s@from.example", _ => new RecipientState(RecipientStatus.Pending, 3, now.AddMinutes(10), null), "r@to.example");
        QueuedMessage overdue = bench.Message("s@from.example", _ => new RecipientState(RecipientStatus.Pending, 2, now.AddMinutes(-10), null), "r@to.example");
        bench.Queue.Restored = bench.Room.Restore;
        bench.Queue.Start();
        await bench.CalmAsync();
        Assert.Equal(3, overdue.GetRecipient(0).Attempts);
        Assert.InRange(overdue.GetRecipient(0).DueAt - now, TimeSpan.FromMinutes(16), TimeSpan.FromMinutes(24));
        Assert.Equal(overdue.Id, Assert.Single(bench.Couriers.Attempts).Message);
        await bench.AdvanceAsync(TimeSpan.FromMinutes(10) - Tick);
        Assert.Equal(3, later.GetRecipient(0).Attempts);
        await bench.AdvanceAsync(Unit);
        Assert.Equal(4, later.GetRecipient(0).Attempts);
    }

    [Fact]
    public async Task The_report_is_made_before_the_recipients_fail()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, task, i) => task.RecipientIndexes[i] == 1 ? ScriptedCouriers.Delivered : ScriptedCouriers.Failed;
        int open = -1;
        bench.Reports.Before = m => open = m.OpenRecipients;
        QueuedMessage message = bench.Send("s@from.example", "a@to.example", "b@to.example", "c@to.example");
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Equal(2, open);
        (_, _, (int Recipient, DeliveryOutcome Outcome)[] recipients) = Assert.Single(bench.Reports.Sent);
        Assert.Equal([(0, ScriptedCouriers.Failed), (2, ScriptedCouriers.Failed)], recipients);
        Assert.Equal((RecipientStatus.Failed, 1), (message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
        Assert.Equal(2, bench.Events.Events.Count(static e => e.Kind == MailEventKind.Bounced));
    }

    [Fact]
    public async Task A_crash_between_report_and_record_makes_a_second_report_and_loses_none()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Failed;
        bench.Queue.BeforeUpdate = static (_, _) => throw new InvalidOperationException("power is gone");
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => !bench.Reports.Sent.IsEmpty);
        await bench.CalmAsync();
        Assert.Equal(1, message.OpenRecipients);

        await using DeliveryBench second = new() { Queue = bench.Queue };
        bench.Queue.BeforeUpdate = null;
        second.Couriers.Outcome = bench.Couriers.Outcome;
        second.Room.Enqueue(message);
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Single(second.Reports.Sent);
    }

    [Fact]
    public async Task A_report_that_was_made_is_not_made_again_when_its_record_failed()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Failed;
        int tries = 0;
        bench.Queue.BeforeUpdate = (_, _) =>
        {
            if (Interlocked.Increment(ref tries) < 3)
            {
                throw new InvalidOperationException("a bug below");
            }
        };
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await bench.CalmAsync();
        await bench.AdvanceAsync(TimeSpan.FromSeconds(5));
        Assert.Equal((2, 1), (tries, message.OpenRecipients));
        await bench.AdvanceAsync(TimeSpan.FromSeconds(10));
        Assert.Equal((3, 0), (tries, message.OpenRecipients));
        Assert.Single(bench.Reports.Sent);
    }

    [Fact]
    public async Task A_report_that_cannot_be_stored_keeps_the_recipients_open_and_is_tried_again()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Failed;
        int tries = 0;
        bench.Reports.Before = _ =>
        {
            if (Interlocked.Increment(ref tries) < 3)
            {
                throw new LogUnavailableException("disk full", LogCondition.Failing);
            }
        };
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await bench.CalmAsync();
        Assert.Equal((1, 1), (tries, message.OpenRecipients));
        await bench.AdvanceAsync(TimeSpan.FromSeconds(5));
        Assert.Equal((2, 1), (tries, message.OpenRecipients));
        await bench.AdvanceAsync(TimeSpan.FromSeconds(10));
        Assert.Equal((3, 0), (tries, message.OpenRecipients));
        Assert.Single(bench.Couriers.Attempts);
    }

    [Fact]
    public async Task The_null_sender_gets_no_report_and_no_notice()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (site, _, _) => site.Key == "mx:bad.example" ? ScriptedCouriers.Failed : ScriptedCouriers.Deferred;
        QueuedMessage failing = bench.Send(null, "r@bad.example");
        QueuedMessage expiring = bench.Send(null, "r@slow.example");
        await bench.CalmAsync();
        Assert.Equal(RecipientStatus.Failed, failing.GetRecipient(0).Status);
        for (int i = 0; i < 121; i++)
        {
            await bench.AdvanceAsync(TimeSpan.FromHours(1));
        }

        Assert.Equal(RecipientStatus.Failed, expiring.GetRecipient(0).Status);
        Assert.False(expiring.GetRecipient(0).DelayNoticeSent);
        Assert.Empty(bench.Reports.Sent);
        Assert.Equal(1, bench.Events.Events.Count(static e => e.Kind == MailEventKind.Expired));
        Assert.All(bench.Events.Events, static e => Assert.Equal("", e.Sender));
    }
}
