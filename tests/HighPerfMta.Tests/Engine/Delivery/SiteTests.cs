using CsCheck;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class SiteTests
{
    [Fact]
    public async Task A_failing_site_rests_is_probed_with_one_and_ramped_up()
    {
        await using DeliveryBench bench = new();
        bool down = true;
        bench.Couriers.Outcome = (_, _, _) => Volatile.Read(ref down) ? ScriptedCouriers.SiteDown : ScriptedCouriers.Delivered;
        QueuedMessage first = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => first.GetRecipient(0).Attempts == 1);
        await bench.CalmAsync();
        List<QueuedMessage> rest = [];
        for (int i = 0; i < 40; i++)
        {
            rest.Add(bench.Send("s@from.example", $"r{i}@to.example"));
        }

        await bench.CalmAsync();
        SiteStatus status = bench.Room.Sites().Single();
        Assert.Equal((40, 1, 0), (status.Waiting, status.Deferred, status.Connections));
        Assert.Equal(ScriptedCouriers.SiteDown, status.LastError);
        Assert.InRange(status.BackOffUntil!.Value - bench.Time.GetUtcNow(), TimeSpan.FromSeconds(1.6), TimeSpan.FromSeconds(2.4));
        Assert.Single(bench.Couriers.Attempts);

        await bench.AdvanceAsync(TimeSpan.FromSeconds(1.5));
        Assert.Single(bench.Couriers.Attempts);
        await bench.AdvanceAsync(TimeSpan.FromSeconds(1));
        Assert.Equal(2, bench.Couriers.Attempts.Count);
        Assert.Equal(1, rest[0].GetRecipient(0).Attempts);
        Assert.All(rest.Skip(1), static m => Assert.Equal(0, m.GetRecipient(0).Attempts));
        Assert.InRange(bench.Room.Sites().Single().BackOffUntil!.Value - bench.Time.GetUtcNow(), TimeSpan.FromSeconds(3.2), TimeSpan.FromSeconds(4.8));

        Volatile.Write(ref down, false);
        TaskCompletionSource gate = new();
        bench.Couriers.Before = (_, _, _) => new ValueTask(gate.Task);
        bench.Time.Advance(TimeSpan.FromSeconds(5));
        await Waiting.UntilAsync(() => bench.Couriers.Attempts.Count == 3);
        await bench.Room.WorkedOffAsync();
        Assert.Equal((1, 1), (bench.Couriers.Open, bench.Room.Activity.Transactions));
        gate.SetResult();
        await Waiting.UntilAsync(() => rest.Skip(1).All(static m => m.OpenRecipients == 0));
        Assert.Null(bench.Room.Sites().Single().LastError);
        Assert.InRange(bench.Couriers.MostOpen, 2, 20);
    }

    [Fact]
    public async Task An_operators_retry_lifts_the_back_off_with_one_probe()
    {
        await using DeliveryBench bench = new();
        bool down = true;
        bench.Couriers.Outcome = (_, _, _) => Volatile.Read(ref down) ? ScriptedCouriers.SiteDown : ScriptedCouriers.Delivered;
        QueuedMessage first = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => first.GetRecipient(0).Attempts == 1);
        QueuedMessage second = bench.Send("s@from.example", "r2@to.example");
        await bench.CalmAsync();
        Volatile.Write(ref down, false);
        Assert.Equal(1, await bench.SteerAsync(first.Id, SteeringKind.Retry));
        await Waiting.UntilAsync(() => first.OpenRecipients == 0 && second.OpenRecipients == 0);
        Assert.Equal(2, first.GetRecipient(0).Attempts);
    }

    [Fact]
    public async Task One_slow_site_does_not_hold_others()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Shards = 1 };
        TaskCompletionSource never = new();
        bench.Couriers.Before = (site, _, stop) => site.Key == "mx:slow.example" ? new ValueTask(never.Task.WaitAsync(stop)) : default;
        for (int i = 0; i < 500; i++)
        {
            bench.Send("s@from.example", $"r{i}@slow.example");
        }

        QueuedMessage other = bench.Send("s@from.example", "r@quick.example");
        await Waiting.UntilAsync(() => other.OpenRecipients == 0);
        Assert.Equal(500, bench.Queue.Count);
    }

    [Fact]
    public async Task Unknown_destinations_hold_up_no_known_ones()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource dns = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Resolver.Slow = d => d.StartsWith("new", StringComparison.Ordinal) ? dns.Task : Task.CompletedTask;
        List<QueuedMessage> slow = [];
        for (int i = 0; i < Router.MaxLookups + 200; i++)
        {
            slow.Add(bench.Send("s@from.example", $"r@new{i}.example"));
        }

        QueuedMessage known = bench.Send("s@from.example", "a@known.example", "b@newer.example");
        await Waiting.UntilAsync(() => known.GetRecipient(0).Status == RecipientStatus.Delivered);
        Assert.Equal(Router.MaxLookups, bench.Resolver.Lookups);
        Assert.Equal(RecipientStatus.Pending, known.GetRecipient(1).Status);
        dns.SetResult();
        await Waiting.UntilAsync(() => bench.Queue.Count == 0);
    }

    [Fact]
    public async Task A_few_messages_open_few_connections_and_idle_ones_are_closed_in_time()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = (_, _, _) => new ValueTask(gate.Task);
        for (int i = 0; i < 3; i++)
        {
            bench.Send("s@from.example", $"r{i}@to.example");
        }

        await bench.Room.WorkedOffAsync();
        await Waiting.UntilAsync(() => bench.Couriers.Attempts.Count == 1);
        Assert.Equal(1, bench.Couriers.Open);
        gate.SetResult();
        await Waiting.UntilAsync(() => bench.Queue.Count == 0);
        await bench.CalmAsync();
        Assert.Equal((1, 0), (bench.Couriers.Open, bench.Couriers.Quits));
        await bench.AdvanceAsync(bench.Options.IdleTimeout - TimeSpan.FromMilliseconds(1));
        Assert.Equal(1, bench.Couriers.Open);
        await bench.AdvanceAsync(TimeSpan.FromMilliseconds(1));
        await Waiting.UntilAsync(() => bench.Couriers is { Open: 0, Quits: 1 } && bench.Room.Activity.Connections == 0);
        await bench.CalmAsync();
        Assert.Empty(bench.Room.Sites());
    }

    [Fact]
    public async Task Slow_connections_get_company_when_mail_waits()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = (_, _, stop) => new ValueTask(gate.Task.WaitAsync(stop));
        bench.Send("s@from.example", "r1@to.example");
        bench.Send("s@from.example", "r2@to.example");
        await bench.Room.WorkedOffAsync();
        await Waiting.UntilAsync(() => bench.Couriers.Attempts.Count == 1);
        await bench.Room.WorkedOffAsync();
        bench.Time.Advance(TimeSpan.FromMilliseconds(250));
        await Waiting.UntilAsync(() => bench.Couriers.Attempts.Count == 2);
        gate.SetResult();
        await Waiting.UntilAsync(() => bench.Queue.Count == 0);
    }

    [Fact]
    public async Task A_site_that_takes_few_connections_is_not_taken_for_dead()
    {
        const int limit = 3;
        await using DeliveryBench bench = new();
        bench.Couriers.Before = static async (_, _, _) => await Task.Yield();
        bench.Couriers.Connect = site => bench.Couriers.OpenOf(site.Key) > limit
            ? ScriptedCouriers.SiteDown with { Stage = DeliveryStage.Greeting, Code = 421, Text = "too many connections" }
            : null;
        for (int i = 0; i < 2000; i++)
        {
            bench.Send("s@from.example", $"r{i}@to.example");
        }

        await Waiting.UntilAsync(() => bench.Queue.Count == 0 || bench.Events.Events.Any(static e => e.Kind == MailEventKind.Deferred));
        Assert.All(bench.Events.Events, static e => Assert.Equal((MailEventKind.Delivered, 1), (e.Kind, e.Attempt)));
    }

    [Fact]
    public async Task Permits_are_never_exceeded_and_nobody_starves()
    {
        await Gen.Select(Gen.Int[1, 6], Gen.Int[1, 4], Gen.Int[1, 3], Gen.Int[1, 12], Gen.Int[0, 11].Array[1, 150], Gen.Int[0, 99]).SampleAsync(
            async (all, perSite, shards, sites, domains, seed) =>
            {
                await using DeliveryBench bench = new();
                bench.Options = bench.Options with { Connections = all, ConnectionsPerSite = perSite, Shards = shards };
                Random random = new(seed);
                bench.Couriers.Before = async (_, _, _) =>
                {
                    int turns;
                    lock (random)
                    {
                        turns = random.Next(4);
                    }

                    for (int i = 0; i < turns; i++)
                    {
                        await Task.Yield();
                    }
                };
                foreach (int domain in domains)
                {
                    bench.Send("s@from.example", $"r@d{domain % sites}.example");
                }

                await Waiting.UntilAsync(() => bench.Queue.Count == 0);
                Assert.InRange(bench.Couriers.MostOpen, 1, all);
                foreach (int domain in domains)
                {
                    Assert.InRange(bench.Couriers.MostOpenOf($"mx:d{domain % sites}.example"), 1, perSite);
                }
            },
            iter: 60);
    }

    [Fact]
    public async Task A_site_with_a_long_queue_shares_scarce_permits()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Connections = 1, Shards = 2 };
        for (int i = 0; i < 3000; i++)
        {
            bench.Send("s@from.example", $"r{i}@long.example");
        }

        QueuedMessage one = bench.Send("s@from.example", "r@short.example");
        await Waiting.UntilAsync(() => one.OpenRecipients == 0);
        Assert.Equal(1, bench.Couriers.MostOpen);
        await Waiting.UntilAsync(() => bench.Queue.Count == 0);
    }

    [Fact]
    public async Task Idle_connections_make_room_for_other_sites()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Connections = 2 };
        for (int i = 0; i < 20; i++)
        {
            QueuedMessage message = bench.Send("s@from.example", $"r@d{i}.example");
            await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        }

        Assert.InRange(bench.Couriers.MostOpen, 1, 2);
    }
}
