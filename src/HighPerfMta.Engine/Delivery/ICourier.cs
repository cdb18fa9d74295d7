using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// One transaction to do: a message and the indexes of some of its recipients (in <see cref="Envelope.Recipients"/>), all for one site.
/// Outcomes are written by the courier, one for each index, at the same position. Reused by its shard: no allocation a message.
/// </summary>
public sealed class DeliveryTask
{
    public QueuedMessage Message { get; set; } = null!;

    /// <summary>Recipient indexes; <see cref="RecipientCount"/> of them are valid.</summary>
    public int[] RecipientIndexes { get; set; } = [];

    public int RecipientCount { get; set; }

    public DeliveryOutcome[] Outcomes { get; set; } = [];

    /// <summary>
    /// The transaction that comes after this one over the same courier, if nothing happens in between: a courier may send its commands with the end of this one. Null when it is not known.
    /// </summary>
    public DeliveryTask? Next { get; set; }

    /// <summary>
    /// The peer knows DSN (RFC 3461), and has been told what the sender asked for: what becomes of the message is its to tell. Set by the courier.
    /// </summary>
    public bool PassesDsn { get; set; }

    /// <summary>What of this transaction has left with an earlier one. The courier's alone to write.</summary>
    internal SentAhead Ahead { get; set; }
}

/// <summary>How much of a transaction was sent with the end of an earlier one.</summary>
internal enum SentAhead : byte
{
    None,

    /// <summary>Commands without the message: it can be given up by closing the connection.</summary>
    Envelope,

    /// <summary>The message too: its reply has to be heard, for the peer may have taken it.</summary>
    Whole,
}

/// <summary>What a courier's connection is worth after a transaction.</summary>
public enum CourierState
{
    /// <summary>Ready for the next transaction on the same connection.</summary>
    Ready,

    /// <summary>The connection is gone or must not be used again; a new transaction opens a new one.</summary>
    Closed,
}

/// <summary>A host that may be tried for a site, in order of preference.</summary>
public sealed record DeliveryTarget(string HostName, System.Net.IPEndPoint Endpoint);

/// <summary>
/// An outbound session. It opens its connection when first used, falls back between the site's targets, and keeps the connection between
/// transactions. Never throws for anything a peer or the network does: that is an outcome. Not for concurrent use.
/// </summary>
public interface ICourier : IAsyncDisposable
{
    CourierState State { get; }

    /// <summary>There is a connection, and its peer takes a transaction with the end of the one before (<see cref="DeliveryTask.Next"/>).</summary>
    bool SendsAhead { get; }

    /// <summary>Most recipients that its peer takes in a transaction, as far as it is known; more are answered "too many recipients" by the courier itself.</summary>
    int RecipientLimit => int.MaxValue;

    /// <summary>Does the transaction; fills every outcome. Cancellation ends it with temporary outcomes (fault Local).</summary>
    ValueTask DeliverAsync(DeliveryTask task, CancellationToken cancellation);

    /// <summary>
    /// Gives up what was sent ahead of its turn (<see cref="DeliveryTask.Next"/>) when its turn does not come; the connection is gone then. Does nothing when nothing was sent.
    /// </summary>
    ValueTask AbandonAheadAsync();

    /// <summary>Says QUIT and closes, bounded by a few seconds.</summary>
    ValueTask QuitAsync();
}

/// <summary>Makes couriers for a site.</summary>
public interface ICourierFactory
{
    ICourier Create(Site site);
}

/// <summary>
/// A destination as delivery sees it: the MX hosts behind one or many domains, or a configured next hop. The key is stable text, for example
/// <c>mx:mx1.example.com</c> or <c>smtp://192.0.2.1:25</c>; equal keys are one site.
/// </summary>
public sealed record Site(string Key, IReadOnlyList<SiteHost> Hosts);

/// <summary>One host of a site: a name to resolve (or an address literal), its MX preference, its port.</summary>
public readonly record struct SiteHost(string Name, int Preference, int Port);

/// <summary>The answer to "where does this recipient go": a site, or an outcome at once (discard, hold, reject, DNS failure).</summary>
public readonly record struct SiteDecision(Site? Site, Routing.NextHopKind Kind, DeliveryOutcome? Outcome);

/// <summary>
/// Finds the site of mail through routes and MX lookups. Both match domains only, so that a recipient's domain says as much as its address; a domain is in its normal form, or an address literal
/// with its brackets, or empty (the bare postmaster).
/// </summary>
public interface ISiteResolver
{
    /// <summary>Completes synchronously when DNS has it cached. Kind Hold and Discard have neither site nor outcome.</summary>
    ValueTask<SiteDecision> ResolveAsync(string domain, in RouteChoice choice, CancellationToken cancellation);

    /// <summary>The decision if it can be given now without starting a lookup: so that known destinations never queue behind unknown ones.</summary>
    bool TryResolve(string domain, in RouteChoice choice, out SiteDecision decision);

    ValueTask<SiteDecision> ResolveAsync(EmailAddress recipient, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        return ResolveAsync(recipient.Domain, default, cancellation);
    }

    bool TryResolve(EmailAddress recipient, out SiteDecision decision)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        return TryResolve(recipient.Domain, default, out decision);
    }
}

/// <summary>What an operator decided about a job's way; the default is nothing.</summary>
/// <param name="Released">It was held before: hold routes are passed over.</param>
/// <param name="To">Its next hop, before all routes; null: none was chosen.</param>
public readonly record struct RouteChoice(bool Released, Routing.NextHop? To = null);
