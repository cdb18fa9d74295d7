using System.Diagnostics;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue.Async;

/// <summary>When a thread keeps to its processor: by how much of its time it works, not by what anybody measures here.</summary>
public class PlaceKeeperTests
{
    private static readonly long Step = (long)(PlaceKeeper.Watch.TotalSeconds * Stopwatch.Frequency / 10);

    private readonly List<(int Place, bool Keep)> _decisions = [];
    private int _said;
    private readonly PlaceKeeper _keeper;
    private long _now = Stopwatch.GetTimestamp() + (Stopwatch.Frequency * 60L);

    public PlaceKeeperTests()
    {
        _keeper = new PlaceKeeper(1, (place, keep, changed) =>
        {
            _said++;
            if (changed)
            {
                _decisions.Add((place, keep));
            }
        });

        // The time since it was made is one long rest.
        _keeper.Wakes(_now);
        _keeper.Sleeps(_now);
    }

    [Fact]
    public void It_begins_free_and_a_thread_at_rest_stays_so()
    {
        Live(0, 100);
        Assert.Empty(_decisions);
        Assert.False(_keeper.Keeps);
    }

    [Fact]
    public void A_busy_thread_keeps_to_its_processor_until_it_is_at_rest()
    {
        Live(PlaceKeeper.Busy + 0.1, 20);
        Assert.Equal((1, true), Assert.Single(_decisions));
        Assert.True(_keeper.Keeps);
        Live(PlaceKeeper.Quiet - 0.05, 30);
        Assert.Equal((1, false), _decisions[^1]);
        Assert.Equal(2, _decisions.Count);
    }

    /// <summary>Those that follow it take what it said for old after a while.</summary>
    [Fact]
    public void It_is_said_again_after_each_watch()
    {
        int before = _said;
        Live(PlaceKeeper.Busy + 0.1, 51);
        Assert.Equal(5, _said - before);
        Assert.Single(_decisions);
    }

    [Fact]
    public void Between_the_two_shares_it_stays_as_it_is()
    {
        double between = (PlaceKeeper.Busy + PlaceKeeper.Quiet) / 2;
        Live(between, 50);
        Assert.Empty(_decisions);
        Live(PlaceKeeper.Busy + 0.1, 20);
        Live(between, 50);
        Assert.Equal((1, true), Assert.Single(_decisions));
    }

    [Fact]
    public void Nothing_is_decided_before_it_was_watched_long_enough()
    {
        Live(1, 9);
        Assert.Empty(_decisions);
        Live(1, 2);
        Assert.Single(_decisions);
    }

    [Fact]
    public void A_long_rest_counts_as_one()
    {
        Live(1, 20);
        _now += 1000 * Step;
        _keeper.Wakes(_now);
        _now += Step;
        _keeper.Sleeps(_now);
        Assert.Equal((1, false), _decisions[^1]);
    }

    /// <summary>Works that share of each step, and sleeps for the rest of it.</summary>
    private void Live(double share, int steps)
    {
        for (int i = 0; i < steps; i++)
        {
            _keeper.Wakes(_now);
            _keeper.Sleeps(_now + (long)(share * Step));
            _now += Step;
        }
    }
}
