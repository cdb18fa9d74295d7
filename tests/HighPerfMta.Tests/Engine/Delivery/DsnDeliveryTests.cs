using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Reports of success: who is told, and that the report comes before the end of the recipient.</summary>
public class DsnDeliveryTests
{
    private static QueuedMessage Send(DeliveryBench bench, params NotifyConditions[] notify)
    {
        QueuedMessage message = Queue(bench, "s@from.example", notify);
        bench.Room.Enqueue(message);
        return message;
    }

    private static QueuedMessage Queue(DeliveryBench bench, string? sender, params NotifyConditions[] notify)
    {
        DateTimeOffset now = bench.Time.GetUtcNow();
        bench.Queue.Time = bench.Time;
        Envelope envelope = new()
        {
            Id = bench.Queue.NextId(),
            Sender = sender is null ? null : DeliveryBench.Address(sender),
            Recipients = [.. notify.Select((_, i) => DeliveryBench.Address($"r{i}@to.example"))],
            ReceivedAt = now,
        };
        EnvelopeParameters parameters = new() { Recipients = [.. notify.Select(static n => n == NotifyConditions.Unsaid ? null : new RecipientParameters(n, null))] };
        return bench.Queue.Add(new EnvelopeWithParameters(envelope, parameters), [.. notify.Select(_ => new RecipientState(RecipientStatus.Pending, 0, now, null))]);
    }

    [Fact]
    public async Task Who_asked_for_it_is_told_that_a_peer_without_DSN_took_the_message()
    {
        await using DeliveryBench bench = new();
        int openWhenReported = -1;
        bench.Reports.Before = m => openWhenReported = m.OpenRecipients;
        QueuedMessage message = Send(bench, NotifyConditions.Success, NotifyConditions.Unsaid, NotifyConditions.Failure, NotifyConditions.Success | NotifyConditions.Delay, NotifyConditions.Never);
        await bench.CalmAsync();
        (ReportKind kind, QueuedMessage reported, (int Recipient, DeliveryOutcome Outcome)[] recipients) = Assert.Single(bench.Reports.Sent);
        Assert.Equal((ReportKind.Relayed, message.Id), (kind, reported.Id));
        Assert.Equal([0, 3], recipients.Select(static r => r.Recipient));
        Assert.Equal(2, openWhenReported);
        Assert.All(Enumerable.Range(0, 5), r => Assert.Equal((RecipientStatus.Delivered, 1), (message.GetRecipient(r).Status, message.GetRecipient(r).Attempts)));
        Assert.Equal(5, bench.Events.Events.Count(static e => e.Kind == MailEventKind.Delivered));
        Assert.Empty(bench.Queue.FindJobs(message.Id));
    }

