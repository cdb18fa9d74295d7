using System.Diagnostics.CodeAnalysis;
using System.Net;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>What the client said of the body in MAIL BODY= (RFC 6152, RFC 3030).</summary>
public enum BodyEncoding : byte
{
    SevenBit = 0,
    EightBitMime = 1,

    /// <summary>Any octets, not lines: only BDAT can carry it (RFC 3030 §3).</summary>
    BinaryMime = 2,
}

/// <summary>
/// The SMTP envelope of one message as it was accepted. Immutable; one instance lives as long as the message is queued.
/// </summary>
public class Envelope
{
    public Envelope()
    {
    }

    /// <summary>The same envelope.</summary>
    [SetsRequiredMembers]
    protected Envelope(Envelope other)
    {
        ArgumentNullException.ThrowIfNull(other);
        Id = other.Id;
        Sender = other.Sender;
        Recipients = other.Recipients;
        ReceivedAt = other.ReceivedAt;
        Body = other.Body;
        SmtpUtf8 = other.SmtpUtf8;
        ClientAddress = other.ClientAddress;
        HeloName = other.HeloName;
    }

    /// <summary>The queue id, also the id in Received and in events.</summary>
    public required MessageId Id { get; init; }

    /// <summary>The reverse-path; null is the null sender <c>&lt;&gt;</c> (RFC 5321 §4.5.5).</summary>
    public required EmailAddress? Sender { get; init; }

    /// <summary>The forward-paths in the order they were accepted, at least one.</summary>
    public required EmailAddress[] Recipients { get; init; }

    /// <summary>When the message was accepted, UTC.</summary>
    public required DateTimeOffset ReceivedAt { get; init; }

    public BodyEncoding Body { get; init; }

    /// <summary>When it is to be tried first, UTC.</summary>
    public DateTimeOffset FirstDue => Parameters?.ReleaseAt is { } release && release > ReceivedAt ? release : ReceivedAt;

    /// <summary>MAIL carried SMTPUTF8 (RFC 6531 §3.4).</summary>
    public bool SmtpUtf8 { get; init; }

    /// <summary>The client's address; null for a message that this server composed.</summary>
    public IPAddress? ClientAddress { get; init; }

    /// <summary>What the client called itself in HELO or EHLO; empty for a message that this server composed.</summary>
    public string HeloName { get; init; } = "";

    /// <summary>What was asked for beyond a plain transaction; kept in the queue. Null: nothing.</summary>
    public virtual EnvelopeParameters? Parameters => null;

    /// <summary>Protocol and cipher suite that the message came by, for the event of its acceptance; not kept in the queue. Null: plain text.</summary>
    public virtual string? Tls => null;

    /// <summary>Who had logged in, for the event of its acceptance; not kept in the queue. Null: nobody.</summary>
    public virtual string? User => null;

    /// <summary>Who handed the message in first, as a trusted client says (RFC 4954 §5), for the same event; not kept in the queue. Null: it does not say.</summary>
    public virtual string? Submitter => null;

    /// <summary>What XFORWARD said of the client before the client; not kept in the queue. Null: nothing.</summary>
    public virtual ClientAttributes? Forwarded => null;
}

/// <summary>An envelope whose client asked for more than a plain transaction.</summary>
/// <param name="envelope">What it is otherwise.</param>
/// <param name="parameters">See <see cref="Envelope.Parameters"/>.</param>
[method: SetsRequiredMembers]
public sealed class EnvelopeWithParameters(Envelope envelope, EnvelopeParameters parameters) : Envelope(envelope)
{
    public override EnvelopeParameters? Parameters => parameters;
}

/// <summary>An envelope with more to tell of its way here. Most have nothing, and take no room for it.</summary>
/// <param name="envelope">What it is otherwise.</param>
/// <param name="tls">See <see cref="Envelope.Tls"/>.</param>
/// <param name="forwarded">See <see cref="Envelope.Forwarded"/>.</param>
/// <param name="user">See <see cref="Envelope.User"/>.</param>
/// <param name="submitter">See <see cref="Envelope.Submitter"/>.</param>
[method: SetsRequiredMembers]
public sealed class EnvelopeWithOrigin(Envelope envelope, string? tls, ClientAttributes? forwarded, string? user = null, string? submitter = null) : Envelope(envelope)
{
    public override EnvelopeParameters? Parameters { get; } = envelope.Parameters;

    public override string? Tls => tls;

    public override string? User => user;

    public override string? Submitter => submitter;

    public override ClientAttributes? Forwarded => forwarded;
}
