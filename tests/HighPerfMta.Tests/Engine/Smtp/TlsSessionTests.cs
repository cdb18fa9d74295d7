using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp;

public sealed class TlsSessionTests : IDisposable
{
    private readonly RecordingLoggers _log = new(LogLevel.Information);
    private readonly TestTls _tls;

    public TlsSessionTests() => _tls = new TestTls(logger: _log);

    // All but those which are of sessions without TLS.
    public static TheoryData<string> Dialogues =>
        [.. Directory.EnumerateFiles(DialogueFolder, "*.smtp").Select(static f => Path.GetFileNameWithoutExtension(f)).Where(static n => n is not ("basics" or "auth-plain-text" or "auth-tls-only" or "requiretls-plain")).Order()];

    private static string DialogueFolder => Path.Combine(AppContext.BaseDirectory, "Dialogues");

    public void Dispose() => _tls.Dispose();

    [Theory]
    [InlineData(SslProtocols.Tls12, "TLSv1.2")]
    [InlineData(SslProtocols.Tls13, "TLSv1.3")]
    public async Task StartTls_secures_the_session_and_the_message_says_so(SslProtocols protocol, string name)
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls));
        SmtpTestClient client = new(plain);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.Contains("|250 STARTTLS", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("220 2.0.0", await client.CommandAsync("STARTTLS"));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain, ReceptionHost.Hostname, protocol);
        client = new SmtpTestClient(secure);
        Assert.DoesNotContain("STARTTLS", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("503 5.5.1 TLS", await client.CommandAsync("STARTTLS"));
        await SendMessageAsync(client);
        Assert.StartsWith("221", await client.CommandAsync("QUIT"));
        Assert.Null(await client.ReadReplyAsync());
        await session;
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        string header = Encoding.ASCII.GetString(message.Headers);
        Assert.Contains("with ESMTPS", header, StringComparison.Ordinal);
        Assert.Matches($@"tls TLS_[A-Z0-9_]+\s+\({name.Replace(".", "\\.", StringComparison.Ordinal)}\);", header);
        Assert.StartsWith(name + " TLS_", message.Envelope.Tls);
    }

    [Fact]
    public async Task REQUIRETLS_is_offered_under_TLS_and_kept_with_the_message()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls) with { Extensions = HighPerfMta.Protocol.Smtp.SmtpExtensions.RequireTls });
        SmtpTestClient client = new(plain);
        await client.ReadReplyAsync();
        Assert.DoesNotContain("REQUIRETLS", await client.CommandAsync("EHLO c.example"), StringComparison.Ordinal);
        await client.CommandAsync("STARTTLS");
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        client = new SmtpTestClient(secure);
        Assert.Contains("|250 REQUIRETLS", await client.CommandAsync("EHLO c.example"), StringComparison.Ordinal);
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example> REQUIRETLS"), StringComparison.Ordinal);
        await client.CommandAsync("RCPT TO:<c@d.example>");
        await client.CommandAsync("DATA");
        await client.CommandAsync(".");
        await client.CommandAsync("QUIT");
        await session;
        Assert.True(Assert.Single(host.Intake.Messages).Envelope is { Tls: not null, Parameters.RequireTls: true });
    }

    [Fact]
    public async Task What_was_said_before_is_forgotten()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls));
        SmtpTestClient client = new(plain);
        await GreetAsync(client);
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
        Assert.StartsWith("220", await client.CommandAsync("STARTTLS"));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        client = new SmtpTestClient(secure);
        Assert.StartsWith("503 5.5.1 Send EHLO", await client.CommandAsync("RCPT TO:<c@d.example>"));
        Assert.StartsWith("503 5.5.1 Send EHLO", await client.CommandAsync("DATA"));
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("503 5.5.1 Send MAIL", await client.CommandAsync("RCPT TO:<c@d.example>"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task Plain_text_after_starttls_ends_the_session_however_it_is_split()
    {
        const string injected = "STARTTLS\r\nRSET\r\nMAIL FROM:<evil@b.example>\r\n";
        for (int split = 0; split <= injected.Length; split++)
        {
            await using ReceptionHost host = Host();
            (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls));
            SmtpTestClient client = new(plain);
            await GreetAsync(client);
            await client.SendAsync(injected[..split]);
            if (split == "STARTTLS\r\n".Length)
            {
                // The server may wait for the handshake now, or not have come so far.
                Assert.StartsWith("220", await client.ReadReplyAsync());
                await client.SendAsync(injected[split..]);
            }
            else
            {
                await client.SendAsync(injected[split..]);
                Assert.StartsWith("220", await client.ReadReplyAsync());
            }

            Assert.StartsWith("554 5.5.1 Plain text", await client.ReadReplyAsync());
            Assert.Null(await client.ReadReplyAsync());
            await session;
        }

        Assert.Equal(injected.Length + 1, _log.Warnings.Count(static l => l.Contains("plain text after STARTTLS", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(7)]
    public async Task Plain_text_after_starttls_ends_the_session_in_small_pieces(int size)
    {
        const string injected = "STARTTLS\r\nEHLO evil.example\r\n";
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls), segmentSize: 3);
        SmtpTestClient client = new(plain);
        await GreetAsync(client);
        foreach (char[] piece in injected.Chunk(size))
        {
            await client.SendAsync(new string(piece));
        }

        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("554 5.5.1 Plain text", await client.ReadReplyAsync());
        Assert.Null(await client.ReadReplyAsync());
        await session;
    }

    [Fact]
    public async Task A_handshake_sent_before_the_220_is_refused_too()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls));
        SmtpTestClient client = new(plain);
        await GreetAsync(client);
        await client.SendAsync("STARTTLS\r\n\u0016\u0003\u0001\0\u0005");
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("554 5.5.1", await client.ReadReplyAsync());
        await session;
    }

    [Fact]
    public async Task A_client_that_closes_after_starttls_has_injected_nothing()
    {
        await using ReceptionHost host = Host();
        (MemoryConnection near, MemoryConnection far) = MemoryConnection.CreatePair();
        await near.Output.WriteAsync("EHLO c.example\r\nSTARTTLS\r\n"u8.ToArray(), TestContext.Current.CancellationToken);
        await near.Output.CompleteAsync();
        SessionEnd end = await host.Server.ServeAsync(far, Listener(TlsMode.StartTls));
        Assert.Equal(SessionEnd.ClientClosed, end);
        Assert.DoesNotContain(_log.Lines, static l => l.Contains("plain text after STARTTLS", StringComparison.Ordinal));
    }

    [Fact]
    public async Task StartTls_without_a_certificate_or_with_an_argument_is_refused()
    {
        await using ReceptionHost without = new();
        (ConnectionStream plain, Task session) = without.ConnectInMemory(Listener(TlsMode.StartTls));
        SmtpTestClient client = new(plain);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.DoesNotContain("STARTTLS", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("502", await client.CommandAsync("STARTTLS"));
        await client.CommandAsync("QUIT");
        await session;

        await using ReceptionHost host = Host();
        (plain, session) = host.ConnectInMemory(Listener(TlsMode.StartTls));
        client = new SmtpTestClient(plain);
        await GreetAsync(client);
        Assert.StartsWith("501", await client.CommandAsync("STARTTLS now"));
        Assert.StartsWith("250", await client.CommandAsync("NOOP"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task Where_tls_is_required_no_mail_is_taken_before_it()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Required));
        SmtpTestClient client = new(plain);
        await GreetAsync(client);
        foreach (string command in (string[])["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "AUTH PLAIN AGEAYg==", "VRFY x", "EXPN x", "BDAT 6 LAST\r\nMAIL\r\n"])
        {
            Assert.StartsWith("530 5.7.0", await client.CommandAsync(command.TrimEnd()));
        }

        Assert.StartsWith("250", await client.CommandAsync("NOOP"));
        Assert.StartsWith("220", await client.CommandAsync("STARTTLS"));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        client = new SmtpTestClient(secure);
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        Assert.Single(host.Intake.Messages);
    }

    [Fact]
    public async Task Plain_smtp_on_a_port_for_tls_gets_a_line_that_says_so()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        SmtpTestClient client = new(plain);
        Assert.StartsWith("554 5.7.0 This port is for TLS", await client.CommandAsync("EHLO c.example"));
        Assert.Null(await client.ReadReplyAsync());
        await session;
        Assert.Contains(_log.Lines, static l => l.Contains("it may speak SMTP in plain text to a port for TLS", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_handshake_on_a_port_for_plain_smtp_is_told_and_dropped()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls));
        await Assert.ThrowsAnyAsync<Exception>(() => _tls.Authority.ConnectAsync(plain));
        await session;
        Assert.Contains(_log.Lines, static l => l.Contains("begins with a TLS handshake", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_handshake_that_does_not_come_loses_its_connection()
    {
        FakeTimeProvider time = new();
        await using ReceptionHost host = Host(time);
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        await time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.Equal(0, host.Server.SessionCount);
        Assert.Contains(_log.Lines, static l => l.Contains("the handshake took too long", StringComparison.Ordinal));
        await plain.DisposeAsync();
    }

    [Fact]
    public async Task A_handshake_that_stops_in_the_middle_loses_its_connection()
    {
        FakeTimeProvider time = new();
        await using ReceptionHost host = Host(time);
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        await plain.WriteAsync(new byte[] { 22, 3, 1, 1, 0, 1, 0 }, TestContext.Current.CancellationToken);
        await plain.FlushAsync(TestContext.Current.CancellationToken);
        await time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.Contains(_log.Lines, static l => l.Contains("the handshake took too long", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("closed", "the client closed the connection in the handshake")]
    [InlineData("garbage", "what the client sent makes no handshake")]
    [InlineData("version", "the client speaks no version of TLS that is allowed here")]
    public async Task A_handshake_that_fails_is_told_with_its_cause(string how, string told)
    {
        using TestTls tls = new(new TlsOptions { Protocols = how == "version" ? SslProtocols.Tls13 : SslProtocols.Tls12 }, _log);
        await using ReceptionHost host = new(tls: tls.Acceptor, loggers: _log);
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        switch (how)
        {
            case "closed":
                await plain.WriteAsync(new byte[] { 22, 3, 1, 0, 10, 1 }, TestContext.Current.CancellationToken);
                await plain.FlushAsync(TestContext.Current.CancellationToken);
                break;
            case "garbage":
                await plain.WriteAsync(new byte[] { 22, 3, 1, 0, 5, 9, 9, 9, 9, 9 }, TestContext.Current.CancellationToken);
                await plain.FlushAsync(TestContext.Current.CancellationToken);
                break;
            default:
                await Assert.ThrowsAnyAsync<Exception>(() => tls.Authority.ConnectAsync(plain, null, SslProtocols.Tls12));
                break;
        }

        await plain.DisposeAsync();
        await session.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.Contains(_log.Lines, l => l.Contains(told, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_silent_client_gets_its_421_through_the_session()
    {
        FakeTimeProvider time = new();
        await using ReceptionHost host = Host(time);
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        SmtpTestClient client = new(secure);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.SendAsync("NO");
        await time.PassUntilAsync(session, TimeSpan.FromSeconds(30));
        Assert.StartsWith("421 4.4.2", await client.ReadReplyAsync());
        Assert.Null(await client.ReadReplyAsync());
    }

    [Theory]
    [InlineData("")]
    [InlineData("half")]
    public async Task A_server_that_stops_does_not_wait_for_a_handshake(string sent)
    {
        FakeTimeProvider time = new();
        ReceptionHost host = Host(time);
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        if (sent.Length > 0)
        {
            await plain.WriteAsync(new byte[] { 22, 3, 1, 1, 0, 1, 0 }, TestContext.Current.CancellationToken);
            await plain.FlushAsync(TestContext.Current.CancellationToken);
        }

        await host.Server.StopAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        await session;
        Assert.DoesNotContain(_log.Lines, static l => l.Contains("no TLS with", StringComparison.Ordinal));
        await host.DisposeAsync();
    }

    [Fact]
    public async Task A_stop_is_seen_at_any_moment_of_a_session()
    {
        // The stop meets the handshake, the change of connections behind it, or the wait for a command.
        for (int i = 0; i < 40; i++)
        {
            ReceptionHost host = Host();
            (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
            Task<SslStream> connecting = _tls.Authority.ConnectAsync(plain);
            if (i % 2 == 0)
            {
                await Task.Yield();
            }
            else
            {
                await connecting;
            }

            await host.Server.StopAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
            await session;
            await Record.ExceptionAsync(() => connecting);
            await host.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_listener_for_tls_does_not_open_without_a_certificate()
    {
        foreach (TlsMode mode in (TlsMode[])[TlsMode.Required, TlsMode.Implicit])
        {
            Assert.Throws<ArgumentException>(() => new ReceptionHost(ReceptionHost.Loopback() with { Listeners = [Listener(mode)] }));
        }

        await using ReceptionHost offered = new(ReceptionHost.Loopback() with { Listeners = [Listener(TlsMode.StartTls)] });
    }

    [Fact]
    public async Task A_client_that_is_turned_away_where_tls_comes_first_gets_no_plain_text()
    {
        await using ReceptionHost host = new(
            ReceptionHost.Loopback() with { Listeners = [Listener(TlsMode.Implicit)], Limits = new LimitOptions { ConnectionsPerIp = 1 } }, tls: _tls.Acceptor);
        host.Server.Start();
        await using NetworkStream first = await host.ConnectAsync(TestContext.Current.CancellationToken);
        await using SslStream secure = await _tls.Authority.ConnectAsync(first);
        await using NetworkStream second = await host.ConnectAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, await second.ReadAsync(new byte[100], TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("xn--bcher-kva.example")]
    [InlineData("bücher.example")]
    public async Task A_name_outside_of_ascii_gets_its_certificate(string asked)
    {
        using TestAuthority authority = new();
        using X509Certificate2 first = authority.Issue(["first.example"]);
        using X509Certificate2 named = authority.Issue(["xn--bcher-kva.example"]);
        TlsOptions options = new() { Certificates = [authority.Write(first, "first"), authority.Write(named, "named")] };
        using CertificateStore store = new(options, TimeProvider.System, _log);
        using TlsAcceptor acceptor = new(options, store, _log);
        await using ReceptionHost host = new(tls: acceptor);
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        await using SslStream secure = await authority.ConnectAsync(plain, asked);
        Assert.Equal("CN=xn--bcher-kva.example", secure.RemoteCertificate!.Subject);
        SmtpTestClient client = new(secure);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task A_server_that_stops_says_so_through_the_session()
    {
        ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        SmtpTestClient client = new(secure);
        await GreetAsync(client);
        Task stopping = host.Server.StopAsync(CancellationToken.None);
        Assert.StartsWith("421 4.3.2", await client.ReadReplyAsync());
        await session;
        await stopping;
        await host.DisposeAsync();
    }

    [Fact]
    public async Task A_certificate_that_is_known_may_relay_and_others_may_not()
    {
        using X509Certificate2 known = _tls.Authority.Issue(["app.example"]);
        using X509Certificate2 byKey = _tls.Authority.Issue(["key.example"], rsa: true);
        using X509Certificate2 other = _tls.Authority.Issue(["other.example"]);
        RelayOptions relay = new()
        {
            Networks = [],
            Certificates = [Convert.ToHexStringLower(SHA256.HashData(known.RawData)), Convert.ToHexStringLower(SHA256.HashData(byKey.PublicKey.ExportSubjectPublicKeyInfo()))],
        };
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Relay = relay }, tls: _tls.Acceptor);
        foreach (SslProtocols protocol in (SslProtocols[])[SslProtocols.Tls12, SslProtocols.Tls13])
        {
            Assert.StartsWith("250", await MailAsync(host, ClientCertificates.Request, known, protocol));
            Assert.StartsWith("250", await MailAsync(host, ClientCertificates.Request, byKey, protocol));
            Assert.StartsWith("550 5.7.1", await MailAsync(host, ClientCertificates.Request, other, protocol));
            Assert.StartsWith("550 5.7.1", await MailAsync(host, ClientCertificates.Request, null, protocol));
            Assert.StartsWith("250", await MailAsync(host, ClientCertificates.Require, known, protocol));
            Assert.StartsWith("530 5.7.0", await MailAsync(host, ClientCertificates.Require, other, protocol));
            Assert.StartsWith("530 5.7.0", await MailAsync(host, ClientCertificates.Require, null, protocol));
            Assert.StartsWith("550 5.7.1", await MailAsync(host, ClientCertificates.Off, known, protocol));
        }
    }

    [Theory]
    [MemberData(nameof(Dialogues))]
    public async Task Every_dialogue_goes_the_same_way_through_tls(string name)
    {
        Dialogue dialogue = Dialogue.Load(Path.Combine(DialogueFolder, name + ".smtp"));
        foreach ((int piece, int segment) in ((int, int)[])[(0, 4096), (7, 5)])
        {
            await using ReceptionHost host = ReceptionHost.For(dialogue, tls: _tls.Acceptor);
            (ConnectionStream plain, Task session) = host.ConnectInMemory(host.Options.Listeners[0] with { Tls = TlsMode.Implicit }, segmentSize: segment);
            await using (SslStream secure = await _tls.Authority.ConnectAsync(plain))
            {
                await dialogue.RunAsync(secure, piece);
            }

            await session;
            Assert.Equal(int.Parse(dialogue.Options.GetValueOrDefault("messages") ?? "0", CultureInfo.InvariantCulture), host.Intake.Messages.Count);
            Assert.Equal(0, host.Intake.Open);
        }
    }

    [Fact]
    public async Task A_large_message_arrives_as_it_was_sent()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        SmtpTestClient client = new(secure);
        await GreetAsync(client);
        string body = string.Concat(Enumerable.Range(0, 60_000).Select(static i => $"line {i}\r\n"));
        await client.SendAsync($"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT {body.Length} LAST\r\n{body}QUIT\r\n");
        for (int i = 0; i < 3; i++)
        {
            Assert.StartsWith("250", await client.ReadReplyAsync());
        }

        Assert.StartsWith("221", await client.ReadReplyAsync());
        await session;
        Assert.Equal(body, Encoding.ASCII.GetString(Assert.Single(host.Intake.Messages).Octets));
    }

    [Theory]
    [InlineData(TlsMode.StartTls)]
    [InlineData(TlsMode.Implicit)]
    public async Task A_large_message_arrives_through_sockets_too(TlsMode mode)
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Listeners = [Listener(mode)] }, tls: _tls.Acceptor);
        host.Server.Start();
        await using NetworkStream plain = await host.ConnectAsync(TestContext.Current.CancellationToken);
        SmtpTestClient client = new(plain);
        if (mode == TlsMode.StartTls)
        {
            await GreetAsync(client);
            Assert.StartsWith("220", await client.CommandAsync("STARTTLS"));
        }

        await using SslStream secure = await _tls.Authority.ConnectAsync(plain, ReceptionHost.Hostname);
        client = new SmtpTestClient(secure);
        if (mode == TlsMode.Implicit)
        {
            Assert.StartsWith("220", await client.ReadReplyAsync());
        }

        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        string body = string.Concat(Enumerable.Range(0, 200_000).Select(static i => $"this is line number {i} of them\r\n"));
        await client.SendAsync($"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT {body.Length} LAST\r\n{body}QUIT\r\n");
        for (int i = 0; i < 3; i++)
        {
            Assert.StartsWith("250", await client.ReadReplyAsync());
        }

        Assert.StartsWith("221", await client.ReadReplyAsync());
        Assert.Equal(body, Encoding.ASCII.GetString(Assert.Single(host.Intake.Messages).Octets));
    }

    private async Task<string?> MailAsync(ReceptionHost host, ClientCertificates asks, X509Certificate2? certificate, SslProtocols protocol)
    {
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit) with { ClientCertificates = asks }, IPAddress.Parse("192.0.2.1"));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain, null, protocol, certificate);
        SmtpTestClient client = new(secure);
        await GreetAsync(client);
        string? reply = await client.CommandAsync("MAIL FROM:<a@b.example>");
        await client.CommandAsync("QUIT");
        await session;
        return reply;
    }

    private static async Task GreetAsync(SmtpTestClient client)
    {
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
    }

    private static async Task SendMessageAsync(SmtpTestClient client)
    {
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        Assert.StartsWith("250", await client.CommandAsync("Subject: x\r\n\r\ntext\r\n."));
    }

    private static ListenerOptions Listener(TlsMode mode) => new(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay) { Tls = mode };

    private ReceptionHost Host(TimeProvider? time = null) => new(time: time, tls: _tls.Acceptor, loggers: _log);
}
