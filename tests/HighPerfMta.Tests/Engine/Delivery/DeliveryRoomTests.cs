using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class DeliveryRoomTests
{
    [Fact]
    public async Task A_message_is_delivered_recorded_and_told()
    {
        await using DeliveryBench bench = new();
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        RecipientState state = message.GetRecipient(0);
        Assert.Equal((RecipientStatus.Delivered, 1), (state.Status, state.Attempts));
        MailEvent told = Assert.Single(bench.Events.Events);
        Assert.Equal(MailEventKind.Delivered, told.Kind);
        Assert.Equal(("s@from.example", "r@to.example", "mx:to.example"), (told.Sender, told.Recipient, told.Site));
        Assert.Equal((250, "2.0.0", "ok", 1, "final-dot"), (told.Code, told.Enhanced, told.Reply, told.Attempt, told.Stage));
        Assert.Empty(bench.Queue.Messages);
    }

    [Fact]
    public async Task Recipients_are_split_by_site_and_sent_together_within_one()
    {
        await using DeliveryBench bench = new();
        bench.Resolver.Decisions["other.example"] = new SiteDecision(new Site("mx:one.example", [new SiteHost("one.example", 10, 25)]), NextHopKind.Mx, null);
        QueuedMessage message = bench.Send("s@from.example", "a@one.example", "b@two.example", "c@other.example", "d@two.example");
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Equal(2, bench.Couriers.Attempts.Count);
        Assert.Equal([0, 2], bench.Couriers.Attempts.Single(static a => a.Site == "mx:one.example").Recipients);
        Assert.Equal([1, 3], bench.Couriers.Attempts.Single(static a => a.Site == "mx:two.example").Recipients);
    }

    [Fact]
    public async Task More_recipients_than_a_transaction_takes_go_in_several()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { RecipientsPerTransaction = 3 };
        QueuedMessage message = bench.Send("s@from.example", [.. Enumerable.Range(0, 8).Select(static i => $"r{i}@to.example")]);
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Equal([3, 3, 2], bench.Couriers.Attempts.Select(static a => a.Recipients.Length));
    }

    [Fact]
    public async Task Recipients_over_the_peers_limit_go_at_once_in_a_further_transaction()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, i) => i < 2 ? ScriptedCouriers.Delivered : ScriptedCouriers.TooManyRecipients;
        QueuedMessage message = bench.Send("s@from.example", [.. Enumerable.Range(0, 5).Select(static i => $"r{i}@to.example")]);
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Equal([5, 3, 1], bench.Couriers.Attempts.Select(static a => a.Recipients.Length));
        Assert.All(bench.Events.Events, static e => Assert.Equal((MailEventKind.Delivered, 1), (e.Kind, e.Attempt)));
    }

    [Fact]
    public async Task A_peer_that_takes_no_recipient_at_all_is_tried_later()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.TooManyRecipients;
        QueuedMessage message = bench.Send("s@from.example", "a@to.example", "b@to.example");
        await Waiting.UntilAsync(() => message.GetRecipient(1).Attempts == 1);
        await bench.CalmAsync();
        Assert.Single(bench.Couriers.Attempts);
    }

    [Fact]
    public async Task Routes_that_end_here_need_no_courier()
    {
        await using DeliveryBench bench = new();
        bench.Resolver.Decisions["void.example"] = new SiteDecision(null, NextHopKind.Discard, null);
        bench.Resolver.Decisions["wait.example"] = new SiteDecision(null, NextHopKind.Hold, null);
        bench.Resolver.Decisions["no.example"] = new SiteDecision(null, NextHopKind.Reject, null);
        QueuedMessage message = bench.Send("s@from.example", "a@void.example", "b@wait.example", "c@no.example");
        await Waiting.UntilAsync(() => message.OpenRecipients == 1 && message.GetRecipient(1).Status == RecipientStatus.Held);
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(2).Status);
        Assert.Equal(new EnhancedCode(5, 7, 1), message.GetRecipient(2).LastOutcome!.Enhanced);
        Assert.Empty(bench.Couriers.Attempts);
        Assert.Equal(
            [(MailEventKind.Delivered, "discard"), (MailEventKind.Held, null), (MailEventKind.Bounced, null)],
            bench.Events.Events.OrderBy(static e => e.Recipient).Select(static e => (e.Kind, e.Site)));
        Assert.Equal([2], Assert.Single(bench.Reports.Sent).Recipients.Select(static r => r.Recipient));
    }

    [Fact]
    public async Task Released_mail_passes_its_hold_route()
    {
        await using DeliveryBench bench = new();
        bench.Resolver.Decisions["wait.example"] = new SiteDecision(null, NextHopKind.Hold, null);
        QueuedMessage message = bench.Send("s@from.example", "b@wait.example");
        await Waiting.UntilAsync(() => message.GetRecipient(0).Status == RecipientStatus.Held);
        Assert.Equal(1, await bench.SteerAsync(message.Id, SteeringKind.Release));
        await Waiting.UntilAsync(() => message.GetRecipient(0).Status == RecipientStatus.Delivered);
    }

    [Fact]
    public async Task Dns_outcomes_defer_and_fail()
    {
        await using DeliveryBench bench = new();
        DeliveryOutcome slow = new(DeliveryStatus.Deferred, DeliveryStage.Dns, FaultOwner.Site, 0, new EnhancedCode(4, 4, 3), "SERVFAIL");
        DeliveryOutcome none = new(DeliveryStatus.Failed, DeliveryStage.Dns, FaultOwner.Recipient, 0, new EnhancedCode(5, 1, 2), "NXDOMAIN");
        bench.Resolver.Decisions["slow.example"] = new SiteDecision(null, NextHopKind.Mx, slow);
        bench.Resolver.Decisions["none.example"] = new SiteDecision(null, NextHopKind.Mx, none);
        QueuedMessage message = bench.Send("s@from.example", "a@slow.example", "b@none.example");
        await Waiting.UntilAsync(() => message.OpenRecipients == 1 && message.GetRecipient(0).Attempts == 1);
        Assert.Equal(none, message.GetRecipient(1).LastOutcome);
        Assert.InRange(message.GetRecipient(0).DueAt - bench.Time.GetUtcNow(), TimeSpan.FromMinutes(4), TimeSpan.FromMinutes(6));

        bench.Resolver.Decisions.TryRemove("slow.example", out _);
        await bench.AdvanceAsync(TimeSpan.FromMinutes(6));
        Assert.Equal((RecipientStatus.Delivered, 2), (message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
    }

    [Fact]
    public async Task A_job_that_comes_while_many_others_are_placed_is_placed_too()
    {
        await using DeliveryBench bench = new() { Options = new DeliveryOptions { Hostname = "mta.example", Shards = 1 } };
        bench.Couriers.KeepAttempts = false;
        using ManualResetEventSlim filled = new();
        QueuedMessage late = bench.Message("s@from.example", "late@to.example");
        int calls = 0;
        bench.Resolver.Before = _ =>
        {
            switch (Interlocked.Increment(ref calls))
            {
                case 1:
                    Assert.True(filled.Wait(TimeSpan.FromSeconds(60)));
                    break;
                case 2:
                    bench.Room.Restore(late.Slot);
                    break;
            }
        };

        // More than one turn of the shard places.
        QueuedMessage[] many = [.. Enumerable.Range(0, 3000).Select(i => bench.Message("s@from.example", $"r{i}@to.example"))];
        foreach (QueuedMessage message in many)
        {
            bench.Room.Restore(message.Slot);
        }

        filled.Set();
        await Waiting.UntilAsync(() => late.OpenRecipients == 0 && Array.TrueForAll(many, static m => m.OpenRecipients == 0));
    }
}
