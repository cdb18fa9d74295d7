using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>A site that comes back finds its backlog at the door: it must not be hit by all of it.</summary>
public class RecoveryTests
{
    private const int Backlog = 10_000;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_site_that_comes_back_sees_one_connection_and_twice_as_many_after_each_round(bool allComeDueTogether)
    {
        await using DeliveryBench bench = new();
        bool down = true;
        bench.Couriers.Outcome = (_, _, _) => Volatile.Read(ref down) ? ScriptedCouriers.SiteDown : ScriptedCouriers.Delivered;
        QueuedMessage first = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => first.GetRecipient(0).Attempts == 1);
        DateTimeOffset due = bench.Time.GetUtcNow() + (allComeDueTogether ? TimeSpan.FromMinutes(10) : default);
        for (int i = 0; i < Backlog; i++)
        {
            bench.Room.Restore(bench.Queue.AddBare($"s@from{i % 50}.example", "to.example", due, attempts: allComeDueTogether ? 1 : 0));
        }

        await bench.CalmAsync();
        Assert.Equal(allComeDueTogether ? 0 : Backlog, bench.Room.Sites().Single().Waiting);

        RoundGate gate = new();
        bench.Couriers.Before = (_, _, stop) => gate.WaitAsync(stop);
        Volatile.Write(ref down, false);
        bench.Time.Advance(allComeDueTogether ? TimeSpan.FromMinutes(11) : TimeSpan.FromSeconds(5));
        List<int> connections = [];
        for (int round = 0; round < 100 && (connections.Count == 0 || connections[^1] < bench.Options.ConnectionsPerSite); round++)
        {
            int open = await ConnectionsAtRestAsync(bench, gate);
            if (connections.Count == 0 || connections[^1] != open)
            {
                connections.Add(open);
            }

            gate.LetThrough();
        }

        Assert.Equal([1, 2, 4, 8, 16, 20], connections);
        gate.LetThrough(forGood: true);
        await Waiting.UntilAsync(() => bench.Queue.Jobs.Count <= 1);
        Assert.Equal(20, bench.Couriers.MostOpenOf("mx:to.example"));
    }

    /// <summary>All connections there are have a transaction at the gate, and the shard has nothing left to do.</summary>
    private static async Task<int> ConnectionsAtRestAsync(DeliveryBench bench, RoundGate gate)
    {
        int open = 0;
        await Waiting.UntilAsync(() => gate.Waiting > 0);
        for (int calm = 0; calm < 3;)
        {
            await bench.Room.WorkedOffAsync();
            open = bench.Couriers.OpenOf("mx:to.example");
            calm = gate.Waiting == open ? calm + 1 : 0;
            await Task.Yield();
        }

        return open;
    }
}
