using System.Globalization;
using HighPerfMta.FunctionalTests.Support;
using MailKit.Net.Smtp;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>Clients that others wrote hand us mail; it arrives at the next hop as they sent it.</summary>
public class ClientTests
{
    [Fact]
    public async Task Swaks_sends_and_the_next_hop_gets_it()
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        string dialogue = await Peer.RunAsync(swaks,
        [
            "--server", "127.0.0.1", "--port", Text(mta.Port), "--from", "app@example.org", "--to", "one@example.net,two@example.net",
            "--header", "Subject: by swaks", "--body", "first line\n.dot line\nlast line", "--helo", "app.example.org",
        ]);
        Assert.Contains("queued as", dialogue, StringComparison.Ordinal);
        CapturedMessage got = await sink.NextAsync();
        Assert.Equal("app@example.org", got.Sender);
        Assert.Equal(["one@example.net", "two@example.net"], got.Recipients);
        Assert.Contains("\r\nSubject: by swaks\r\n", got.Content, StringComparison.Ordinal);
        Assert.Contains("first line\r\n.dot line\r\nlast line\r\n", got.Content, StringComparison.Ordinal);
        Assert.Contains("from app.example.org ([127.0.0.1])", got.Content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Swaks_pipelines()
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        await Peer.RunAsync(swaks, ["--server", "127.0.0.1", "--port", Text(mta.Port), "--pipeline", "--from", "<>", "--to", "a@example.net"]);
        Assert.Equal("", (await sink.NextAsync()).Sender);
    }

    [Fact]
    public async Task Curl_sends_a_file_byte_exact()
    {
        string curl = Peer.Require("curl");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        using TempFolder folder = new();
        const string message = "From: <a@example.org>\r\nSubject: by curl\r\n\r\n..two dots\r\n.\r\n \ttabs and spaces \r\n";
        await File.WriteAllTextAsync(folder.File("mail"), message, TestContext.Current.CancellationToken);
        await Peer.RunAsync(curl,
        [
            "--silent", "--show-error", $"smtp://127.0.0.1:{Text(mta.Port)}/app.example.org", "--mail-from", "a@example.org", "--mail-rcpt", "b@example.net",
            "--upload-file", folder.File("mail"),
        ]);
        Assert.Equal(message, (await sink.NextAsync()).WithoutFirstReceived);
    }

    [Fact]
    public async Task Python_smtplib_sends_several_messages_on_a_connection()
    {
        string python = Peer.Require("python3");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        const string script = """
            import smtplib, sys
            with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=30) as s:
                for i in range(3):
                    s.sendmail("a@example.org", ["b%d@example.net" % i], "Subject: %d\r\n\r\nbody %d\r\n" % (i, i))
                refused = None
                try:
                    s.sendmail("a@example.org", ["bad address@example.net"], "x")
                except smtplib.SMTPRecipientsRefused as e:
                    refused = e
                assert refused, "a malformed recipient must be refused"
                s.sendmail("a@example.org", ["after@example.net"], "Subject: after\r\n\r\nstill in step\r\n")
            """;
        await Peer.RunAsync(python, ["-", Text(mta.Port)], script);
        HashSet<string> recipients = [];
        for (int i = 0; i < 4; i++)
        {
            recipients.Add((await sink.NextAsync()).Recipients.Single());
        }

        Assert.Equal(["after@example.net", "b0@example.net", "b1@example.net", "b2@example.net"], recipients.Order());
    }

    [Fact]
    public async Task MailKit_sends_with_pipelining_chunking_and_utf8()
    {
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink);
        using SmtpClient client = new();
        await client.ConnectAsync("127.0.0.1", mta.Port, MailKit.Security.SecureSocketOptions.None, TestContext.Current.CancellationToken);
        Assert.True(client.Capabilities.HasFlag(
            SmtpCapabilities.Pipelining | SmtpCapabilities.Chunking | SmtpCapabilities.EightBitMime | SmtpCapabilities.UTF8 | SmtpCapabilities.Size | SmtpCapabilities.EnhancedStatusCodes));
        using MimeMessage message = new();
        message.From.Add(new MailboxAddress("Ärne", "ärne@example.org"));
        message.To.Add(new MailboxAddress("Zoë", "zoë@bücher.example"));
        message.Subject = "Grüße";
        message.Body = new TextPart("plain") { Text = string.Concat(Enumerable.Repeat("Zeile mit Umlauten äöü\r\n", 5000)) };
        string reply = await client.SendAsync(message, TestContext.Current.CancellationToken);
        Assert.Contains("queued as", reply, StringComparison.Ordinal);
        await client.DisconnectAsync(true, TestContext.Current.CancellationToken);
        CapturedMessage got = await sink.NextAsync();
        Assert.Equal("zo\u00c3\u00ab@xn--bcher-kva.example", Assert.Single(got.Recipients));
        Assert.Contains("with UTF8SMTP", got.Content, StringComparison.Ordinal);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static Task<MtaProcess> StartAsync(CapturingSink sink) => MtaProcess.StartAsync($"""
        [[route]]
        domains = ["*"]
        to = "smtp://127.0.0.1:{Text(sink.Port)}"
        """);
}