    [Fact]
    public async Task A_peer_with_DSN_tells_itself()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, task, _) =>
        {
            task.PassesDsn = true;
            return ScriptedCouriers.Delivered;
        };
        QueuedMessage message = Send(bench, NotifyConditions.Success);
        await bench.CalmAsync();
        Assert.Empty(bench.Reports.Sent);
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
    }

    [Fact]
    public async Task The_null_sender_is_never_told_of_success()
    {
        await using DeliveryBench bench = new();
        bench.Room.Enqueue(Queue(bench, null, NotifyConditions.Success));
        await bench.CalmAsync();
        Assert.Empty(bench.Reports.Sent);
    }

    [Fact]
    public async Task Discarded_mail_is_delivered_mail()
    {
        await using DeliveryBench bench = new();
        bench.Resolver.Decisions["to.example"] = new SiteDecision(null, NextHopKind.Discard, null);
        Send(bench, NotifyConditions.Success, NotifyConditions.Unsaid);
        await bench.CalmAsync();
        (ReportKind kind, _, (int Recipient, DeliveryOutcome Outcome)[] recipients) = Assert.Single(bench.Reports.Sent);
        Assert.Equal(ReportKind.Delivered, kind);
        Assert.Equal([0], recipients.Select(static r => r.Recipient));
    }

    [Fact]
    public async Task Success_and_failure_of_one_transaction_are_two_reports_and_one_end()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, i) => i == 1 ? ScriptedCouriers.Failed : i == 2 ? ScriptedCouriers.Deferred : ScriptedCouriers.Delivered;
        QueuedMessage message = Send(bench, NotifyConditions.Success, NotifyConditions.Unsaid, NotifyConditions.Success);
        await bench.CalmAsync();
        Assert.Equal([ReportKind.Relayed, ReportKind.Failure], bench.Reports.Sent.Select(static r => r.Kind));
        Assert.Equal([RecipientStatus.Delivered, RecipientStatus.Failed, RecipientStatus.Pending], Enumerable.Range(0, 3).Select(r => message.GetRecipient(r).Status));
        bench.Couriers.Outcome = null;
        await bench.AdvanceAsync(TimeSpan.FromHours(1));
        Assert.Equal(3, bench.Reports.Sent.Count);
        Assert.Equal([2], bench.Reports.Sent.Last().Recipients.Select(static r => r.Recipient));
        Assert.Equal([0, 1, 2, 2], bench.Couriers.Attempts.SelectMany(static a => a.Recipients));
    }

    [Fact]
    public async Task A_report_that_cannot_be_stored_is_tried_again_and_the_mail_is_not_sent_again()
    {
        await using DeliveryBench bench = new();
        int tries = 0;
        bench.Reports.Before = _ =>
        {
            if (++tries < 3)
            {
                throw new LogUnavailableException("full", LogCondition.LowSpace);
            }
        };
        QueuedMessage message = Send(bench, NotifyConditions.Success);
        await bench.CalmAsync();
        Assert.Equal(RecipientStatus.Pending, message.GetRecipient(0).Status);
        await bench.AdvanceAsync(TimeSpan.FromMinutes(10));
        await bench.AdvanceAsync(TimeSpan.FromMinutes(10));
        Assert.Equal(3, tries);
        Assert.Single(bench.Reports.Sent);
        Assert.Single(bench.Couriers.Attempts);
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
    }

    [Fact]
    public async Task A_success_report_that_was_stored_is_not_made_again_when_the_one_of_failures_cannot_be()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, i) => i == 1 ? ScriptedCouriers.Failed : ScriptedCouriers.Delivered;
        bool fails = true;
        int calls = 0;
        bench.Reports.Before = _ =>
        {
            if (++calls == 2 && fails)
            {
                fails = false;
                throw new LogUnavailableException("full", LogCondition.LowSpace);
            }
        };
        QueuedMessage message = Send(bench, NotifyConditions.Success, NotifyConditions.Unsaid);
        await bench.CalmAsync();
        await bench.AdvanceAsync(TimeSpan.FromMinutes(10));
        Assert.Equal([ReportKind.Relayed, ReportKind.Failure], bench.Reports.Sent.Select(static r => r.Kind));
        Assert.Equal([RecipientStatus.Delivered, RecipientStatus.Failed], Enumerable.Range(0, 2).Select(r => message.GetRecipient(r).Status));
        Assert.Single(bench.Events.Events, static e => e.Kind == MailEventKind.Delivered);
    }

    [Fact]
    public async Task What_was_delivered_stays_so_when_an_operator_drops_it_meanwhile()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = async (_, _, _) => await go.Task;
        QueuedMessage message = Send(bench, NotifyConditions.Success);
        await Waiting.UntilAsync(() => bench.Couriers.Attempts.Count == 1);
        await bench.SteerAsync(message.Id, SteeringKind.Drop);
        go.SetResult();
        await Waiting.UntilAsync(() => bench.Reports.Sent.Count == 1);
        await bench.CalmAsync();
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
        Assert.Empty(bench.Queue.FindJobs(message.Id));
    }

    [Fact]
    public async Task A_delay_notice_is_not_for_those_who_do_not_want_it()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = Send(bench, NotifyConditions.Failure, NotifyConditions.Delay, NotifyConditions.Unsaid, NotifyConditions.Never);
        await bench.CalmAsync();
        await bench.AdvanceAsync(bench.Retry.DelayNotice!.Value + TimeSpan.FromSeconds(1));
        Assert.Equal([1, 2], bench.Events.Events.Where(static e => e.Kind == MailEventKind.Delayed).Select(e => Array.FindIndex(message.Envelope.Recipients, r => r.ToString() == e.Recipient)));
        Assert.All(Enumerable.Range(0, 4), r => Assert.True(message.GetRecipient(r).DelayNoticeSent));
        await bench.AdvanceAsync(TimeSpan.FromHours(2));
        Assert.Single(bench.Reports.Sent);
    }
}
