using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What the parts of the delivery room share.</summary>
internal sealed class DeliveryServices(
    IMailQueue queue, ISiteResolver resolver, ICourierFactory couriers, IReports reports, OutcomeRecorder recorder, DeliveryOptions options, RetryPolicy retry, TimeProvider time, ILogger logger)
    : IDisposable
{
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

    public ILogger Logger { get; } = logger;

    public ConnectionPermits Permits { get; } = new(options.Connections);

    /// <summary>Draining: no new transaction.</summary>
    public bool Stopping => _stopping;

    /// <summary>Cancelled when the drain time is over.</summary>
    public CancellationToken Cancellation => _cancellation.Token;

    public int Transactions => Volatile.Read(ref _transactions);

    public void TransactionBegan() => Interlocked.Increment(ref _transactions);

    public void TransactionEnded() => Interlocked.Decrement(ref _transactions);

    public void Stop() => _stopping = true;

    public Task CancelAsync() => _cancellation.CancelAsync();

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

    [LoggerMessage(6, LogLevel.Error, "Finding the site of a recipient of {Id} threw.")]
    public static partial void RoutingThrew(this ILogger logger, Exception error, MessageId id);

    [LoggerMessage(7, LogLevel.Warning, "Site {Site} failed; it rests for {Seconds} s: {Reason}")]
    public static partial void SiteRests(this ILogger logger, string site, long seconds, string reason);

    [LoggerMessage(8, LogLevel.Warning, "Message {Id} is set aside: {Reason}")]
    public static partial void SetAside(this ILogger logger, MessageId id, string reason);

    [LoggerMessage(9, LogLevel.Warning, "Delivery did not come to rest within the drain time; {Transactions} transactions were cut off.")]
    public static partial void DrainCutOff(this ILogger logger, int transactions);

    [LoggerMessage(10, LogLevel.Warning, "Delivery did not end within {Seconds} s of being cut off; {Connections} connections are still held.")]
    public static partial void DrainUnfinished(this ILogger logger, double seconds, int connections);
}
