using System.Diagnostics;
using System.Diagnostics.Metrics;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Server.Hosting;

/// <summary>What is read off the rooms and the process when somebody asks.</summary>
internal sealed class ServerMetrics : IAsyncDisposable
{
    /// <summary>Seconds: from what a fast disk needs to one that mail is refused for.</summary>
    private static readonly double[] FlushBounds =
        [0.00005, 0.0001, 0.00015, 0.0002, 0.0003, 0.0004, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

    private readonly Meter _meter;

    public ServerMetrics(IMailQueue queue, IDelivery delivery, QueueCensus census, EventLogWriter events, IMeterFactory? meters)
    {
        _meter = meters?.Create("HighPerfMta.Server") ?? new Meter("HighPerfMta.Server");
        _meter.CreateObservableGauge("hpmta_queue_messages", () => queue.Count, description: "Messages queued");
        _meter.CreateObservableGauge("hpmta_queue_jobs", () => JobsByState(census), description: "Jobs (a message for a site) by state");
        _meter.CreateObservableGauge("hpmta_queue_index_bytes", () => queue.Jobs.ResidentBytes, "By", "Memory of the table of jobs");
        _meter.CreateObservableGauge("hpmta_queue_loading", () => queue.Loading ? 1 : 0, description: "1 while jobs from before the start are still being read");
        _meter.CreateObservableGauge("hpmta_queue_may_attempt", () => queue.MayAttempt ? 1 : 0, description: "0 when nothing new is tried because outcomes could not be written down");
        _meter.CreateObservableGauge("hpmta_queue_healthy", () => queue.Condition == LogCondition.Healthy ? 1 : 0, description: "1 when the queue takes new mail");
        _meter.CreateObservableGauge("hpmta_queue_damaged_ranges", () => queue.Damage.Count, description: "Stretches of the log that could not be read at start");
        _meter.CreateObservableGauge("hpmta_queue_reads_waiting", () => queue.ReadsWaiting, description: "Reads of queued mail that wait for their turn at the disk");
        AddStorage(queue);
        _meter.CreateObservableGauge("hpmta_delivery_transactions", () => delivery.Activity.Transactions, description: "Outbound transactions under way");
        _meter.CreateObservableGauge("hpmta_delivery_connections", () => delivery.Activity.Connections, description: "Outbound connections open");
        _meter.CreateObservableCounter("hpmta_events_lost_total", () => events.Dropped, description: "Events that could not be written to the event log");
        _meter.CreateObservableGauge("hpmta_process_memory_bytes", static () => Environment.WorkingSet, "By", "Resident memory of the process");
        _meter.CreateObservableCounter("hpmta_process_cpu_seconds_total", static () => Environment.CpuUsage.TotalTime.TotalSeconds, "s", "Processor time used");
        _meter.CreateObservableCounter("hpmta_process_allocated_bytes_total", static () => GC.GetTotalAllocatedBytes(), "By", "Managed memory allocated so far");
        _meter.CreateObservableCounter("hpmta_process_collections_total", static () => (long)GC.CollectionCount(0), description: "Garbage collections");
        long started = Stopwatch.GetTimestamp();
        _meter.CreateObservableGauge("hpmta_process_uptime_seconds", () => Stopwatch.GetElapsedTime(started).TotalSeconds, "s", "Time since the start");
    }

    private void AddStorage(IMailQueue queue)
    {
        _meter.CreateObservableGauge("hpmta_queue_log_bytes", () => queue.Statistics.LogBytes, "By", "Log from its head to its tail");
        _meter.CreateObservableGauge("hpmta_queue_live_bytes", () => queue.Statistics.LiveBytes, "By", "Of the log, what is still needed");
        _meter.CreateObservableGauge("hpmta_queue_free_bytes", () => queue.Statistics.FreeBytes, "By", "Free bytes of the queue's disk, as last looked at");
        _meter.CreateObservableGauge("hpmta_queue_commit_seconds", () => queue.Statistics.CommitTime.TotalSeconds, "s", "What a commit takes now");
        Histogram<double> flushes = _meter.CreateHistogram(
            "hpmta_queue_flush_seconds", "s", "Time of one flush of the log to stable storage", tags: null, new InstrumentAdvice<double> { HistogramBucketBoundaries = FlushBounds });
        queue.Flushed = took => flushes.Record(took.TotalSeconds);
        _meter.CreateObservableGauge("hpmta_queue_unwritten_states", () => queue.Statistics.UnwrittenStates, description: "Jobs whose outcome waits for a failing log");
        _meter.CreateObservableCounter("hpmta_queue_compacted_messages_total", () => queue.Statistics.CompactedMessages, description: "Messages moved from the log's head to its tail");
        _meter.CreateObservableCounter("hpmta_queue_compacted_bytes_total", () => queue.Statistics.CompactedBytes, "By", "Octets of the messages moved");
        _meter.CreateObservableCounter("hpmta_queue_checkpoints_total", () => queue.Statistics.Checkpoints, description: "Checkpoints written");
    }

    private static IEnumerable<Measurement<long>> JobsByState(QueueCensus census)
    {
        foreach ((string name, long count) in census.Take().ByName())
        {
            yield return new Measurement<long>(count, new KeyValuePair<string, object?>("state", name));
        }
    }

    public ValueTask DisposeAsync()
    {
        _meter.Dispose();
        return default;
    }
}
