using System.Diagnostics.Metrics;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Intake;

public sealed class PressureGaugeTests : IDisposable
{
    private const long MiB = 1 << 20;

    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    private readonly FakeTimeProvider _time = new();
    private readonly RecordingLoggers _loggers = new();
    private readonly InstantMailQueue _queue = new() { Statistics = QueueStatistics.None };
    private readonly PressureGauge _gauge;
    private long _memory = 100 * MiB;

    public PressureGaugeTests() =>
        _gauge = new PressureGauge(_queue, new PressureOptions { Memory = 1000 * MiB, DiskLowWater = 100 * MiB }, _time, _loggers, () => _memory);

    public void Dispose()
    {
        _gauge.Dispose();
        _loggers.Dispose();
    }

    [Fact]
    public async Task Memory_slows_from_four_fifths_and_refuses_at_the_limit()
    {
        Look();
        Assert.Equal((0, null), (_gauge.Pressure, _gauge.Refusal));
        await _gauge.SlowAsync();
        _memory = 900 * MiB;
        Look();
        Assert.Equal(0.5, _gauge.Pressure, 3);
        Assert.Null(_gauge.Refusal);
        _memory = 1000 * MiB;
        Look();
        Assert.Equal("452 4.3.1", $"{_gauge.Refusal!.Code} {_gauge.Refusal.Enhanced}");
    }

    [Fact]
    public async Task The_wait_grows_with_the_pressure()
    {
        foreach ((long memory, double seconds) in new[] { (850 * MiB, 0.5), (950 * MiB, 1.5) })
        {
            _memory = memory;
            Look();
            Task waiting = _gauge.SlowAsync().AsTask();
            _time.Advance(TimeSpan.FromSeconds(seconds - 0.01));
            Assert.False(waiting.IsCompleted);
            _time.Advance(TimeSpan.FromSeconds(0.02));
            await waiting.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public void Free_disk_slows_below_twice_the_mark_and_refuses_at_it()
    {
        _queue.Statistics = QueueStatistics.None with { FreeBytes = 150 * MiB };
        Look();
        Assert.Equal(0.5, _gauge.Pressure, 3);
        _queue.Statistics = QueueStatistics.None with { FreeBytes = 100 * MiB };
        Look();
        Assert.NotNull(_gauge.Refusal);
    }

    [Fact]
    public void Mail_flows_again_when_nothing_is_committed_any_more()
    {
        _queue.Statistics = QueueStatistics.None with { CommitTime = TimeSpan.FromSeconds(3) };
        Look();
        Assert.InRange(_gauge.Pressure, 0.5, 0.6);
        _queue.Statistics = QueueStatistics.None with { CommitTime = TimeSpan.FromSeconds(8) };
        Look();
        Assert.NotNull(_gauge.Refusal);

        // Mail is refused, so that the figure stays what it was.
        for (int i = 0; i < 30; i++)
        {
            Look();
        }

        Assert.Equal((0, null), (_gauge.Pressure, _gauge.Refusal));
    }

    [Fact]
    public void What_hovers_at_a_mark_is_told_once()
    {
        for (int i = 0; i < 20; i++)
        {
            _memory = (i % 2 == 0 ? 810 : 790) * MiB;
            Look();
        }

        Assert.Contains("slowed because of memory", Assert.Single(_loggers.Warnings), StringComparison.Ordinal);
        _memory = 1100 * MiB;
        Look();
        Look();
        Assert.Equal(2, _loggers.Warnings.Count);
        Assert.Contains("refused because of memory: 1100 of 1000 MiB", _loggers.Warnings.Last(), StringComparison.Ordinal);

        // Better for less than five looks in a row is not better.
        for (int i = 0; i < 20; i++)
        {
            _memory = (i % 4 == 3 ? 1100 : 100) * MiB;
            Look();
            Assert.NotNull(_gauge.Refusal);
        }

        Assert.Equal(2, _loggers.Warnings.Count);
        _memory = 100 * MiB;
        for (int i = 0; i < 5; i++)
        {
            Look();
        }

        Assert.Null(_gauge.Refusal);
    }

    [Fact]
    public void Without_mail_it_looks_every_ten_seconds_and_the_first_mail_ends_the_rest()
    {
        for (int i = 0; i < 5; i++)
        {
            Look();
        }

        _memory = 900 * MiB;
        Look();
        Assert.Equal(0, _gauge.Pressure);
        _time.Advance(9 * Second);
        Assert.Equal(0.5, _gauge.Pressure, 3);

        _memory = 100 * MiB;
        for (int i = 0; i < 10; i++)
        {
            Look();
        }

        _memory = 1000 * MiB;
        Look();
        Assert.Equal(0, _gauge.Pressure);
        Assert.Null(_gauge.Refusal);
        Look();
        Assert.NotNull(_gauge.Refusal);
    }

    [Fact]
    public void Each_cause_is_a_metric()
    {
        Dictionary<string, double> seen = [];
        using MeterListener listener = new();
        listener.InstrumentPublished = static (instrument, l) =>
        {
            if (instrument.Name == "hpmta_pressure_ratio")
            {
                l.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<double>((_, value, tags, _) =>
        {
            lock (seen)
            {
                string cause = (string)tags[0].Value!;
                seen[cause] = Math.Max(seen.GetValueOrDefault(cause), value);
            }
        });
        listener.Start();
        _memory = 900 * MiB;
        _queue.Statistics = QueueStatistics.None with { FreeBytes = 125 * MiB, CommitTime = TimeSpan.FromSeconds(5) };
        Look();
        listener.RecordObservableInstruments();

        // Gauges of other tests are heard too.
        Assert.InRange(seen["memory"], 0.49, double.MaxValue);
        Assert.InRange(seen["disk"], 0.74, double.MaxValue);
        Assert.InRange(seen["commit"], 0.99, double.MaxValue);
    }

    private void Look() => _time.Advance(Second);
}
