namespace HighPerfMta.Protocol.Smtp;

/// <summary>The point of an outbound session at which an outcome was decided.</summary>
public enum DeliveryStage : byte
{
    Routing = 0, Dns = 1, Connect = 2, Greeting = 3, Hello = 4, Tls = 5, MailFrom = 6, RcptTo = 7, Data = 8, Body = 9, FinalDot = 10, Expiry = 11, Operator = 12,
}

/// <summary>What becomes of a recipient.</summary>
public enum DeliveryStatus : byte
{
    Delivered = 0, Deferred = 1, Failed = 2,
}

/// <summary>Whose fault a failure is; only a site's fault counts against the site (its other mail waits too).</summary>
public enum FaultOwner : byte
{
    None = 0, Recipient = 1, Message = 2, Site = 3, Local = 4,
}

/// <summary>
/// The result of one attempt for one recipient. It travels unchanged to retry, event log, DSN and commands.
/// <paramref name="Text"/> is what the peer said, or our own words when there was no reply (<paramref name="Code"/> 0); it is
/// hostile text of at most <see cref="MaxText"/> characters without control characters.
/// </summary>
public sealed record DeliveryOutcome(
    DeliveryStatus Status,
    DeliveryStage Stage,
    FaultOwner Fault,
    int Code,
    EnhancedCode Enhanced,
    string Text,
    string Peer = "",
    string Tls = "")
{
    /// <summary>Longest <see cref="Text"/>; longer replies are cut.</summary>
    public const int MaxText = 1024;

    public bool IsPermanent => Status == DeliveryStatus.Failed;

    /// <summary>The reply as one line: code, enhanced code, text; without a code, our own words.</summary>
    public string Reply
    {
        get
        {
            string enhanced = Enhanced.ToString();
            string code = Code == 0 ? "" : Code.ToString(System.Globalization.CultureInfo.InvariantCulture) + " ";
            return enhanced.Length == 0 || Text.StartsWith(enhanced, StringComparison.Ordinal) ? code + Text : $"{code}{enhanced} {Text}";
        }
    }
}
