using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class FairnessTests
{
    private const int Groups = SiteJobs.Groups;

    [Fact]
    public async Task A_list_with_ten_thousand_domains_holds_up_nobody_else()
    {
        const int domains = 10_000;
        const int recipients = 100_000;
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Connections = 4, Shards = 1 };
        RoundGate gate = new();
        bench.Couriers.Before = (_, _, stop) => gate.WaitAsync(stop);
        QueuedMessage list = bench.Send("list@big.example", [.. Enumerable.Range(0, recipients).Select(static i => $"r{i}@d{i % domains}.example")]);
        await Waiting.UntilAsync(() => gate.Waiting == 4 && bench.Room.Sites().Count == domains);
        await bench.CalmButForTransactionsAsync();
        QueuedMessage small = bench.Send("somebody@small.example", "r@other.example");
        await bench.CalmButForTransactionsAsync();
        gate.LetThrough(forGood: true);
        await Waiting.UntilAsync(() => small.OpenRecipients == 0);
        int before = bench.Couriers.Created.TakeWhile(static site => site != "mx:other.example").Count();
        Assert.InRange(before, 4, 4 + (2 * Groups));
        await Waiting.UntilAsync(() => list.OpenRecipients == 0);
        Assert.Equal(4, bench.Couriers.MostOpen);
    }

    [Fact]
    public async Task Fresh_mail_gets_a_connection_before_thousands_of_sites_with_old_mail()
    {
        const int sites = 2000;
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Connections = 1, Shards = 1 };
        RoundGate gate = new();
        bench.Couriers.Before = (_, _, stop) => gate.WaitAsync(stop);
        for (int i = 0; i < sites; i++)
        {
            bench.Room.Restore(bench.Queue.AddBare("s@from.example", $"d{i}.example", bench.Time.GetUtcNow(), attempts: 3));
        }

        await Waiting.UntilAsync(() => gate.Waiting == 1 && bench.Room.Sites().Count == sites);
        QueuedMessage fresh = bench.Send("s@from.example", "r@new.example");
        await bench.CalmButForTransactionsAsync();
        gate.LetThrough(forGood: true);
        await Waiting.UntilAsync(() => fresh.OpenRecipients == 0);
        Assert.InRange(bench.Couriers.Attempts.TakeWhile(a => a.Message != fresh.Id).Count(), 1, SiteJobs.TriedShare);
        await Waiting.UntilAsync(() => bench.Queue.Jobs.Count == 0);
    }

    [Fact]
    public async Task A_site_serves_fresh_mail_first_old_mail_by_its_share_and_senders_in_turn()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { ConnectionsPerSite = 1, Shards = 1 };
        RoundGate gate = new();
        bench.Couriers.Before = (_, _, stop) => gate.WaitAsync(stop);
        bench.Send("first@from.example", "r@to.example");
        await Waiting.UntilAsync(() => gate.Waiting == 1);
        string other = OtherGroup("big.example");
        for (int i = 0; i < 1000; i++)
        {
            bench.Room.Restore(bench.Queue.AddBare("old@from.example", "to.example", bench.Time.GetUtcNow(), attempts: 2));
            bench.Send("list@big.example", $"r{i}@to.example");
        }

        QueuedMessage small = bench.Send($"somebody@{other}", "r@to.example");
        await Waiting.UntilAsync(() => bench.Room.Sites().Single().Waiting == 2001);
        gate.LetThrough(forGood: true);
        await Waiting.UntilAsync(() => bench.Queue.Jobs.Count == 0);
        MessageId[] order = [.. bench.Couriers.Attempts.Select(static a => a.Message)];
        Assert.InRange(Array.IndexOf(order, small.Id), 1, 6);

        // While both wait, one in four is old.
        HashSet<MessageId> old = [.. bench.Events.Events.Where(static e => e.Sender == "old@from.example").Select(static e => e.Id!.Value)];
        Assert.InRange(order.Take(1000).Count(old.Contains), 240, 260);
    }

    [Fact]
    public void Sites_that_starve_take_turns_by_sender_and_age()
    {
        StarvedSites starved = new();
        SiteQueue[] sites = [.. Enumerable.Range(0, 40).Select(static i => new SiteQueue(new Site($"mx:{i}", []), null!, 1))];
        for (int i = 0; i < 10; i++)
        {
            starved.Enqueue(sites[i], 3);
            starved.Enqueue(sites[10 + i], Groups + 3);
        }

        starved.Enqueue(sites[20], 5);
        starved.Enqueue(sites[21], Groups + 1);
        List<SiteQueue> order = [];
        while (starved.Peek() is { } site)
        {
            starved.Dequeue();
            order.Add(site);
        }

        Assert.Equal(22, order.Distinct().Count());
        Assert.Equal([0, 20, 1, 21, 2, 3, 4, 10], order.Take(8).Select(s => Array.IndexOf(sites, s)));
        Assert.Equal(0, starved.Count);
    }

    [Fact]
    public async Task Lookups_of_one_message_leave_room_for_others()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource dns = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Resolver.Slow = _ => dns.Task;
        QueuedMessage list = bench.Send("list@big.example", [.. Enumerable.Range(0, 5000).Select(static i => $"r@d{i}.example")]);
        await Waiting.UntilAsync(() => bench.Resolver.Lookups == Router.MaxLookupsEach);
        await bench.CalmAsync();
        Assert.Equal(Router.MaxLookupsEach, bench.Resolver.Lookups);
        dns.SetResult();
        await Waiting.UntilAsync(() => list.OpenRecipients == 0);
    }

    private static string OtherGroup(string domain) =>
        Enumerable.Range(0, 100).Select(static i => $"small{i}.example").First(d => JobNames.HashOf(d) % (Groups - 1) != JobNames.HashOf(domain) % (Groups - 1));
}
