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

/// <summary>What an operator can do to the messages that a filter selects.</summary>
public enum QueueAction
{
    Retry, Hold, Release, Drop,
}

/// <summary>The one façade for commands and HTTP. JSON shapes are part of the outer contract.</summary>
public interface IControl
{
    /// <summary>
    /// One object per message that the filter selects: id, sender, recipients (address, state, attempts, due, reply), size, age in seconds. Recipients
    /// are those that are not final and that the filter selects.
    /// </summary>
    /// <exception cref="FilterException">The filter cannot be used; also from the other members that take one.</exception>
    IEnumerable<JsonObject> List(QueueFilter filter);

    /// <summary>Totals: messages, recipients, bytes; grouped by domain, site, state or reason when <paramref name="by"/> is given.</summary>
    JsonObject Count(QueueFilter filter, string? by);

    /// <summary>Envelope, recipients and every reply known; null when the id is not queued.</summary>
    JsonObject? Show(MessageId id);

    /// <summary>The message's octets; null when the id is not queued.</summary>
    BodyReader? OpenBody(MessageId id);

    /// <summary>Acts and makes it durable; returns how many messages and recipients were (or would be) touched.</summary>
    ValueTask<(int Messages, int Recipients)> ActAsync(QueueAction action, QueueFilter filter, bool dryRun, CancellationToken cancellation);

    /// <summary>How the server is: the queue's condition and size, connections, and the busiest sites.</summary>
    JsonObject Status();

    /// <summary>How an address would be delivered: class (relay: in relay.domains; remote), route, MX, addresses; without sending.</summary>
    ValueTask<JsonObject> RouteAsync(string address, CancellationToken cancellation);
}

/// <summary>A filter that cannot be used; the message says what is wrong and what is allowed.</summary>
public sealed class FilterException(string message) : Exception(message);
