using CsCheck;
using HighPerfMta.Engine.Auth;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Auth;

public class RateTableTests
{
    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    /// <summary>
    /// The same rule said otherwise, in whole numbers: each that is taken moves the moment at which all is forgotten on by a part of the window; there is room while that moment is less than a window
    /// ahead of the next one.
    /// </summary>
    [Fact]
    public void Takes_what_a_moving_moment_allows() =>
        Gen.Select(Gen.Int[1, 7], Gen.Select(Gen.Int[0, 2], Gen.Int[0, 40_000], Gen.Int[0, 5]).Array[1, 60]).Sample(static (limit, steps) =>
        {
            FakeTimeProvider time = new();
            RateTable<int> table = new(limit, Minute, 10, time);
            Dictionary<int, long> forgotten = [];
            long now = 0;

            // Times in units of a 7!th of a millisecond: every limit divides them, so that the model has no fractions.
            const long unit = 5040;
            long part = 60_000 * unit / limit;
            foreach ((int key, int wait, int back) in steps)
            {
                // Odd, so that no step meets the moment at which one more has just leaked, where the two may round differently.
                int milliseconds = (wait * 2) + 1;
                time.Advance(TimeSpan.FromMilliseconds(milliseconds));
                now += milliseconds * unit;
                long at = Math.Max(forgotten.GetValueOrDefault(key), now);
                long ahead = at + part - now - (60_000 * unit);
                bool took = table.TryTake(key);
                if (ahead != 0)
                {
                    Assert.Equal(ahead <= 0, took);
                }

                forgotten[key] = took ? at + part : at;
                if (back == 0)
                {
                    table.Return(key, 1);
                    forgotten[key] = Math.Max(now, forgotten[key] - part);
                }
            }
        });

    [Fact]
    public void Without_a_limit_nothing_is_counted()
    {
        RateTable<int> table = new(0, Minute, 10, new FakeTimeProvider());
        Assert.All(Enumerable.Range(0, 100), _ => Assert.True(table.TryTake(1)));
        Assert.Equal(0, table.Count);
    }

    [Fact]
    public void The_one_that_came_least_lately_makes_room()
    {
        RateTable<int> table = new(1, Minute, 3, new FakeTimeProvider());
        Assert.All((int[])[1, 2, 3], key => Assert.True(table.TryTake(key)));
        Assert.False(table.TryTake(1));
        Assert.True(table.TryTake(4));
        Assert.Equal(3, table.Count);
        Assert.False(table.TryTake(1));
        Assert.True(table.TryTake(2));
    }
}
