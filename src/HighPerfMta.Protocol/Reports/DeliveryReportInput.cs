using System.Net;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Protocol.Reports;

/// <summary>What a report tells the sender; the Action field of RFC 3464 §2.3.3.</summary>
public enum ReportAction : byte
{
    Failed, Delayed, Relayed, Delivered,
}

/// <summary>What a report has of the message.</summary>
public enum ReturnedMessage : byte
{
    /// <summary>Its header.</summary>
    Headers,

    /// <summary>All of it, which is ASCII.</summary>
    SevenBit,

    /// <summary>All of it.</summary>
    EightBit,
}

/// <summary>One recipient that a report is about.</summary>
/// <param name="Recipient">As it stands in the envelope.</param>
/// <param name="Outcome">The last attempt; its text is hostile and is quoted safely.</param>
/// <param name="LastAttempt">When that attempt was; null when there was none.</param>
/// <param name="Attempts">How many attempts there were; 0 leaves it out.</param>
/// <param name="OriginalRecipient">The value of ORCPT; null leaves it out.</param>
public sealed record ReportedRecipient(EmailAddress Recipient, DeliveryOutcome Outcome, DateTimeOffset? LastAttempt, int Attempts = 0, string? OriginalRecipient = null);

/// <summary>Everything a delivery status notification says.</summary>
public sealed record DeliveryReportInput
{
    public required ReportAction Action { get; init; }

    /// <summary>Our host name; Reporting-MTA and the domain of MAILER-DAEMON and of the Message-ID.</summary>
    public required string ReportingMta { get; init; }

    /// <summary>The queue id of the report itself.</summary>
    public required MessageId ReportId { get; init; }

    /// <summary>When the report is made.</summary>
    public required DateTimeOffset Date { get; init; }

    /// <summary>The sender of the message, who gets the report; never the null sender.</summary>
    public required EmailAddress To { get; init; }

    /// <summary>The queue id of the message, for the person who asks an operator.</summary>
    public required MessageId OriginalId { get; init; }

    /// <summary>When the message was accepted.</summary>
    public required DateTimeOffset ArrivalDate { get; init; }

    /// <summary>What the client called itself; empty leaves Received-From-MTA out.</summary>
    public string ReceivedFrom { get; init; } = "";

    /// <summary>Where the message came from.</summary>
    public IPAddress? ReceivedFromAddress { get; init; }

    /// <summary>Until when delivery is tried; only said of a delay.</summary>
    public DateTimeOffset? WillRetryUntil { get; init; }

    /// <summary>At least one.</summary>
    public required IReadOnlyList<ReportedRecipient> Recipients { get; init; }

    /// <summary>
    /// The message from its first octet, as much of it as is at hand; what follows the header's empty line, or
    /// <see cref="DeliveryReport.MaxHeaders"/>, is not used.
    /// </summary>
    public ReadOnlyMemory<byte> OriginalHeaders { get; init; }

    /// <summary>What ENVID stands for; null leaves it out.</summary>
    public string? OriginalEnvelopeId { get; init; }

    /// <summary>What is returned; of anything but the header only <see cref="DeliveryReport.Begin"/> and <see cref="DeliveryReport.End"/> make a report.</summary>
    public ReturnedMessage Returned { get; init; }

    /// <summary>The message was sent with SMTPUTF8; the report may then hold UTF-8 (RFC 6533) and must be sent so too: see <see cref="NeedsSmtpUtf8"/>.</summary>
    public bool SmtpUtf8 { get; init; }

    /// <summary>The report's own envelope: SMTPUTF8 is to be set, because the sender's address needs it or the message had it.</summary>
    public bool NeedsSmtpUtf8 => SmtpUtf8 || To.NeedsSmtpUtf8;

    /// <summary>The report's own envelope: BODY=8BITMIME.</summary>
    public bool IsEightBit => NeedsSmtpUtf8 || Returned == ReturnedMessage.EightBit;
}
