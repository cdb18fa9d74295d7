using System.Text.Json.Nodes;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Control;

/// <summary>Selects queued messages; all set conditions must hold. An empty filter selects nothing unless <see cref="All"/>.</summary>
public sealed record QueueFilter
{
    public IReadOnlyList<MessageId> Ids { get; init; } = [];

    public string? Domain { get; init; }

    public string? Site { get; init; }

    public string? Sender { get; init; }

    public string? Recipient { get; init; }

    /// <summary>pending, held, due.</summary>
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
    /// <summary>One object per message: id, sender, recipients (address, state, attempts, due, reply), size, age in seconds.</summary>
    IEnumerable<JsonObject> List(QueueFilter filter);

    /// <summary>Totals: messages, recipients, bytes; grouped by domain, site, state or reason when <paramref name="by"/> is given.</summary>
    JsonObject Count(QueueFilter filter, string? by);

    /// <summary>Envelope, recipients and every reply known; null when the id is not queued.</summary>
    JsonObject? Show(MessageId id);

    BodyReader? OpenBody(MessageId id);

    /// <summary>Acts and makes it durable; returns how many messages and recipients were (or would be) touched.</summary>
    ValueTask<(int Messages, int Recipients)> ActAsync(QueueAction action, QueueFilter filter, bool dryRun, CancellationToken cancellation);

    /// <summary>How an address would be delivered: class, route, MX, addresses; without sending.</summary>
    ValueTask<JsonObject> RouteAsync(string address, CancellationToken cancellation);
}
