using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>What of the message a report of failure returns (RET, RFC 3461 §4.3). The values are on disk.</summary>
public enum ReturnContent : byte
{
    /// <summary>RET was not given: the header is returned.</summary>
    Unsaid = 0,
    Full = 1,
    Headers = 2,
}

/// <summary>What the sender wants to be told of a recipient (NOTIFY, RFC 3461 §4.1). The values are on disk.</summary>
[Flags]
public enum NotifyConditions : byte
{
    /// <summary>NOTIFY was not given: failures, and delays.</summary>
    Unsaid = 0,

    /// <summary>Nothing; always alone.</summary>
    Never = 1,
    Success = 2,
    Failure = 4,
    Delay = 8,
}

/// <summary>What RCPT said beyond the forward-path.</summary>
/// <param name="Notify">NOTIFY.</param>
/// <param name="OriginalRecipient">ORCPT as it was given, type and encoding included; see <see cref="Smtp.OriginalRecipient"/>. Null: it was not.</param>
public sealed record RecipientParameters(NotifyConditions Notify, string? OriginalRecipient)
{
    /// <summary>The value of NOTIFY, in the order of RFC 3461 §4.1; empty when it was not given.</summary>
    public string NotifyText
    {
        get
        {
            if (Notify == NotifyConditions.Never)
            {
                return "NEVER";
            }

            StringBuilder text = new(21);
            Append(text, NotifyConditions.Success, "SUCCESS");
            Append(text, NotifyConditions.Failure, "FAILURE");
            Append(text, NotifyConditions.Delay, "DELAY");
            return text.ToString();
        }
    }

    private void Append(StringBuilder text, NotifyConditions condition, string word)
    {
        if (Notify.HasFlag(condition))
        {
            text.Append(text.Length > 0 ? "," : "").Append(word);
        }
    }
}

/// <summary>BY of MAIL (RFC 2852).</summary>
/// <param name="At">When the message is to be delivered at the latest, UTC.</param>
/// <param name="Notify">Mode N: later the sender is told, and delivery goes on; else (R) the message is returned.</param>
/// <param name="Trace">The sender wants to be told of each relay.</param>
public sealed record DeliverBy(DateTimeOffset At, bool Notify, bool Trace)
{
    /// <summary>The mode as it stands in BY.</summary>
    public string Mode => (Notify ? "N" : "R") + (Trace ? "T" : "");
}

/// <summary>
/// What MAIL and RCPT asked for beyond a plain transaction; kept with the envelope, as most messages ask for nothing and take no room for it. Immutable.
/// </summary>
public sealed record EnvelopeParameters
{
    /// <summary>Nothing was asked for.</summary>
    public static readonly EnvelopeParameters None = new();

    /// <summary>RET.</summary>
    public ReturnContent Return { get; init; }

    /// <summary>ENVID as it was given, in xtext; null: it was not.</summary>
    public string? EnvelopeId { get; init; }

    /// <summary>BY; null: it was not given.</summary>
    public DeliverBy? DeliverBy { get; init; }

    /// <summary>HOLDFOR and HOLDUNTIL: nothing is tried before this, UTC (RFC 4865); null: neither was given.</summary>
    public DateTimeOffset? ReleaseAt { get; init; }

    /// <summary>MT-PRIORITY, from -9 to 9 (RFC 6710); null: it was not given.</summary>
    public sbyte? Priority { get; init; }

    /// <summary>REQUIRETLS: only over TLS, and only to who promises the same (RFC 8689).</summary>
    public bool RequireTls { get; init; }

    /// <summary>What RCPT said, in the order of <see cref="Envelope.Recipients"/>; empty when no recipient has anything, and null for those that have not.</summary>
    public RecipientParameters?[] Recipients { get; init; } = [];

    /// <summary>The value of RET; empty when it was not given.</summary>
    public string ReturnText => Return switch
    {
        ReturnContent.Full => "FULL",
        ReturnContent.Headers => "HDRS",
        _ => "",
    };

    /// <summary>What the sender said of a recipient; null: nothing.</summary>
    /// <param name="recipient">Its index in <see cref="Envelope.Recipients"/>.</param>
    public RecipientParameters? Of(int recipient) => recipient < Recipients.Length ? Recipients[recipient] : null;

    /// <summary>Octets of memory, roughly.</summary>
    public int Weight
    {
        get
        {
            int octets = 64 + (8 * Recipients.Length) + (2 * (EnvelopeId?.Length ?? 0));
            foreach (RecipientParameters? recipient in Recipients)
            {
                octets += recipient is null ? 0 : 64 + (2 * (recipient.OriginalRecipient?.Length ?? 0));
            }

            return octets;
        }
    }
}
