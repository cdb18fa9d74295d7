using System.Text.Json.Nodes;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Control;

/// <summary>Selects queued messages; all set conditions must hold. An empty filter selects nothing unless <see cref="All"/>.</summary>
public sealed record QueueFilter
{
    public IReadOnlyList<MessageId> Ids { get; init; } = [];

    /// <summary>A recipient's domain, or ".domain" for its subdomains.</summary>
    public string? Domain { get; init; }

    /// <summary>A site's key, as <c>count --by site</c> shows it.</summary>
    public string? Site { get; init; }

    /// <summary>An address, "@domain", or "&lt;&gt;" for the null sender.</summary>
    public string? Sender { get; init; }

    /// <summary>An address or "@domain".</summary>
    public string? Recipient { get; init; }

    /// <summary>One of <see cref="QueueSelector.States"/>.</summary>
    public string? State { get; init; }

    /// <summary>Regular expression over the last reply (non-backtracking, so that no pattern can hang the server).</summary>
    public string? Reason { get; init; }

    public TimeSpan? Older { get; init; }

    public TimeSpan? Newer { get; init; }

    public int? Limit { get; init; }

    public bool All { get; init; }
}

/// <summary>What an operator can do to what a filter selects.</summary>
public enum QueueAction
{
    Retry, Hold, Release, Drop,

    /// <summary>Returned to the sender.</summary>
    Bounce,

    /// <summary>Sent to another next hop.</summary>
    Route,
}

/// <summary>What an action did, or would do.</summary>
/// <param name="Messages">Messages of which at least one recipient was changed.</param>
/// <param name="Recipients">Recipients that were changed.</param>
/// <param name="Unreadable">Jobs that the filter may select, but whose records cannot be read: they were left alone.</param>
public readonly record struct QueueActed(int Messages, int Recipients, int Unreadable);

/// <summary>
/// The one façade for commands and HTTP. JSON shapes are part of the outer contract. Lists and counts made while the queue of before the start is still being read have
/// <c>"loading": true</c>, and lack what was not read yet.
/// </summary>
public interface IControl
{
    /// <summary>The queue of before the start is still being read.</summary>
    bool Loading { get; }

    /// <summary>
    /// One object per message that the filter selects: id, sender, recipients (address, state, attempts, due, reply), size, age in seconds. Recipients
    /// are those that are not final and that the filter selects. A message whose record cannot be read has <c>unreadable</c> and what is known without it.
    /// </summary>
    /// <exception cref="FilterException">The filter cannot be used; also from the other members that take one.</exception>
    IAsyncEnumerable<JsonObject> List(QueueFilter filter, CancellationToken cancellation);

    /// <summary>Totals: messages, recipients, bytes; grouped by domain, site, state or reason when <paramref name="by"/> is given. <c>unreadable</c>: jobs that could not be decided.</summary>
    ValueTask<JsonObject> CountAsync(QueueFilter filter, string? by, CancellationToken cancellation);

    /// <summary>Envelope, recipients, jobs and every reply known; null when the id is not queued.</summary>
    ValueTask<JsonObject?> ShowAsync(MessageId id, CancellationToken cancellation);

    /// <summary>The message's octets; null when the id is not queued.</summary>
    /// <exception cref="Queue.Log.RecordUnreadableException">They cannot be read.</exception>
    ValueTask<BodyReader?> OpenBodyAsync(MessageId id, CancellationToken cancellation);

    /// <summary>Acts and makes it durable; atomic for each job.</summary>
    /// <param name="action">What is done.</param>
    /// <param name="filter">To which mail.</param>
    /// <param name="to">For <see cref="QueueAction.Route"/>: the next hop as configuration writes it.</param>
    /// <param name="dryRun">Only count.</param>
    /// <param name="cancellation">Ends it between two batches; what was done stays.</param>
    /// <exception cref="QueueLoadingException">It is too early.</exception>
    /// <exception cref="Queue.Log.LogUnavailableException">Not all of it is durable.</exception>
    ValueTask<QueueActed> ActAsync(QueueAction action, QueueFilter filter, string? to, bool dryRun, CancellationToken cancellation);

    /// <summary>Why mail of a message (queue id), for an address or to a domain is not delivered yet: its jobs, their sites, and what they wait for. Null when nothing of it is queued or known.</summary>
    /// <exception cref="FilterException">It is none of the three.</exception>
    ValueTask<JsonObject?> WhyAsync(string subject, CancellationToken cancellation);

    /// <summary>How the server is: the queue's condition and size, connections, and the busiest sites.</summary>
    JsonObject Status();

    /// <summary>How an address would be delivered: class (relay: in relay.domains; remote), route, MX, addresses; without sending.</summary>
    ValueTask<JsonObject> RouteAsync(string address, CancellationToken cancellation);
}

/// <summary>A filter that cannot be used; the message says what is wrong and what is allowed.</summary>
public sealed class FilterException(string message) : Exception(message);

/// <summary>Nothing is steered before the whole queue is known: a filter would miss what is not read yet.</summary>
public sealed class QueueLoadingException() : Exception("the queue of before the start is still being read; try again");
