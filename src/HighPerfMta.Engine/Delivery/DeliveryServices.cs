using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What the parts of the delivery room share.</summary>
internal sealed class DeliveryServices(
    IMailQueue queue, ISiteResolver resolver, ICourierFactory couriers, IReports reports, OutcomeRecorder recorder, DeliveryOptions options, RetryPolicy retry, TimeProvider time, ILogger logger, Background background)
    : IDisposable
{
    /// <summary>A load that takes longer has gone wrong: its two records have 30 s each to get their turn at the disk, and 30 s to come from it.</summary>
    private static readonly TimeSpan LoadTimeout = TimeSpan.FromMinutes(2);

    private readonly CancellationTokenSource _cancellation = new();
    private int _transactions;
    private volatile bool _stopping;

    public IMailQueue Queue { get; } = queue;

    public ISiteResolver Resolver { get; } = resolver;

    public ICourierFactory Couriers { get; } = couriers;

    public IReports Reports { get; } = reports;

    public OutcomeRecorder Recorder { get; } = recorder;

    public DeliveryOptions Options { get; } = options;

    public RetryPolicy Retry { get; } = retry;

    public TimeProvider Time { get; } = time;

    /// <summary>Where the shards' loops run.</summary>
    public Background Background { get; } = background;

    public ILogger Logger { get; } = logger;

    public ConnectionPermits Permits { get; } = new(options.Connections);

    public SiteRegistry Registry { get; } = new();

    public PendingSteerings Pending { get; } = new();

    public JobTroubles Troubles { get; } = new();

    public Router Router { get; private set; } = null!;

    /// <summary>Draining: no new transaction.</summary>
    public bool Stopping => _stopping;

    /// <summary>Cancelled when the drain time is over.</summary>
    public CancellationToken Cancellation { get; private set; }

    public int Transactions => Volatile.Read(ref _transactions);

    public void TransactionBegan() => Interlocked.Increment(ref _transactions);

    public void TransactionEnded() => Interlocked.Decrement(ref _transactions);

    /// <summary>For a job's owner: its message, within <see cref="LoadTimeout"/>.</summary>
    public ValueTask<QueuedMessage> LoadAsync(int slot)
    {
        ValueTask<QueuedMessage> load = Queue.LoadAsync(slot, Cancellation);
        return load.IsCompletedSuccessfully ? load : LoadWithinAsync(load.AsTask());
    }

    private async ValueTask<QueuedMessage> LoadWithinAsync(Task<QueuedMessage> load)
    {
        try
        {
            return await load.WithinAsync(LoadTimeout, Time, Cancellation);
        }
        catch (TimeoutException error)
        {
            throw new RecordUnreadableException($"its records did not come within {LoadTimeout.TotalSeconds} s", error);
        }
    }

    /// <summary>Counts a read of the job's message that the disk refused; true when the job has to be set aside. While the disk as a whole fails it is not the record: that goes on until the disk is well.</summary>
    public bool ReadsFailed(int slot, MessageId id, out int times) => Troubles.Unread(slot, id, !Queue.DiskFails, out times);

    public void Stop() => _stopping = true;

    /// <summary>Once, before anything runs.</summary>
    public void Begin(Router router)
    {
        Router = router;
        Cancellation = _cancellation.Token;
    }

    public Task CancelAsync() => Background.CancelAsync(_cancellation);

    public void Dispose() => _cancellation.Dispose();
}

internal static partial class DeliveryLog
{
    [LoggerMessage(1, LogLevel.Error, "Delivery of {Id} to {Site} threw; the message will be tried again and set aside if it goes on.")]
    public static partial void DeliveryThrew(this ILogger logger, Exception error, MessageId id, string site);

    [LoggerMessage(2, LogLevel.Warning, "A courier for {Site} failed while closing.")]
    public static partial void CourierFailed(this ILogger logger, Exception error, string site);

    [LoggerMessage(3, LogLevel.Error, "A delivery shard failed at {Kind}; it goes on.")]
    public static partial void ShardFailed(this ILogger logger, Exception error, DeliveryEventKind kind);

    [LoggerMessage(4, LogLevel.Warning, "A state or report of {Id} could not be written ({Reason}); it is tried again.")]
    public static partial void SettlementDelayed(this ILogger logger, MessageId id, string reason);

    [LoggerMessage(5, LogLevel.Error, "A state or report of {Id} could not be written; it is tried again.")]
    public static partial void SettlementThrew(this ILogger logger, Exception error, MessageId id);

    [LoggerMessage(6, LogLevel.Error, "Finding the way of {Id} threw.")]
    public static partial void RoutingThrew(this ILogger logger, Exception error, MessageId id);

    [LoggerMessage(7, LogLevel.Warning, "Site {Site} failed; it rests for {Seconds} s: {Reason}")]
    public static partial void SiteRests(this ILogger logger, string site, long seconds, string reason);

    [LoggerMessage(8, LogLevel.Warning, "Message {Id} is set aside: {Reason}")]
    public static partial void SetAside(this ILogger logger, MessageId id, string reason);

    [LoggerMessage(9, LogLevel.Warning, "Delivery did not come to rest within the drain time; {Transactions} transactions were cut off.")]
    public static partial void DrainCutOff(this ILogger logger, int transactions);

    [LoggerMessage(10, LogLevel.Warning, "Delivery did not end within {Seconds} s of being cut off; {Connections} connections are still held.")]
    public static partial void DrainUnfinished(this ILogger logger, double seconds, int connections);

    [LoggerMessage(11, LogLevel.Error, "Finding the site of {Domain} threw (for {Id}).")]
    public static partial void ResolverThrew(this ILogger logger, Exception error, string domain, string id);

    [LoggerMessage(12, LogLevel.Error, "A job of {Id} failed in its shard; it is placed again.")]
    public static partial void JobFailed(this ILogger logger, Exception error, MessageId id);

    [LoggerMessage(13, LogLevel.Error, "A job of {Id} was {Place} but in no list; it is placed again.")]
    public static partial void JobStray(this ILogger logger, MessageId id, Queue.Index.JobPlace place);

    [LoggerMessage(14, LogLevel.Error, "A job of {Id} was due since {Seconds} s and not looked at; it is placed again.")]
    public static partial void JobOverdue(this ILogger logger, MessageId id, long seconds);

    [LoggerMessage(15, LogLevel.Error, "No courier could be made for {Site}; it rests for {Seconds} s.")]
    public static partial void NoCourier(this ILogger logger, Exception error, string site, long seconds);

    [LoggerMessage(16, LogLevel.Warning, "Message {Id} cannot be read: {Reason}")]
    public static partial void Unread(this ILogger logger, MessageId id, string reason);

    [LoggerMessage(18, LogLevel.Warning, "Message {Id} could not be read; it is tried again some times: {Reason}")]
    public static partial void ReadDelayed(this ILogger logger, MessageId id, string reason);

    [LoggerMessage(17, LogLevel.Warning, "Too many changes wait for jobs that are being sent: that of {Id} holds from the next start.")]
    public static partial void SteeringLate(this ILogger logger, MessageId id);
}
