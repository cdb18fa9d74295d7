using HighPerfMta.TestKit.Simulation;
using Xunit.Sdk;

namespace HighPerfMta.Tests.Simulation;

/// <summary>The queue and the scheduler as they are, on virtual time, over a disk and a network that fail: a fixed share of the seeds, the same at every run.</summary>
public class SimulationTests
{
    private const int SeedsOfOneCase = 25;

    public static TheoryData<int> Cases => [.. Enumerable.Range(0, 12)];

    [Theory]
    [MemberData(nameof(Cases))]
    public void No_crash_fault_or_mood_of_the_network_breaks_the_contract(int part)
    {
        for (int seed = (part * SeedsOfOneCase) + 1; seed <= (part + 1) * SeedsOfOneCase; seed++)
        {
            SimulationResult result = TestKit.Simulation.Simulation.Run(seed);
            if (result.Violations.Count > 0)
            {
                throw new XunitException($"seed {seed}: {string.Join("\n", result.Violations)}\n\n{string.Join("\n", result.Trace.TakeLast(60))}");
            }
        }
    }

    [Fact]
    public void A_seed_replays_exactly()
    {
        for (int seed = 1; seed <= 8; seed++)
        {
            SimulationResult first = TestKit.Simulation.Simulation.Run(seed);
            SimulationResult second = TestKit.Simulation.Simulation.Run(seed);
            Assert.Equal(first.Trace, second.Trace);
            Assert.Equal(first.Fingerprint, second.Fingerprint);
            Assert.Equal(first.Counts, second.Counts);
        }
    }

    /// <summary>The checks would be worth nothing in a world in which nothing happens.</summary>
    [Fact]
    public void Much_happens_in_it()
    {
        SimulationCounts counts = default;
        for (int seed = 1; seed <= 40; seed++)
        {
            counts += TestKit.Simulation.Simulation.Run(seed).Counts;
        }

        Assert.InRange(counts.Lives, 100, int.MaxValue);
        Assert.InRange(counts.Acknowledged, 500, int.MaxValue);
        Assert.InRange(counts.Deliveries, 500, int.MaxValue);
        Assert.InRange(counts.Reports, 50, int.MaxValue);
        Assert.InRange(counts.Duplicates, 10, int.MaxValue);
        Assert.InRange(counts.CameBack, 1, int.MaxValue);
        Assert.InRange(counts.Checkpoints, 20, int.MaxValue);
        Assert.InRange(counts.Moved, 10, int.MaxValue);
    }

    /// <summary>One scenario, ended before each of its operations on the disk: by a power failure and by a kill.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Every_moment_is_a_good_one_to_die(bool power)
    {
        int operations = 0;
        for (bool more = true; more; operations++)
        {
            SimulationResult result = TestKit.Simulation.Simulation.RunToDeath(11, operations, power, out more);
            if (result.Violations.Count > 0)
            {
                throw new XunitException($"before operation {operations}: {string.Join("\n", result.Violations)}\n\n{string.Join("\n", result.Trace.TakeLast(60))}");
            }
        }

        Assert.InRange(operations, 100, int.MaxValue);
    }
}
