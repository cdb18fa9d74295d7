using System.Globalization;
using System.Text;
using HighPerfMta.FunctionalTests.Support;
using MailKit.Net.Smtp;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>Postfix hands mail to us, and we hand mail to Postfix.</summary>
public class PostfixTests
{
    [Fact]
    public async Task Postfix_is_the_previous_hop()
    {
        Peer.Require("postfix");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink.Port);
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"relayhost = [127.0.0.1]:{Text(mta.Port)}");
        await SendAsync(postfix.Port, "through postfix first", 10);
        for (int i = 0; i < 10; i++)
        {
            CapturedMessage got = await sink.NextAsync();
            Assert.Contains("by relay.test", got.Content, StringComparison.Ordinal);
            Assert.Contains("by postfix.test (Postfix)", got.WithoutFirstReceived, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Postfix_is_the_next_hop()
    {
        Peer.Require("postfix");
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"relayhost = [127.0.0.1]:{Text(sink.Port)}");
        await using MtaProcess mta = await StartAsync(postfix.Port);
        await SendAsync(mta.Port, "through us first", 10);
        for (int i = 0; i < 10; i++)
        {
            CapturedMessage got = await sink.NextAsync();
            Assert.Contains("from relay.test", got.Content, StringComparison.Ordinal);
            Assert.Contains("by relay.test", got.WithoutFirstReceived, StringComparison.Ordinal);
        }
    }

    /// <summary>Both with CHUNKING, as Postfix is by itself, and without: then it sees the next envelope behind the end of a message.</summary>
    [Theory]
    [InlineData("", 4)]
    [InlineData("", 1)]
    [InlineData("smtpd_discard_ehlo_keywords = chunking", 4)]
    public async Task Many_messages_over_few_connections_to_postfix_arrive_once_each(string mainCf, int pipelined)
    {
        const int Messages = 400;
        Peer.Require("postfix");
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"""
            relayhost = [127.0.0.1]:{Text(sink.Port)}
            {mainCf}
            """);
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [delivery]
            connections_per_site = 2
            pipelined_messages = {Text(pipelined)}

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{Text(postfix.Port)}"
            """);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(session => SendNumberedAsync(mta.Port, Enumerable.Range(session * Messages / 8, Messages / 8))));
        List<string> subjects = [];
        for (int i = 0; i < Messages; i++)
        {
            CapturedMessage got = await sink.NextAsync();
            Assert.Equal(["rcpt@example.net"], got.Recipients);
            using MemoryStream bytes = new(Encoding.Latin1.GetBytes(got.Content));
            using MimeMessage parsed = await MimeMessage.LoadAsync(bytes, TestContext.Current.CancellationToken);
            Assert.Equal(parsed.Subject, Assert.IsType<TextPart>(parsed.Body).Text.TrimEnd());
            subjects.Add(parsed.Subject!);
        }

        Assert.Equal(Enumerable.Range(0, Messages).Select(static i => $"message {Text(i)}").Order(StringComparer.Ordinal), subjects.Order(StringComparer.Ordinal));
        Assert.False(sink.TryNext(out _));
        Assert.DoesNotContain("improper command pipelining", postfix.Log, StringComparison.Ordinal);
        Assert.InRange(postfix.Log.Split('\n').Count(static l => l.Contains("smtpd", StringComparison.Ordinal) && l.Contains(": connect from", StringComparison.Ordinal)), 1, 40);
    }

    private static async Task SendNumberedAsync(int port, IEnumerable<int> numbers)
    {
        using SmtpClient client = await ConnectAsync(port);
        foreach (int number in numbers)
        {
            using MimeMessage message = Compose($"message {Text(number)}");
            message.Body = new TextPart("plain") { Text = $"message {Text(number)}\r\n" };
            await client.SendAsync(message, TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task Postfix_refuses_a_recipient_and_the_sender_gets_a_report()
    {
        Peer.Require("postfix");
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($$"""
            relayhost = [127.0.0.1]:{{Text(sink.Port)}}
            smtpd_recipient_restrictions = check_recipient_access inline:{bad@example.net=REJECT}, permit_mynetworks, reject
            """);
        await using MtaProcess mta = await StartAsync(postfix.Port);
        using SmtpClient client = await ConnectAsync(mta.Port);
        using MimeMessage message = Compose("half of it fails");
        await client.SendAsync(message, new MailboxAddress("", "sender@example.org"),
            [new MailboxAddress("", "good@example.net"), new MailboxAddress("", "bad@example.net")], TestContext.Current.CancellationToken);
        CapturedMessage[] got = [await sink.NextAsync(), await sink.NextAsync()];
        CapturedMessage original = got.Single(static m => m.Sender == "sender@example.org");
        CapturedMessage report = got.Single(static m => m.Sender.Length == 0);
        Assert.Equal(["good@example.net"], original.Recipients);
        Assert.Equal(["sender@example.org"], report.Recipients);
        using MemoryStream bytes = new(Encoding.Latin1.GetBytes(report.Content));
        using MimeMessage parsed = await MimeMessage.LoadAsync(bytes, TestContext.Current.CancellationToken);
        MultipartReport multipart = Assert.IsType<MultipartReport>(parsed.Body);
        Assert.Equal("delivery-status", multipart.ReportType);
        MessageDeliveryStatus status = multipart.OfType<MessageDeliveryStatus>().Single();
        HeaderList fields = status.StatusGroups[1];
        Assert.Equal("failed", fields["Action"]);
        Assert.Equal("rfc822; bad@example.net", fields["Final-Recipient"]);
        Assert.StartsWith("5.7.1", fields["Status"], StringComparison.Ordinal);
        Assert.Contains("554", fields["Diagnostic-Code"], StringComparison.Ordinal);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static Task<MtaProcess> StartAsync(int nextHop) => MtaProcess.StartAsync($"""
        [[route]]
        domains = ["*"]
        to = "smtp://127.0.0.1:{Text(nextHop)}"
        """);

    private static async Task<SmtpClient> ConnectAsync(int port)
    {
        SmtpClient client = new();
        await client.ConnectAsync("127.0.0.1", port, MailKit.Security.SecureSocketOptions.None, TestContext.Current.CancellationToken);
        return client;
    }

    private static MimeMessage Compose(string subject)
    {
        MimeMessage message = new();
        message.From.Add(new MailboxAddress("", "sender@example.org"));
        message.To.Add(new MailboxAddress("", "rcpt@example.net"));
        message.Subject = subject;
        message.Body = new TextPart("plain") { Text = "text\r\n" };
        return message;
    }

    private static async Task SendAsync(int port, string subject, int count)
    {
        using SmtpClient client = await ConnectAsync(port);
        for (int i = 0; i < count; i++)
        {
            using MimeMessage message = Compose(subject);
            await client.SendAsync(message, TestContext.Current.CancellationToken);
        }
    }
}
