using System.Buffers;
using System.Net;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Reports;
using HighPerfMta.Protocol.Smtp;
using MimeKit;

namespace HighPerfMta.Tests.Protocol.Reports;

public class DeliveryReportTests
{
    private static readonly DateTimeOffset Arrival = new(2026, 3, 1, 9, 30, 0, TimeSpan.Zero);
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 14, 0, 5, TimeSpan.Zero);

    private static readonly DeliveryOutcome NoSuchUser =
        new(DeliveryStatus.Failed, DeliveryStage.RcptTo, FaultOwner.Recipient, 550, new EnhancedCode(5, 1, 1), "no such user here", "mx1.to.example[192.0.2.7]");

    private static readonly DeliveryOutcome Refused =
        new(DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Site, 0, new EnhancedCode(4, 4, 1), "connection refused");

    private static DeliveryReportInput Input(ReportAction action = ReportAction.Failed, params ReportedRecipient[] recipients) => new()
    {
        Action = action,
        ReportingMta = "mta.from.example",
        ReportId = new MessageId(77),
        Date = Now,
        To = ReportReader.Address("sender@from.example"),
        OriginalId = new MessageId(42),
        ArrivalDate = Arrival,
        ReceivedFrom = "client.from.example",
        ReceivedFromAddress = IPAddress.Parse("192.0.2.99"),
        WillRetryUntil = Arrival.AddDays(5),
        Recipients = recipients.Length > 0 ? recipients : [new ReportedRecipient(ReportReader.Address("r@to.example"), NoSuchUser, Now, 1)],
        OriginalHeaders = "From: a@from.example\r\nSubject: Invoice 12\r\nMessage-ID: <1@from.example>\r\n\r\nthe secret text\r\n"u8.ToArray(),
    };

    private static ReportReader Compose(DeliveryReportInput input)
    {
        ArrayBufferWriter<byte> output = new();
        DeliveryReport.Compose(output, input);
        ReportReader read = new(output.WrittenMemory);
        read.CheckForm(input.NeedsSmtpUtf8);
        return read;
    }

    [Fact]
    public void A_failure_says_everything()
    {
        ReportReader read = Compose(Input());
        Assert.Equal("MAILER-DAEMON@mta.from.example", read.Message.From.Mailboxes.Single().Address);
        Assert.Equal("sender@from.example", read.Message.To.Mailboxes.Single().Address);
        Assert.Equal("auto-replied", read.Message.Headers[HeaderId.AutoSubmitted]);
        Assert.Equal(Now, read.Message.Date);
        Assert.EndsWith("@mta.from.example", read.Message.MessageId, StringComparison.Ordinal);
        Assert.Equal(2, read.Groups.Count);
        HeaderList message = read.Groups[0];
        Assert.Equal("dns; mta.from.example", message["Reporting-MTA"]);
        Assert.Equal("dns; client.from.example ([192.0.2.99])", message["Received-From-MTA"]);
        Assert.Equal("Sun, 01 Mar 2026 09:30:00 +0000", message["Arrival-Date"]);
        HeaderList recipient = read.Groups[1];
        Assert.Equal("rfc822; r@to.example", recipient["Final-Recipient"]);
        Assert.Equal("failed", recipient["Action"]);
        Assert.Equal("5.1.1", recipient["Status"]);
        Assert.Equal("dns; mx1.to.example", recipient["Remote-MTA"]);
        Assert.Equal("smtp; 550 5.1.1 no such user here", Unfolded(recipient["Diagnostic-Code"]));
        Assert.Equal("Sun, 01 Mar 2026 14:00:05 +0000", recipient["Last-Attempt-Date"]);
        Assert.Null(recipient["Will-Retry-Until"]);
    }

    [Fact]
    public void Its_words_are_for_people()
    {
        string text = Compose(Input()).Text;
        Assert.Contains("could not be delivered", text, StringComparison.Ordinal);
        Assert.Contains("<r@to.example>", text, StringComparison.Ordinal);
        Assert.Contains("The address does not exist", text, StringComparison.Ordinal);
        Assert.Contains("550 5.1.1 no such user here", text, StringComparison.Ordinal);
        Assert.Contains(new MessageId(42).ToString(), text, StringComparison.Ordinal);
        Assert.DoesNotContain("will be tried until", text, StringComparison.Ordinal);
        Assert.All(text.Split('\n'), static l => Assert.InRange(l.TrimEnd('\r').Length, 0, 78));
    }

    [Fact]
    public void A_delay_says_that_nothing_has_to_be_done_and_until_when_it_is_tried()
    {
        ReportReader read = Compose(Input(ReportAction.Delayed, new ReportedRecipient(ReportReader.Address("r@to.example"), Refused, null, 3)));
        Assert.Contains("Delayed", read.Message.Subject, StringComparison.Ordinal);
        Assert.Contains("YOU DO NOT NEED TO SEND IT AGAIN", read.Text, StringComparison.Ordinal);
        Assert.Contains("tried 3 times", read.Text, StringComparison.Ordinal);
        HeaderList recipient = read.Groups[1];
        Assert.Equal("delayed", recipient["Action"]);
        Assert.Equal("4.4.1", recipient["Status"]);
        Assert.Equal("X-HighPerfMta; connection refused", Unfolded(recipient["Diagnostic-Code"]));
        Assert.Equal("Fri, 06 Mar 2026 09:30:00 +0000", recipient["Will-Retry-Until"]);
        Assert.Null(recipient["Remote-MTA"]);
        Assert.Null(recipient["Last-Attempt-Date"]);
    }

    [Fact]
    public void The_status_has_the_class_of_the_action()
    {
        DeliveryOutcome expired = new(DeliveryStatus.Failed, DeliveryStage.Expiry, FaultOwner.None, 0, new EnhancedCode(4, 4, 7), "expired");
        Assert.Equal("5.4.7", Compose(Input(ReportAction.Failed, new ReportedRecipient(ReportReader.Address("r@to.example"), expired, null))).Groups[1]["Status"]);
        Assert.Equal("4.1.1", Compose(Input(ReportAction.Delayed, new ReportedRecipient(ReportReader.Address("r@to.example"), NoSuchUser, null))).Groups[1]["Status"]);
        DeliveryOutcome bare = NoSuchUser with { Enhanced = EnhancedCode.None };
        ReportReader read = Compose(Input(ReportAction.Failed, new ReportedRecipient(ReportReader.Address("r@to.example"), bare, null)));
        Assert.Equal("5.0.0", read.Groups[1]["Status"]);
        Assert.Equal("smtp; 550 no such user here", Unfolded(read.Groups[1]["Diagnostic-Code"]));
    }

    [Fact]
    public void Several_recipients_have_a_group_each_in_their_order()
    {
        ReportedRecipient[] recipients = [.. Enumerable.Range(0, 50).Select(static i =>
            new ReportedRecipient(ReportReader.Address($"\"r {i}\"@to.example"), NoSuchUser with { Text = $"no user {i}" }, Now, 1))];
        ReportReader read = Compose(Input(ReportAction.Failed, recipients));
        Assert.Equal(51, read.Groups.Count);
        for (int i = 0; i < 50; i++)
        {
            Assert.Equal($"rfc822; \"r {i}\"@to.example", read.Groups[i + 1]["Final-Recipient"]);
            Assert.Equal($"smtp; 550 5.1.1 no user {i}", Unfolded(read.Groups[i + 1]["Diagnostic-Code"]));
        }
    }

    [Fact]
    public void Only_the_header_is_returned()
    {
        ReportReader read = Compose(Input());
        Assert.Equal("text/rfc822-headers", read.Report[2].ContentType.MimeType);
        Assert.Contains("Subject: Invoice 12", read.Returned, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", Encoding.ASCII.GetString(read.Octets), StringComparison.Ordinal);
    }

    [Fact]
    public void A_huge_header_is_cut_at_a_line()
    {
        byte[] huge = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 5000).Select(static i => $"X-Line-{i}: {new string('x', 40)}\r\n")));
        ReportReader read = Compose(Input() with { OriginalHeaders = huge });
        Assert.InRange(read.Octets.Length, DeliveryReport.MaxHeaders - 100, DeliveryReport.MaxHeaders + 3000);
        Assert.EndsWith(new string('x', 40), read.Returned.TrimEnd(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\r\nno header at all\r\n")]
    public void A_message_without_a_header_has_an_empty_third_part(string original) =>
        Assert.Equal("", Compose(Input() with { OriginalHeaders = Encoding.ASCII.GetBytes(original) }).Returned.Trim());

    [Fact]
    public void With_SMTPUTF8_the_forms_of_RFC_6533_are_used()
    {
        ReportReader read = Compose(Input(ReportAction.Failed, new ReportedRecipient(ReportReader.Address("émile@to.example"), NoSuchUser with { Text = "boîte inconnue" }, Now)) with
        {
            SmtpUtf8 = true,
            OriginalHeaders = Encoding.UTF8.GetBytes("From: zoé@from.example\r\nSubject: déjà vu\r\n\r\n"),
        });
        Assert.Equal("message/global-delivery-status", read.Report[1].ContentType.MimeType);
        Assert.Equal("message/global-headers", read.Report[2].ContentType.MimeType);
        string all = Encoding.UTF8.GetString(read.Octets);
        Assert.Contains("Final-Recipient: utf-8; émile@to.example\r\n", all, StringComparison.Ordinal);
        Assert.Contains("Subject: déjà vu\r\n", all, StringComparison.Ordinal);
        Assert.Contains("boîte inconnue", read.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_SMTPUTF8_an_address_outside_ASCII_is_written_in_ASCII()
    {
        ReportReader read = Compose(Input(ReportAction.Failed, new ReportedRecipient(ReportReader.Address("émile@to.example"), NoSuchUser, Now)));
        Assert.Equal("utf-8; \\x{E9}mile@to.example", read.Groups[1]["Final-Recipient"]);
    }

    [Fact]
    public void A_returned_header_cannot_end_its_part()
    {
        string guess = $"=_{new MessageId(77)}_0";
        ReportReader read = Compose(Input() with { OriginalHeaders = Encoding.ASCII.GetBytes($"Subject: x\r\n--{guess}--\r\n--{guess}\r\nX-After: y\r\n\r\n") });
        Assert.Contains("X-After: y", Encoding.ASCII.GetString(read.Octets), StringComparison.Ordinal);
        Assert.NotEqual(guess, read.Report.Boundary);
    }

    [Fact]
    public void Whatever_peers_clients_and_senders_wrote_the_report_keeps_its_form()
    {
        Gen<string> hostile = Gen.String[Gen.Frequency((5, Gen.Char[' ', '~']), (1, Gen.Char['\0', '\u001F']), (1, Gen.Char['\u0080', '\uFFFF'])), 0, 1500];
        Gen.Select(hostile, hostile, hostile, Gen.Byte.Array[0, 3000], Gen.Bool).Sample((text, peer, helo, header, utf8) =>
        {
            ReportReader read = Compose(Input(ReportAction.Failed, new ReportedRecipient(ReportReader.Address("r@to.example"), NoSuchUser with { Text = text, Peer = peer }, Now)) with
            {
                ReceivedFrom = helo,
                OriginalHeaders = header,
                SmtpUtf8 = utf8,
            });
            Assert.Equal("failed", utf8 ? "failed" : read.Groups[1]["Action"]);
        }, iter: 300);
    }

    private static string? Unfolded(string? field) => field is null ? null : string.Join(' ', field.Split([' ', '\t', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries));
}
