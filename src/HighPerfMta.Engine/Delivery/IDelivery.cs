using HighPerfMta.Protocol.Addresses;
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

    /// <summary>A moment's view of the sites that have mail, connections or a recent failure, in no order.</summary>
    IReadOnlyList<SiteStatus> Sites();

    /// <summary>The key of the site that the recipient's mail goes to, as far as it is known without waiting for DNS; null when it is not.</summary>
    string? SiteOf(EmailAddress recipient);
}

/// <summary>What delivery knows of one site.</summary>
/// <param name="Key">As <see cref="Site.Key"/>.</param>
/// <param name="Waiting">Jobs due and waiting for a connection; messages, not recipients.</param>
/// <param name="Deferred">Jobs waiting for their next attempt whose last one went to this site.</param>
/// <param name="InFlight">Jobs being sent, or whose report is being written.</param>
/// <param name="Connections">Connections open or being opened or closed.</param>
/// <param name="BackOffUntil">Nothing is tried before then; null when the site is not in back-off.</param>
/// <param name="LastError">What the site's last failure was; null after a success.</param>
public sealed record SiteStatus(
    string Key, int Waiting, int Deferred, int InFlight, int Connections, DateTimeOffset? BackOffUntil, Protocol.Smtp.DeliveryOutcome? LastError);
