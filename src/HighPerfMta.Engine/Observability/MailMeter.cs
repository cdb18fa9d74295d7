using System.Diagnostics.Metrics;

namespace HighPerfMta.Engine.Observability;

/// <summary>Counts what becomes of mail, and how long delivery takes, on the way of its events to the event log.</summary>
public sealed class MailMeter : IEventLog, IDisposable
{
    private static readonly string[] Names = [.. Enum.GetNames<MailEventKind>().Select(static n => n.ToLowerInvariant())];

    private readonly Meter _meter;
    private readonly Histogram<double> _queued;
    private readonly long[] _counts = new long[Names.Length];
    private readonly IEventLog _next;

    /// <param name="next">Gets every event.</param>
    /// <param name="meters">Makes the meter; null: one that no factory knows.</param>
    public MailMeter(IEventLog next, IMeterFactory? meters = null)
    {
        _meter = meters?.Create("HighPerfMta.Mail") ?? new Meter("HighPerfMta.Mail");
        _next = next;
        _queued = _meter.CreateHistogram<double>("hpmta_delivery_queued_seconds", "s", "Time from the 250 to the delivery of a recipient");
        _meter.CreateObservableCounter("hpmta_mail_events_total", Observe, description: "Changes of recipients, by the event log's name");
    }

    public void Write(in MailEvent mailEvent)
    {
        Interlocked.Increment(ref _counts[(int)mailEvent.Kind]);
        if (mailEvent is { Kind: MailEventKind.Delivered, QueuedSeconds: { } seconds })
        {
            _queued.Record(seconds);
        }

        _next.Write(mailEvent);
    }

    public void Dispose() => _meter.Dispose();

    private IEnumerable<Measurement<long>> Observe()
    {
        for (int i = 0; i < Names.Length; i++)
        {
            yield return new Measurement<long>(Interlocked.Read(ref _counts[i]), new KeyValuePair<string, object?>("event", Names[i]));
        }
    }
}
