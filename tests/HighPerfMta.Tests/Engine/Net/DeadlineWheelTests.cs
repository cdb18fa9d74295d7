using HighPerfMta.Engine.Net;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Net;

public class DeadlineWheelTests
{
    private readonly FakeTimeProvider _time = new();

    [Theory]
    [InlineData(1)]
    [InlineData(300)]
    [InlineData(1024)]
    [InlineData(3600)]
    public void Fires_once_at_its_time_and_never_before(int seconds)
    {
        using DeadlineWheel wheel = new(_time);
        Probe probe = new();
        _time.Advance(TimeSpan.FromMilliseconds(500));
        wheel.Set(probe, TimeSpan.FromSeconds(seconds));
        for (int i = 0; i < seconds; i++)
        {
            Assert.Equal(0, probe.Fired);
            _time.Advance(TimeSpan.FromSeconds(1));
        }

        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(1, probe.Fired);
        _time.Advance(TimeSpan.FromHours(2));
        Assert.Equal(1, probe.Fired);
    }

    [Fact]
    public void Setting_again_moves_it_and_clearing_ends_it()
    {
        using DeadlineWheel wheel = new(_time);
        Probe moved = new();
        Probe cleared = new();
        wheel.Set(moved, TimeSpan.FromSeconds(5));
        wheel.Set(cleared, TimeSpan.FromSeconds(5));
        wheel.Set(moved, TimeSpan.FromSeconds(20));
        wheel.Clear(cleared);
        wheel.Clear(cleared);
        _time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(0, moved.Fired);
        _time.Advance(TimeSpan.FromSeconds(11));
        Assert.Equal(1, moved.Fired);
        Assert.Equal(0, cleared.Fired);
    }

    [Fact]
    public void A_long_stall_loses_no_deadline()
    {
        using DeadlineWheel wheel = new(_time);
        Probe[] probes = [.. Enumerable.Range(0, 3000).Select(static _ => new Probe())];
        for (int i = 0; i < probes.Length; i++)
        {
            wheel.Set(probes[i], TimeSpan.FromSeconds(i));
        }

        _time.Advance(TimeSpan.FromHours(3));
        Assert.All(probes, static p => Assert.Equal(1, p.Fired));
    }

    [Fact]
    public void A_wheel_that_stood_still_fires_within_a_tick_again()
    {
        using DeadlineWheel wheel = new(_time);
        foreach (int ahead in (int[])[0, 300, 900])
        {
            Probe probe = new();
            _time.Advance(TimeSpan.FromMilliseconds(4_000 + ahead));
            wheel.Set(probe, TimeSpan.FromMilliseconds(1_500));
            _time.Advance(TimeSpan.FromMilliseconds(1_499));
            Assert.Equal(0, probe.Fired);
            _time.Advance(TimeSpan.FromMilliseconds(1_001));
            Assert.Equal(1, probe.Fired);
        }
    }

    private sealed class Probe : Deadline
    {
        public int Fired { get; private set; }

        protected internal override void OnDeadline() => Fired++;
    }
}
