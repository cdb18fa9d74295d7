using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>The delivery room as others see it.</summary>
public interface IDelivery : IAsyncDisposable
{
    /// <summary>Takes over a durable message; never blocks. Bounded by the queue itself: a message waiting here costs its job only.</summary>
    void Enqueue(QueuedMessage message);

    /// <summary>Makes pending recipients due now (a <c>queue retry</c>), or re-reads their state after a hold, release or drop.</summary>
    void Reconsider(QueuedMessage message);

    /// <summary>Starts no new transaction, lets those in flight finish within the drain time-out, then closes all connections.</summary>
    Task DrainAsync(CancellationToken cancellation);

    /// <summary>Transactions under way and connections open, for metrics and commands.</summary>
    (int Transactions, int Connections) Activity { get; }
}
