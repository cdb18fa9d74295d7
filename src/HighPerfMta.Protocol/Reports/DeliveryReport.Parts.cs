using System.Globalization;
using System.Text;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Protocol.Reports;

public static partial class DeliveryReport
{
    private const int TextWidth = 76;

    private static void WriteExplanation(ref ReportWriter text, DeliveryReportInput input, string boundary)
    {
        text.Line($"--{boundary}");
        text.Line(text.Utf8 ? "Content-Type: text/plain; charset=utf-8" : "Content-Type: text/plain; charset=us-ascii");
        text.Line(text.Utf8 ? "Content-Transfer-Encoding: 8bit" : "Content-Transfer-Encoding: 7bit");
        text.Line("");
        text.Line($"This is the mail system at {ReportWriter.SafeToken(input.ReportingMta)}.");
        text.Line("");
        WriteNews(ref text, input);
        text.Line("");
        text.Line($"Message {input.OriginalId}, accepted {MailDate.Format(input.ArrivalDate)}");
        foreach (ReportedRecipient recipient in input.Recipients)
        {
            text.Line("");
            text.Address("  <", recipient.Recipient, ">");
            WriteReason(ref text, recipient);
        }

        text.Line("");
    }

    private static void WriteNews(ref ReportWriter text, DeliveryReportInput input)
    {
        switch (input.Action)
        {
            case ReportAction.Failed:
                text.Line("Your message could not be delivered to the recipients below, and it will");
                text.Line("not be tried again. Nobody at this mail system has read it.");
                break;
            case ReportAction.Relayed:
                text.Line("Your message to the recipients below was handed over to mail systems that do");
                text.Line("not tell of deliveries. You may hear no more of it unless it fails.");
                break;
            case ReportAction.Delivered:
                text.Line("Your message was delivered to the recipients below.");
                break;
            default:
                text.Line("Your message has not been delivered yet to the recipients below.");
                text.Line("YOU DO NOT NEED TO SEND IT AGAIN: delivery is still being tried.");
                if (input.WillRetryUntil is { } until)
                {
                    text.Line($"It will be tried until {MailDate.Format(until)}; you will be told if it fails.");
                }

                break;
        }
    }

    private static void WriteReason(ref ReportWriter text, ReportedRecipient recipient)
    {
        DeliveryOutcome outcome = recipient.Outcome;
        if (outcome.Status != DeliveryStatus.Delivered)
        {
            text.Wrapped("    ", Explanations.Describe(outcome), TextWidth, 10);
        }

        if (outcome.Code != 0)
        {
            string who = outcome.Peer.Length > 0 ? $"The server {outcome.Peer} said:" : "The server said:";
            text.Wrapped("    ", who, TextWidth, 4);
            string code = outcome.Enhanced.IsNone ? $"{outcome.Code} " : $"{outcome.Code} {outcome.Enhanced} ";
            text.Wrapped("      ", code + outcome.Text, TextWidth, 20);
        }
        else if (outcome.Text.Length > 0 && outcome.Status != DeliveryStatus.Delivered)
        {
            text.Wrapped("    ", $"Reason: {outcome.Text}", TextWidth, 20);
        }

        if (recipient.Attempts > 1)
        {
            text.Line($"    Delivery was tried {recipient.Attempts.ToString(CultureInfo.InvariantCulture)} times.");
        }
    }

    private static void WriteStatus(ref ReportWriter text, DeliveryReportInput input, string boundary)
    {
        text.Line($"--{boundary}");
        text.Line(text.Utf8 ? "Content-Type: message/global-delivery-status" : "Content-Type: message/delivery-status");
        if (text.Utf8)
        {
            text.Line("Content-Transfer-Encoding: 8bit");
        }

        text.Line("");
        if (input.OriginalEnvelopeId is { } id)
        {
            text.Line($"Original-Envelope-Id: {id}");
        }

        text.Line($"Reporting-MTA: dns; {ReportWriter.SafeToken(input.ReportingMta)}");
        if (input.ReceivedFrom.Length > 0)
        {
            text.Line($"Received-From-MTA: dns; {ReportWriter.SafeToken(input.ReceivedFrom)}{ClientComment(input)}");
        }

        text.Line($"Arrival-Date: {MailDate.Format(input.ArrivalDate)}");
        foreach (ReportedRecipient recipient in input.Recipients)
        {
            text.Line("");
            WriteRecipientStatus(ref text, input, recipient);
        }

        text.Line("");
    }

    private static string ClientComment(DeliveryReportInput input)
    {
        if (input.ReceivedFromAddress is null)
        {
            return "";
        }

        Span<byte> literal = stackalloc byte[80];
        return $" ({Encoding.ASCII.GetString(ReceivedHeader.AddressLiteral(input.ReceivedFromAddress, literal))})";
    }

