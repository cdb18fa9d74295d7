using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.TestKit;
using MailKit.Net.Smtp;
using MailKit.Security;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>TLS with clients that others wrote, against the whole server.</summary>
public sealed class TlsTests : IDisposable
{
    private readonly TestAuthority _authority = new();

    public void Dispose() => _authority.Dispose();

    [Theory]
    [InlineData(false, "-tls1_2", "TLSv1.2")]
    [InlineData(false, "-tls1_3", "TLSv1.3")]
    [InlineData(true, "-tls1_2", "TLSv1.2")]
    [InlineData(true, "-tls1_3", "TLSv1.3")]
    public async Task Openssl_verifies_the_certificate_of_the_name_it_asks_for(bool implicitTls, string version, string shown)
    {
        string openssl = Peer.Require("openssl");
        await using Server server = await StartAsync();
        foreach ((string name, string expected) in ((string, string)[])[("mx.test", "mx.test"), ("mail.other.test", "*.other.test"), ("unknown.test", "mx.test")])
        {
            string output = await Peer.RunAsync(
                openssl,
                [
                    "s_client", "-connect", implicitTls ? server.Implicit : server.Plain, .. (string[])(implicitTls ? [] : ["-starttls", "smtp"]), version, "-servername", name,
                    "-CAfile", _authority.RootFile, "-verify_return_error", "-ign_eof", "-crlf",
                ],
                "ehlo client.test\nquit\n");
            Assert.Contains("Verify return code: 0 (ok)", output, StringComparison.Ordinal);
            Assert.Contains($"subject=CN = {expected}", output, StringComparison.Ordinal);
            Assert.Contains(shown, output, StringComparison.Ordinal);
            Assert.Contains("221 2.0.0 Bye", output, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("-tls1_2", "Reused, TLSv1.2")]
    [InlineData("-tls1_3", "Reused, TLSv1.3")]
    public async Task Openssl_resumes_its_session(string version, string shown)
    {
        string openssl = Peer.Require("openssl");
        await using Server server = await StartAsync();
        using TempFolder folder = new();
        string[] common = ["s_client", "-connect", server.Implicit, version, "-CAfile", _authority.RootFile, "-servername", "mx.test", "-ign_eof", "-crlf"];
        string first = await Peer.RunAsync(openssl, [.. common, "-sess_out", folder.File("session")], "noop\nquit\n");
        Assert.DoesNotContain("Reused", first, StringComparison.Ordinal);
        string second = await Peer.RunAsync(openssl, [.. common, "-sess_in", folder.File("session")], "noop\nquit\n");
        Assert.Contains(shown, second, StringComparison.Ordinal);
        Assert.Contains("221 2.0.0 Bye", second, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Openssl_that_refuses_the_certificate_or_knows_only_old_versions_is_told_in_the_log()
    {
        string openssl = Peer.Require("openssl");
        await using Server server = await StartAsync();
        await Peer.RunAsync(openssl, ["s_client", "-connect", server.Implicit, "-verify_return_error"], expectedExit: 1);
        await Eventually.TrueAsync(() => Task.FromResult(server.Mta.Log.Contains("the client refused; it may not trust the certificate", StringComparison.Ordinal)), () => server.Mta.Log);
        await Peer.RunAsync(openssl, ["s_client", "-connect", server.Implicit, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], expectedExit: 1);
        await Eventually.TrueAsync(() => Task.FromResult(server.Mta.Log.Contains("the client speaks no version of TLS that is allowed here", StringComparison.Ordinal)), () => server.Mta.Log);
        Assert.DoesNotContain("Exception", server.Mta.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Openssl_with_a_certificate_may_relay()
    {
        string openssl = Peer.Require("openssl");
        using X509Certificate2 certificate = _authority.Issue(["app.test"]);
        CertificateFiles files = _authority.Write(certificate, "app");
        await using Server server = await StartAsync(
            "client_certificates = \"request\"", $"certificates = [\"{Convert.ToHexString(SHA256.HashData(certificate.RawData))}\"]\nnetworks = []");
        string[] common = ["s_client", "-connect", server.Implicit, "-CAfile", _authority.RootFile, "-ign_eof", "-crlf"];
        const string dialogue = "ehlo client.test\nmail from:<a@example.org>\nquit\n";
        Assert.Contains("250 2.1.0", await Peer.RunAsync(openssl, [.. common, "-cert", files.Certificate, "-key", files.Key], dialogue), StringComparison.Ordinal);
        Assert.Contains("550 5.7.1", await Peer.RunAsync(openssl, common, dialogue), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("-tls1_2")]
    [InlineData("-tls1_3")]
    public async Task A_certificate_does_not_count_on_another_listener_whose_clients_are_not_asked(string version)
    {
        string openssl = Peer.Require("openssl");
        using X509Certificate2 certificate = _authority.Issue(["app.test"]);
        CertificateFiles files = _authority.Write(certificate, "app");
        using TempFolder folder = new();
        await using Server server = await StartAsync(
            "client_certificates = \"request\"", $"certificates = [\"{Convert.ToHexString(SHA256.HashData(certificate.RawData))}\"]\nnetworks = []");
        string[] common = ["s_client", version, "-CAfile", _authority.RootFile, "-servername", "mx.test", "-ign_eof", "-crlf"];
        const string dialogue = "ehlo client.test\nmail from:<a@example.org>\nquit\n";
        string first = await Peer.RunAsync(
            openssl, [.. common, "-connect", server.Implicit, "-cert", files.Certificate, "-key", files.Key, "-sess_out", folder.File("session")], dialogue);
        Assert.Contains("250 2.1.0", first, StringComparison.Ordinal);
        string second = await Peer.RunAsync(openssl, [.. common, "-connect", server.Plain, "-starttls", "smtp", "-sess_in", folder.File("session")], dialogue);
        Assert.Contains("Reused", second, StringComparison.Ordinal);
        Assert.Contains("550 5.7.1", second, StringComparison.Ordinal);
        Assert.DoesNotContain("250 2.1.0", second, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--tls")]
    [InlineData("--tls-on-connect")]
    public async Task Swaks_sends(string how)
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink: sink);
        string address = how == "--tls" ? server.Plain : server.Implicit;
        await Peer.RunAsync(
            swaks, ["--server", "127.0.0.1", "--port", address.Split(':')[1], how, "--tls-verify", "--tls-ca-path", _authority.RootFile, "--tls-sni", "mx.test", "--from", "a@example.org", "--to", "b@example.net"]);
        Assert.Contains("with ESMTPS", (await sink.NextAsync()).Content, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(SecureSocketOptions.StartTls)]
    [InlineData(SecureSocketOptions.SslOnConnect)]
    public async Task MailKit_sends_and_the_event_log_says_how(SecureSocketOptions how)
    {
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink: sink);
        using SmtpClient client = new() { ServerCertificateValidationCallback = (_, certificate, _, _) => certificate!.Subject == "CN=mx.test" };
        int port = int.Parse((how == SecureSocketOptions.StartTls ? server.Plain : server.Implicit).Split(':')[1], CultureInfo.InvariantCulture);
        await client.ConnectAsync("127.0.0.1", port, how, TestContext.Current.CancellationToken);
        using MimeMessage message = new();
        message.From.Add(new MailboxAddress("", "a@example.org"));
        message.To.Add(new MailboxAddress("", "b@example.net"));
        message.Body = new TextPart("plain") { Text = string.Concat(Enumerable.Repeat("a line of text\r\n", 20_000)) };
        await client.SendAsync(message, TestContext.Current.CancellationToken);
        await client.DisconnectAsync(true, TestContext.Current.CancellationToken);
        CapturedMessage got = await sink.NextAsync();
        Assert.Contains("with ESMTPS", got.Content, StringComparison.Ordinal);
        Assert.Matches(@"tls TLS_[A-Z0-9_]+\s+\(TLSv1\.3\);", got.Content);
        await Eventually.TrueAsync(
            () => Task.FromResult(Directory.EnumerateFiles(Path.Combine(server.Mta.DataDirectory, "events")).Any(static f => ReadShared(f).Contains("\"tls\":\"TLSv1.3 TLS_", StringComparison.Ordinal))),
            () => "no event with tls\n" + server.Mta.Log);
    }

    [Theory]
    [InlineData("smtp_tls_security_level = encrypt", false)]
    [InlineData("smtp_tls_security_level = encrypt\nsmtp_tls_wrappermode = yes", true)]
    public async Task Postfix_that_insists_on_tls_is_the_previous_hop(string mainCf, bool implicitTls)
    {
        Peer.Require("postfix");
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink: sink);
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"relayhost = [127.0.0.1]:{(implicitTls ? server.Implicit : server.Plain).Split(':')[1]}\n{mainCf}");
        await Peer.RunAsync(Peer.Require("swaks"), ["--server", "127.0.0.1", "--port", postfix.Port.ToString(CultureInfo.InvariantCulture), "--from", "a@example.org", "--to", "b@example.net"]);
        Assert.Contains("with ESMTPS", (await sink.NextAsync()).Content, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_renewed_certificate_is_taken_without_a_restart_and_sessions_live_on()
    {
        await using Server server = await StartAsync();
        await using SslStream before = await ConnectAsync(server);
        SmtpTestClient client = new(before);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.Equal("CN=mx.test", before.RemoteCertificate!.Subject);

        using X509Certificate2 renewed = _authority.Issue(["renewed.test"]);
        _authority.Write(renewed);
        await HangUpAsync(server.Mta);
        await Eventually.TrueAsync(
            async () =>
            {
                await using SslStream now = await ConnectAsync(server);
                return now.RemoteCertificate!.Subject == "CN=renewed.test";
            },
            () => server.Mta.Log);
        TestAuthority.Replace(Path.ChangeExtension(server.Certificate, ".key"), "broken");
        await HangUpAsync(server.Mta);
        await Eventually.TrueAsync(() => Task.FromResult(server.Mta.Log.Contains("a changed certificate cannot be used", StringComparison.Ordinal)), () => server.Mta.Log);
        await using SslStream after = await ConnectAsync(server);
        Assert.Equal("CN=renewed.test", after.RemoteCertificate!.Subject);
        Assert.StartsWith("250", await client.CommandAsync("EHLO client.test"));
        Assert.StartsWith("221", await client.CommandAsync("QUIT"));
    }

    [Fact]
    public async Task A_certificate_that_names_a_responder_is_sent_with_its_answer()
    {
        string openssl = Peer.Require("openssl");
        int port = Ports.Free();
        using X509Certificate2 certificate = _authority.Issue(["mx.test"], ocsp: new Uri($"http://127.0.0.1:{port.ToString(CultureInfo.InvariantCulture)}/"));
        (string index, string signer) = _authority.WriteResponder(certificate);
        using Process responder = Process.Start(new ProcessStartInfo(
            openssl, ["ocsp", "-index", index, "-port", port.ToString(CultureInfo.InvariantCulture), "-rsigner", signer, "-CA", _authority.RootFile, "-ndays", "1"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;
        try
        {
            await using Server server = await StartAsync(first: certificate);
            string shown = "";
            await Eventually.TrueAsync(
                async () =>
                {
                    shown = await Peer.RunAsync(
                        openssl, ["s_client", "-connect", server.Implicit, "-status", "-servername", "mx.test", "-CAfile", _authority.RootFile, "-ign_eof", "-crlf"], "quit\n");
                    return shown.Contains("OCSP Response Status: successful", StringComparison.Ordinal);
                },
                () => shown + server.Mta.Log);
            Assert.Contains("Cert Status: good", shown, StringComparison.Ordinal);
        }
        finally
        {
            responder.Kill();
            await responder.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public async Task Metrics_count_handshakes_failures_and_the_days_that_are_left()
    {
        string curl = Peer.Require("curl");
        await using Server server = await StartAsync(http: true);
        await using (SslStream session = await ConnectAsync(server))
        {
            Assert.StartsWith("220", await new SmtpTestClient(session).ReadReplyAsync());
        }

        using (TcpClient plain = new())
        {
            await plain.ConnectAsync(IPAddress.Loopback, int.Parse(server.Implicit.Split(':')[1], CultureInfo.InvariantCulture), TestContext.Current.CancellationToken);
            Assert.StartsWith("554 5.7.0", await new SmtpTestClient(plain.GetStream()).CommandAsync("EHLO client.test"));
        }

        string metrics = await Peer.RunAsync(curl, ["--silent", "--show-error", $"http://{server.Http}/metrics"]);
        Assert.Matches("(?m)^hpmta_tls_handshakes_total\\{protocol=\"TLSv1.3\",cipher=\"TLS_[A-Z0-9_]+\"\\} 1$", metrics);
        Assert.Contains("\nhpmta_tls_handshake_failures_total{cause=\"plaintext\"} 1\n", metrics, StringComparison.Ordinal);
        Assert.Matches("(?m)^hpmta_tls_certificate_not_after_seconds\\{certificate=\"[^\"]*mx.pem\"\\} [0-9]{10}$", metrics);
        Assert.Matches("(?m)^hpmta_tls_certificate_refused\\{certificate=\"[^\"]*mx.pem\"\\} 0$", metrics);
    }

    private static string ReadShared(string path)
    {
        using StreamReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        return reader.ReadToEnd();
    }

    private static async Task HangUpAsync(MtaProcess mta)
    {
        using Process kill = Process.Start("kill", ["-HUP", mta.Id.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
    }

    private async Task<SslStream> ConnectAsync(Server server)
    {
        Socket socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(IPEndPoint.Parse(server.Implicit), TestContext.Current.CancellationToken);
        return await _authority.ConnectAsync(new NetworkStream(socket, ownsSocket: true));
    }

    private async Task<Server> StartAsync(string listener = "", string relay = "", CapturingSink? sink = null, bool http = false, X509Certificate2? first = null)
    {
        using X509Certificate2 usual = _authority.Issue(["mx.test"]);
        using X509Certificate2 second = _authority.Issue(["*.other.test"], rsa: true);
        CertificateFiles mx = _authority.Write(first ?? usual);
        CertificateFiles other = _authority.Write(second, "other");
        string implicitTls = $"127.0.0.1:{Ports.Free().ToString(CultureInfo.InvariantCulture)}";
        string web = http ? $"127.0.0.1:{Ports.Free().ToString(CultureInfo.InvariantCulture)}" : "";
        MtaProcess mta = await MtaProcess.StartAsync(
            $$"""
            [[listener]]
            address = "{{implicitTls}}"
            tls = "implicit"
            {{listener}}

            [tls]
            certificates = [ { cert = "{{mx.Certificate}}", key = "{{mx.Key}}" }, { cert = "{{other.Certificate}}", key = "{{other.Key}}" } ]

            [relay]
            {{relay}}

            [[route]]
            domains = ["*"]
            to = "{{(sink is null ? "hold" : $"smtp://127.0.0.1:{sink.Port.ToString(CultureInfo.InvariantCulture)}")}}"
            """,
            http: web);
        return new Server(mta, $"127.0.0.1:{mta.Port.ToString(CultureInfo.InvariantCulture)}", implicitTls, mx.Certificate, web);
    }

    private sealed record Server(MtaProcess Mta, string Plain, string Implicit, string Certificate, string Http) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Mta.DisposeAsync();
    }
}
