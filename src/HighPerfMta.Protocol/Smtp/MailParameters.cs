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

    /// <summary>What was asked for beyond that; null: nothing.</summary>
    public EnvelopeParameters? Extended { get; init; }
}
