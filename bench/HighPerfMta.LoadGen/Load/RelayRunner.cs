using System.Diagnostics;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// What came through an MTA. <paramref name="Lost"/>: accepted by the MTA and not at the sink when the wait was over.
/// <paramref name="Unconfirmed"/>: at the sink though the source saw no 250, which SMTP allows.
/// <paramref name="MissingRecipients"/>: of accepted messages, not at the sink in any copy; 0 where the sink refuses some itself.
/// Rates run from the first message's intended time to the last acceptance and the last arrival.
/// </summary>
internal sealed record RelayReport(
    SourceReport Source,
    SinkReport Sink,
    long Delivered,
    long Lost,
    long Duplicates,
    long Unconfirmed,
    long MissingRecipients,
    double Seconds,
    double AcceptedPerSecond,
    double DeliveredPerSecond,
    double RecipientsPerSecond,
    LatencyFigures? EndToEndMs);

/// <summary>A source and a sink around an MTA whose next hop is the sink.</summary>
internal sealed class RelayRunner
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(5);

    public RelayRunner(SourceOptions source, SinkServer sink)
    {
        Source = new SourceRunner(source);
        Sink = sink;
    }

    public SourceRunner Source { get; }

    public SinkServer Sink { get; }

    /// <param name="settle">How long nothing may arrive at the sink before what is missing counts as lost.</param>
    /// <param name="cancellation">Ends the sending; what was accepted is still waited for.</param>
    public async Task<RelayReport> RunAsync(TimeSpan settle, CancellationToken cancellation)
    {
        var started = Stopwatch.GetTimestamp();
        Sink.KeepLatencyFrom(started + (long)(Source.Options.WarmUp.TotalSeconds * Stopwatch.Frequency));
        var source = await Source.RunAsync(started, cancellation);
        var received = Sink.Received(Source.Options.Run);
        await WaitForArrivalsAsync(received, settle);
        var finished = Stopwatch.GetElapsedTime(started).TotalSeconds;
        var sink = Sink.Report();
        var lost = Source.AcceptedSet.CountMissingFrom(received);
        return new RelayReport(
            source,
            sink,
            received.Count,
            lost,
            sink.Duplicates,
            received.CountMissingFrom(Source.AcceptedSet),
            MissingRecipients(),
            Math.Round(finished, 3),
            source.AcceptedPerSecond,
            Math.Round(received.Count / finished, 1),
            Math.Round(sink.Recipients / finished, 1),
            sink.LatencyMs);
    }

    private async Task WaitForArrivalsAsync(SequenceSet received, TimeSpan settle)
    {
        var last = (received.Count, Sink.Recipients);
        var lastChange = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(lastChange) < settle)
        {
            var now = (received.Count, Sink.Recipients);
            if (now.Count >= Source.Accepted && MissingRecipients() == 0 && Source.AcceptedSet.CountMissingFrom(received) == 0)
            {
                return;
            }

            if (now != last)
            {
                last = now;
                lastChange = Stopwatch.GetTimestamp();
            }

            await Task.Delay(Poll);
        }
    }

    /// <summary>A server may send a message with many recipients in several transactions: then one copy has some of them.</summary>
    private long MissingRecipients() =>
        Sink.Options.Rejections.Count > 0 || Sink.Options.Deferral is not null ? 0 : Math.Max(0, (Source.Accepted * Source.Options.Recipients) - Sink.Recipients);
}