    private static void WriteRecipientStatus(ref ReportWriter text, DeliveryReportInput input, ReportedRecipient recipient)
    {
        DeliveryOutcome outcome = recipient.Outcome;
        if (recipient.OriginalRecipient is { } original)
        {
            text.Line($"Original-Recipient: {OriginalRecipient.Display(original, text.Utf8)}");
        }

        string type = !recipient.Recipient.NeedsSmtpUtf8 ? "rfc822" : "utf-8";
        text.Address($"Final-Recipient: {type}; ", recipient.Recipient, "");
        text.Line($"Action: {ActionWord(input.Action)}");
        text.Line($"Status: {Explanations.StatusFor(outcome, input.Action)}");
        if (outcome.Peer.Length > 0)
        {
            text.Line($"Remote-MTA: dns; {ReportWriter.SafeToken(PeerName(outcome.Peer))}");
        }

        WriteDiagnostic(ref text, outcome);
        if (recipient.LastAttempt is { } attempt)
        {
            text.Line($"Last-Attempt-Date: {MailDate.Format(attempt)}");
        }

        if (input.Action == ReportAction.Delayed && input.WillRetryUntil is { } until)
        {
            text.Line($"Will-Retry-Until: {MailDate.Format(until)}");
        }
    }

    private static string ActionWord(ReportAction action) => action switch
    {
        ReportAction.Failed => "failed",
        ReportAction.Delayed => "delayed",
        ReportAction.Relayed => "relayed",
        _ => "delivered",
    };

    /// <summary>The name of the peer, without the address that may follow it in brackets.</summary>
    private static string PeerName(string peer)
    {
        int end = peer.AsSpan().IndexOfAny(' ', '(');
        if (end < 0)
        {
            end = peer.IndexOf('[', StringComparison.Ordinal);
        }

        return end > 0 ? peer[..end] : peer;
    }

    /// <summary>Diagnostic-Code with type smtp for what a server said (RFC 3464 §2.3.6); our own words go out as X-HighPerfMta.</summary>
    private static void WriteDiagnostic(ref ReportWriter text, DeliveryOutcome outcome)
    {
        if (outcome.Code == 0 && (outcome.Text.Length == 0 || outcome.Status == DeliveryStatus.Delivered))
        {
            return;
        }

        string said = outcome.Code == 0 ? outcome.Text
            : outcome.Enhanced.IsNone ? $"{outcome.Code} {outcome.Text}" : $"{outcome.Code} {outcome.Enhanced} {outcome.Text}";
        text.Line(outcome.Code == 0 ? "Diagnostic-Code: X-HighPerfMta;" : "Diagnostic-Code: smtp;");
        text.Wrapped("    ", said.Length == 0 ? "-" : said, TextWidth, 30);
    }

    private static void WriteOriginalHeaders(ref ReportWriter text, DeliveryReportInput input, string boundary)
    {
        ReadOnlySpan<byte> header = CutHeader(input.OriginalHeaders.Span);
        bool ascii = Ascii.IsValid(header);
        text.Line($"--{boundary}");
        text.Line(text.Utf8 ? "Content-Type: message/global-headers" : "Content-Type: text/rfc822-headers");
        text.Line(text.Utf8 && !ascii ? "Content-Transfer-Encoding: 8bit" : "Content-Transfer-Encoding: 7bit");
        text.Line("");
        while (!header.IsEmpty)
        {
            int lf = header.IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = lf < 0 ? header : header[..lf];
            header = lf < 0 ? default : header[(lf + 1)..];
            WriteHeaderLine(ref text, line.TrimEnd((byte)'\r'));
        }

        text.Line("");
    }

    /// <summary>A returned line is the message's own, but what cannot stand in a mail line is replaced, and a line too long is folded or cut.</summary>
    private static void WriteHeaderLine(ref ReportWriter text, ReadOnlySpan<byte> line)
    {
        if (line.Length <= ReportWriter.MaxLine && !line.ContainsAnyExceptInRange((byte)0x20, (byte)0x7E))
        {
            text.Raw(line);
            text.Raw("\r\n"u8);
            return;
        }

        text.Line(Encoding.UTF8.GetString(line));
    }

    /// <summary>The header without its empty line, whole lines, at most <see cref="MaxHeaders"/> octets.</summary>
    private static ReadOnlySpan<byte> CutHeader(ReadOnlySpan<byte> message)
    {
        if (message.StartsWith("\r\n"u8))
        {
            return default;
        }

        int end = message.IndexOf("\r\n\r\n"u8);
        ReadOnlySpan<byte> header = end < 0 ? message : message[..(end + 2)];
        if (header.Length <= MaxHeaders)
        {
            return header;
        }

        header = header[..MaxHeaders];
        int last = header.LastIndexOf((byte)'\n');
        return last < 0 ? header : header[..(last + 1)];
    }
}
