using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Observability;

/// <summary>State changes of a message, as the event log names them (lower case).</summary>
public enum MailEventKind
{
    Accepted, Rejected, Delivered, Deferred, Bounced, Expired, Dropped, Held, Released, Delayed, Quarantined, Rerouted,
}

/// <summary>One line of the event log. Fields that do not apply are null; text from peers is escaped by the writer.</summary>
public readonly record struct MailEvent
{
    public required DateTimeOffset Time { get; init; }

    public required MailEventKind Kind { get; init; }

    public MessageId? Id { get; init; }

    /// <summary>Reverse-path without brackets; "" for the null sender.</summary>
    public string? Sender { get; init; }

    public string? Recipient { get; init; }

    public string? Site { get; init; }

    /// <summary>Client address for accepted and rejected; our own sending address otherwise.</summary>
    public string? Source { get; init; }

    public string? Peer { get; init; }

    /// <summary>Protocol and cipher suite, "TLSv1.3 TLS_AES_256_GCM_SHA384"; null: plain text.</summary>
    public string? Tls { get; init; }

    /// <summary>Who had logged in; null: nobody.</summary>
    public string? User { get; init; }

    /// <summary>Who handed the message in first, as a trusted client says (RFC 4954 §5).</summary>
    public string? Submitter { get; init; }

    /// <summary>What XFORWARD said of the client before the client.</summary>
    public ClientAttributes? Forwarded { get; init; }

    /// <summary>What MAIL asked for beyond a plain transaction.</summary>
    public EnvelopeParameters? Parameters { get; init; }

    /// <summary>What RCPT asked for of the recipient.</summary>
    public RecipientParameters? RecipientParameters { get; init; }

    public int? Attempt { get; init; }

    public int? Code { get; init; }

    public string? Enhanced { get; init; }

    public string? Reply { get; init; }

    public long? Size { get; init; }

    public double? QueuedSeconds { get; init; }

    public string? Stage { get; init; }
}

/// <summary>
/// Writes events to <c>&lt;data_dir&gt;/events/*.jsonl</c>. <see cref="Write"/> never blocks and never throws: it goes to a bounded buffer in memory;
/// when that is full the event is dropped and counted, and the log says how many were, so that none is lost silently.
/// </summary>
public interface IEventLog
{
    void Write(in MailEvent mailEvent);
}
