using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using HighPerfMta.FunctionalTests.Support;
using MailKit;
using MailKit.Net.Smtp;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>DSN from a client that others wrote, through the whole server, to a next hop that knows DSN and to one that does not.</summary>
public class DsnTests
{
    [Fact]
    public async Task A_next_hop_with_DSN_sees_what_MailKit_asked_for()
    {
        ConcurrentQueue<string> lines = [];
        await using CapturingSink sink = new(line => Note(lines, line, "250-sink.test\r\n250-PIPELINING\r\n250 DSN"));
        await using MtaProcess mta = await StartAsync(sink);
        await SendAsync(mta, "one@example.net");
        CapturedMessage got = await sink.NextAsync();
        Assert.Equal(["one@example.net"], got.Recipients);
        Assert.Contains(lines, static l => l.StartsWith("MAIL FROM:<app@example.org>", StringComparison.Ordinal) && l.Contains(" RET=HDRS ENVID=order-17", StringComparison.Ordinal));
        Assert.Contains("RCPT TO:<one@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;one@example.net", lines);
        Assert.False(sink.TryNext(out _));
    }

    [Fact]
    public async Task For_a_next_hop_without_DSN_the_sender_is_told_that_it_was_relayed()
    {
        ConcurrentQueue<string> lines = [];
        await using CapturingSink sink = new(line => Note(lines, line, null));
        await using MtaProcess mta = await StartAsync(sink);
        await SendAsync(mta, "one@example.net");
        CapturedMessage first = await sink.NextAsync();
        CapturedMessage second = await sink.NextAsync();
        CapturedMessage report = first.Sender.Length == 0 ? first : second;
        Assert.Equal(("", "app@example.org"), (report.Sender, Assert.Single(report.Recipients)));
        Assert.DoesNotContain(lines, static l => l.Contains("NOTIFY", StringComparison.Ordinal) || l.Contains("ENVID", StringComparison.Ordinal));
        using MemoryStream stream = new(Encoding.Latin1.GetBytes(report.Content));
        using MimeMessage read = await MimeMessage.LoadAsync(stream, TestContext.Current.CancellationToken);
        MessageDeliveryStatus status = Assert.IsType<MessageDeliveryStatus>(Assert.IsType<MultipartReport>(read.Body)[1]);
        Assert.Equal("order-17", status.StatusGroups[0]["Original-Envelope-Id"]);
        Assert.Equal(("relayed", "rfc822; one@example.net", "2.0.0"), (status.StatusGroups[1]["Action"], status.StatusGroups[1]["Original-Recipient"], status.StatusGroups[1]["Status"]));
    }

    private static string? Note(ConcurrentQueue<string> lines, string line, string? ehlo)
    {
        lines.Enqueue(line);
        return line.StartsWith("EHLO", StringComparison.Ordinal) ? ehlo : null;
    }

    private static async Task SendAsync(MtaProcess mta, string recipient)
    {
        using DsnClient client = new();
        await client.ConnectAsync("127.0.0.1", mta.Port, MailKit.Security.SecureSocketOptions.None, TestContext.Current.CancellationToken);
        Assert.True(client.Capabilities.HasFlag(SmtpCapabilities.Dsn));
        using MimeMessage message = new();
        message.From.Add(MailboxAddress.Parse("app@example.org"));
        message.To.Add(MailboxAddress.Parse(recipient));
        message.Subject = "by MailKit";
        message.Body = new TextPart("plain") { Text = "text" };
        await client.SendAsync(message, TestContext.Current.CancellationToken);
        await client.DisconnectAsync(true, TestContext.Current.CancellationToken);
    }

    private static Task<MtaProcess> StartAsync(CapturingSink sink) => MtaProcess.StartAsync($"""
        [[route]]
        domains = ["*"]
        to = "smtp://127.0.0.1:{sink.Port.ToString(CultureInfo.InvariantCulture)}"
        """);

    private sealed class DsnClient : SmtpClient
    {
        public DsnClient() => DeliveryStatusNotificationType = DeliveryStatusNotificationType.HeadersOnly;

        protected override string GetEnvelopeId(MimeMessage message) => "order-17";

        protected override DeliveryStatusNotification? GetDeliveryStatusNotifications(MimeMessage message, MailboxAddress mailbox) =>
            DeliveryStatusNotification.Success | DeliveryStatusNotification.Failure;
    }
}
