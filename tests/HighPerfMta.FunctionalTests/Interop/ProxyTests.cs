using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.TestKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>Behind HAProxy, and as the next hop of a Postfix that forwards what it knows of its client.</summary>
public sealed class ProxyTests
{
    private static readonly IPAddress Known = IPAddress.Parse("127.0.0.5");
    private static readonly IPAddress Unknown = IPAddress.Parse("127.0.0.6");

    [Theory]
    [InlineData("send-proxy")]
    [InlineData("send-proxy-v2")]
    [InlineData("send-proxy-v2 proxy-v2-options crc32c,unique-id check check-send-proxy inter 100ms")]
    public async Task Haproxy_passes_on_its_clients_and_their_rights(string options)
    {
        Peer.Require("haproxy");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink.Port);
        await using HaproxyInstance haproxy = await HaproxyInstance.StartAsync(mta.Port, options);
        using (TcpClient client = await ConnectAsync(haproxy.Port, Unknown))
        {
            SmtpTestClient smtp = new(client.GetStream());
            Assert.StartsWith("220", await smtp.ReadReplyAsync());
            await smtp.CommandAsync("EHLO unknown.test");
            Assert.StartsWith("550 5.7.1", await smtp.CommandAsync("MAIL FROM:<a@example.org>"));
        }

        using (TcpClient client = await ConnectAsync(haproxy.Port, Known))
        {
            await SendAsync(new SmtpTestClient(client.GetStream()));
        }

        Assert.Contains("from known.test ([127.0.0.5])", (await sink.NextAsync()).Content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Haproxy_before_implicit_tls()
    {
        Peer.Require("haproxy");
        using TestAuthority authority = new();
        using X509Certificate2 certificate = authority.Issue(["mx.test"]);
        CertificateFiles files = authority.Write(certificate);
        int port = Ports.Free();
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink.Port, $$"""
            [[listener]]
            address = "127.0.0.1:{{Text(port)}}"
            tls = "implicit"
            proxy_protocol = ["127.0.0.1"]

            [tls]
            certificates = [ { cert = "{{files.Certificate}}", key = "{{files.Key}}" } ]
            """);
        await using HaproxyInstance haproxy = await HaproxyInstance.StartAsync(port, "send-proxy-v2");
        using TcpClient client = await ConnectAsync(haproxy.Port, Known);
        await using SslStream secure = await authority.ConnectAsync(client.GetStream(), "mx.test");
        await SendAsync(new SmtpTestClient(secure));
        string content = (await sink.NextAsync()).Content;
        Assert.Contains("from known.test ([127.0.0.5])", content, StringComparison.Ordinal);
        Assert.Contains("with ESMTPS", content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Postfix_forwards_its_client_and_the_event_log_has_it()
    {
        Peer.Require("postfix");
        await using CapturingSink sink = new();
        await using MtaProcess mta = await StartAsync(sink.Port);
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"relayhost = [127.0.0.1]:{Text(await PlainAsync(mta))}\nsmtp_send_xforward_command = yes");
        await Peer.RunAsync(Peer.Require("swaks"),
            ["--server", "127.0.0.1", "--port", Text(postfix.Port), "--helo", "origin.test", "--from", "a@example.org", "--to", "b@example.net"]);
        await sink.NextAsync();
        await Eventually.TrueAsync(
            () => Task.FromResult(Directory.EnumerateFiles(Path.Combine(mta.DataDirectory, "events")).Any(static f => Forwarded(ReadShared(f)))),
            () => "no event with what was forwarded\n" + mta.Log);
    }

    private static bool Forwarded(string events) =>
        events.Contains("\"forwarded\":{", StringComparison.Ordinal) && events.Contains("\"helo\":\"origin.test\"", StringComparison.Ordinal)
        && events.Contains("\"address\":\"127.0.0.1\"", StringComparison.Ordinal) && events.Contains("\"id\":\"", StringComparison.Ordinal);

    private static string ReadShared(string path)
    {
        using StreamReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        return reader.ReadToEnd();
    }

    /// <summary>The port of the listener for XCLIENT and XFORWARD, which <see cref="StartAsync"/> wrote into the configuration.</summary>
    private static async Task<int> PlainAsync(MtaProcess mta)
    {
        string configuration = await File.ReadAllTextAsync(mta.ConfigFile, TestContext.Current.CancellationToken);
        return int.Parse(configuration.Split("# forwarding: ")[1].Split('\n')[0], CultureInfo.InvariantCulture);
    }

    private static async Task SendAsync(SmtpTestClient smtp)
    {
        Assert.StartsWith("220", await smtp.ReadReplyAsync());
        Assert.StartsWith("250", await smtp.CommandAsync("EHLO known.test"));
        Assert.StartsWith("250", await smtp.CommandAsync("MAIL FROM:<a@example.org>"));
        Assert.StartsWith("250", await smtp.CommandAsync("RCPT TO:<b@example.net>"));
        Assert.StartsWith("354", await smtp.CommandAsync("DATA"));
        Assert.StartsWith("250", await smtp.CommandAsync("Subject: x\r\n\r\ntext\r\n."));
        Assert.StartsWith("221", await smtp.CommandAsync("QUIT"));
    }

    private static async Task<TcpClient> ConnectAsync(int port, IPAddress from)
    {
        TcpClient client = new(new IPEndPoint(from, 0));
        await client.ConnectAsync(IPAddress.Loopback, port, TestContext.Current.CancellationToken);
        return client;
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static async Task<MtaProcess> StartAsync(int nextHop, string more = "")
    {
        int forwarding = Ports.Free();
        return await MtaProcess.StartAsync(
            $"""
            # forwarding: {Text(forwarding)}
            [[listener]]
            address = "127.0.0.1:{Text(forwarding)}"
            xclient = ["127.0.0.1"]

            [relay]
            networks = ["127.0.0.1", "127.0.0.5"]

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{Text(nextHop)}"

            {more}
            """,
            listener: "proxy_protocol = [\"127.0.0.1\"]");
    }
}
