using System.Buffers;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Protocol.Reports;

/// <summary>
/// Delivery status notifications: multipart/report (RFC 3462) of a text for people, message/delivery-status (RFC 3464), and the header of the
/// message or all of it. With SMTPUTF8 the forms of RFC 6533 are used, otherwise everything is 7-bit.
/// </summary>
public static partial class DeliveryReport
{
    /// <summary>Octets of the original header that are returned.</summary>
    public const int MaxHeaders = 64 * 1024;

    /// <summary>Writes the whole message, CRLF line ends, no line over 998 octets, whatever the input holds.</summary>
    public static void Compose(IBufferWriter<byte> output, DeliveryReportInput input)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(input);
        string boundary = ChooseBoundary(input);
        ReportWriter text = new(output, input.NeedsSmtpUtf8);
        WriteBeginning(ref text, input, boundary);
        WriteOriginalHeaders(ref text, input, boundary);
        text.Line($"--{boundary}--");
    }

    /// <summary>Writes a report that returns the whole message up to where its octets follow: lines that end with CRLF. <see cref="End"/> comes behind them.</summary>
    /// <param name="output">Where it goes.</param>
    /// <param name="input">What it says.</param>
    /// <param name="boundary">What the message does not hold: the caller chooses what nobody can know.</param>
    public static void Begin(IBufferWriter<byte> output, DeliveryReportInput input, string boundary)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(input);
        ReportWriter text = new(output, input.NeedsSmtpUtf8);
        WriteBeginning(ref text, input, boundary);
        text.Line($"--{boundary}");
        text.Line(input.SmtpUtf8 ? "Content-Type: message/global" : "Content-Type: message/rfc822");
        text.Line(input.Returned == ReturnedMessage.EightBit ? "Content-Transfer-Encoding: 8bit" : "Content-Transfer-Encoding: 7bit");
        text.Line("");
    }

    /// <summary>Writes what comes behind the message.</summary>
    public static void End(IBufferWriter<byte> output, string boundary)
    {
        ArgumentNullException.ThrowIfNull(output);
        ReportWriter text = new(output, utf8: false);
        text.Line("");
        text.Line($"--{boundary}--");
    }

    private static void WriteBeginning(ref ReportWriter text, DeliveryReportInput input, string boundary)
    {
        WriteHeader(ref text, input, boundary);
        WriteExplanation(ref text, input, boundary);
        WriteStatus(ref text, input, boundary);
    }

    private static string SubjectOf(ReportAction action) => action switch
    {
        ReportAction.Failed => "Undelivered mail: your message was not delivered",
        ReportAction.Delayed => "Delayed mail: your message is still waiting",
        ReportAction.Relayed => "Relayed mail: your message was handed over",
        _ => "Delivered mail: your message has arrived",
    };

    /// <summary>A boundary that the returned header does not hold; the writer of that header could have guessed the first choice.</summary>
    private static string ChooseBoundary(DeliveryReportInput input)
    {
        Span<byte> ascii = stackalloc byte[64];
        for (int i = 0; ; i++)
        {
            string boundary = $"=_{input.ReportId}_{i}";
            int length = System.Text.Encoding.ASCII.GetBytes(boundary, ascii);
            if (input.OriginalHeaders.Span.IndexOf(ascii[..length]) < 0)
            {
                return boundary;
            }
        }
    }

    private static void WriteHeader(ref ReportWriter text, DeliveryReportInput input, string boundary)
    {
        string host = ReportWriter.SafeToken(input.ReportingMta);
        text.Line($"From: Mail Delivery System <MAILER-DAEMON@{host}>");
        text.Address("To: <", input.To, ">");
        text.Line($"Subject: {SubjectOf(input.Action)}");
        text.Line($"Date: {MailDate.Format(input.Date)}");
        text.Line($"Message-ID: <{input.ReportId}@{host}>");
        text.Line("Auto-Submitted: auto-replied");
        text.Line("MIME-Version: 1.0");
        text.Line("Content-Type: multipart/report; report-type=delivery-status;");
        text.Line($"\tboundary=\"{boundary}\"");
        if (input.IsEightBit)
        {
            text.Line("Content-Transfer-Encoding: 8bit");
        }

        text.Line("");
        text.Line("This is a MIME-encapsulated message.");
        text.Line("");
    }
}
