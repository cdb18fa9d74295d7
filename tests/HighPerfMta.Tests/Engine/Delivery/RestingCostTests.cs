using HighPerfMta.Engine.Delivery;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>What cannot move costs nothing, and neither does what is not there.</summary>
public class RestingCostTests
{
    [Theory]
    [InlineData("hangs")]
    [InlineData("is down")]
    [InlineData("has only parked mail")]
    public async Task A_million_jobs_of_a_blocked_site_take_no_turns(string site)
    {
        const int jobs = 1_000_000;
        const int minutes = 10;
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Shards = 1 };
        bench.Couriers.KeepAttempts = false;
        bench.Couriers.Before = (_, _, stop) => site == "hangs" ? new ValueTask(Task.Delay(Timeout.InfiniteTimeSpan, stop)) : default;
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.SiteDown;
        bench.Queue.Time = bench.Time;
        DateTimeOffset due = bench.Time.GetUtcNow() + (site == "has only parked mail" ? TimeSpan.FromHours(3) : default);
        for (int i = 0; i < jobs; i++)
        {
            bench.Room.Restore(bench.Queue.AddBare("s@from.example", "to.example", due, 0));
        }

        await Waiting.UntilAsync(() => bench.Room.Sites() is var sites && due > bench.Time.GetUtcNow() ? bench.Room.Activity == default : sites.Count == 1 && sites[0].Waiting > jobs - 100);
        await bench.CalmButForTransactionsAsync();
        long before = bench.Room.Turns;
        for (int i = 0; i < minutes * 60; i++)
        {
            bench.Time.Advance(TimeSpan.FromSeconds(1));
            await bench.Room.WorkedOffAsync();
        }

        // A barrier is a turn; a sweep takes one for four of the 62 chunks each minute; a probe some.
        long turns = bench.Room.Turns - before - (minutes * 60);
        Assert.InRange(turns, 0, minutes * 30);
        Assert.Equal(jobs, bench.Queue.Jobs.Count);
    }

    [Fact]
    public async Task Sites_without_jobs_and_connections_are_forgotten_and_their_numbers_used_again()
    {
        const int sites = 1000;
        await using DeliveryBench bench = new();
        for (int wave = 0; wave < 3; wave++)
        {
            for (int i = 0; i < sites; i++)
            {
                bench.Send("s@from.example", $"r@w{wave}d{i}.example");
            }

            await Waiting.UntilAsync(() => bench.Queue.Count == 0);
            Assert.InRange(Enumerable.Range(0, sites).Max(i => bench.Room.SiteNumber($"mx:w{wave}d{i}.example")), 1, sites);
            await bench.CalmAsync();
            await bench.AdvanceAsync(bench.Options.IdleTimeout);
            await Waiting.UntilAsync(() => bench.Room.Activity.Connections == 0);
            await bench.CalmAsync();
            Assert.Empty(bench.Room.Sites());
            Assert.All(Enumerable.Range(0, sites), i => Assert.Equal(0, bench.Room.SiteNumber($"mx:w{wave}d{i}.example")));
        }
    }

    [Fact]
    public void A_site_that_was_removed_is_not_kept_alive()
    {
        SiteRegistry registry = new();
        WeakReference[] removed = AddAndRemove(registry);
        GC.Collect();
        Assert.DoesNotContain(removed, static r => r.IsAlive);
        Assert.Equal(0, registry.Count);
        SiteQueue next = new(new Site("mx:next.example", []), null!, 1);
        registry.Add(next);
        Assert.InRange(next.Number, 1, removed.Length);
        Assert.Same(next, registry[next.Number]);
        Assert.Null(registry[next.Number == 1 ? 2 : 1]);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static WeakReference[] AddAndRemove(SiteRegistry registry)
    {
        SiteQueue[] sites = [.. Enumerable.Range(0, 1000).Select(static i => new SiteQueue(new Site($"mx:d{i}.example", []), null!, 1))];
        Array.ForEach(sites, registry.Add);
        Array.ForEach(sites, registry.Remove);
        return [.. sites.Select(static s => new WeakReference(s))];
    }
}
