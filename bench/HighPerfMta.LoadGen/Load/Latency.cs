using System.Diagnostics;
using HdrHistogram;

namespace HighPerfMta.LoadGen.Load;

/// <summary>Latencies in microseconds from 1 µs to an hour, three digits; several threads may record.</summary>
internal sealed class Latency
{
    private const long Highest = 3_600_000_000;

    private readonly LongConcurrentHistogram _histogram = new(1, Highest, 3);

    public void RecordSince(long startTimestamp) => Record(Stopwatch.GetTimestamp() - startTimestamp);

    /// <param name="ticks">Of the <see cref="Stopwatch"/>.</param>
    public void Record(long ticks)
    {
        var micros = (long)Stopwatch.GetElapsedTime(0, ticks).TotalMicroseconds;
        _histogram.RecordValue(Math.Clamp(micros, 1, Highest));
    }

    public LatencyFigures? Figures() => _histogram.TotalCount == 0 ? null : new LatencyFigures(
        _histogram.TotalCount, At(50), At(90), At(99), At(99.9), Math.Round(_histogram.GetMaxValue() / 1000d, 3));

    private double At(double percentile) => Math.Round(_histogram.GetValueAtPercentile(percentile) / 1000d, 3);
}

/// <summary>Percentiles in milliseconds.</summary>
internal sealed record LatencyFigures(long Count, double P50Ms, double P90Ms, double P99Ms, double P999Ms, double MaxMs);
