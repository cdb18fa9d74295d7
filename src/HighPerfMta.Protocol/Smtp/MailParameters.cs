using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>What MAIL FROM said (RFC 5321 §4.1.1.2).</summary>
public readonly struct MailParameters
{
    /// <summary>The reverse-path; null is the null sender <c>&lt;&gt;</c>.</summary>
    public EmailAddress? Sender { get; init; }

    /// <summary>SIZE= in octets (RFC 1870); null when absent, <see cref="long.MaxValue"/> when it does not fit.</summary>
    public long? Size { get; init; }

    /// <summary>BODY= (RFC 6152); <see cref="BodyEncoding.SevenBit"/> when absent.</summary>
    public BodyEncoding Body { get; init; }

    /// <summary>SMTPUTF8 was given (RFC 6531 §3.4).</summary>
    public bool SmtpUtf8 { get; init; }

    /// <summary>AUTH= (RFC 4954 §5), as text: who handed the message in first, or <c>&lt;&gt;</c> where nobody knows; null when absent. Only a trusted client is to be believed.</summary>
    public string? Submitter { get; init; }

    /// <summary>Times of BY, HOLDFOR and HOLDUNTIL, which count from now on; null: none of them was given.</summary>
    public MailTimes? Times { get; init; }

    /// <summary>What was asked for beyond that; null: nothing.</summary>
    public EnvelopeParameters? Extended { get; init; }
}

/// <summary>What MAIL said of times, as it said it.</summary>
/// <param name="By">Seconds of BY; negative only in mode N. Null: BY was not given.</param>
/// <param name="Notify">Mode N.</param>
/// <param name="Trace">BY asks for a trace.</param>
/// <param name="HoldFor">Seconds of HOLDFOR; null: it was not given.</param>
/// <param name="HoldUntil">HOLDUNTIL, UTC; null: it was not given.</param>
public sealed record MailTimes(int? By, bool Notify, bool Trace, int? HoldFor, DateTimeOffset? HoldUntil)
{
    /// <summary>When the message is to be released; null: at once.</summary>
    public DateTimeOffset? ReleaseAt(DateTimeOffset now) => HoldFor is { } seconds ? now.AddSeconds(seconds) : HoldUntil;

    /// <summary>The deadline; null: there is none.</summary>
    public DeliverBy? DeliverBy(DateTimeOffset now) => By is { } seconds ? new DeliverBy(now.AddSeconds(seconds), Notify, Trace) : null;
}
