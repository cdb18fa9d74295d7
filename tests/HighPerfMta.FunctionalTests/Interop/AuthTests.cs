using System.Buffers.Text;
using System.Globalization;
using System.Net;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.TestKit;
using MailKit.Net.Smtp;
using MailKit.Security;
using MimeKit;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>The whole server as a submission service: clients that others wrote log in and send, with users from its file, from tokens and from a Dovecot that dies.</summary>
public sealed class AuthTests : IDisposable
{
    private const string User = "alice@example.net", Password = "pencil", Issuer = "https://id.example.net";

    private readonly TestAuthority _authority = new();
    private readonly TempFolder _folder = new();
    private readonly ECDsa _issuer = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    public void Dispose()
    {
        _authority.Dispose();
        _folder.Dispose();
        _issuer.Dispose();
    }

    [Theory]
    [InlineData("PLAIN", "--tls")]
    [InlineData("LOGIN", "--tls")]
    [InlineData("CRAM-MD5", "--tls")]
    [InlineData("PLAIN", "--tls-on-connect")]
    public async Task Swaks_logs_in_and_sends(string mechanism, string how)
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink);
        int port = how == "--tls" ? server.Mta.Port : server.Implicit;
        string[] common = ["--server", "127.0.0.1", "--port", Text(port), how, "--auth", mechanism, "--auth-user", User, "--from", User, "--to", "b@example.org"];
        string dialogue = await Peer.RunAsync(swaks, [.. common, "--auth-password", Password]);
        Assert.Contains("235 2.7.0", dialogue, StringComparison.Ordinal);
        CapturedMessage got = await sink.NextAsync();
        Assert.Contains("with ESMTPSA", got.Content, StringComparison.Ordinal);

        // 28: AUTH failed.
        Assert.Contains("535 5.7.8", await Peer.RunAsync(swaks, [.. common, "--auth-password", "pencils"], expectedExit: 28), StringComparison.Ordinal);
        Assert.DoesNotContain(Password, server.Mta.Log, StringComparison.Ordinal);
        Assert.Contains($"from 127.0.0.1 by {mechanism} failed: bad_credentials", server.Mta.Log, StringComparison.Ordinal);
        Assert.False(sink.TryNext(out _));
    }

    [Fact]
    public async Task Swaks_that_does_not_log_in_or_is_somebody_else_sends_nothing()
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink);
        string[] common = ["--server", "127.0.0.1", "--port", Text(server.Mta.Port), "--to", "b@example.org"];
        string[] login = ["--tls", "--auth", "PLAIN", "--auth-user", User, "--auth-password", Password];
        Assert.Contains("530 5.7.0 Must issue a STARTTLS", await Peer.RunAsync(swaks, [.. common, "--from", User], expectedExit: 23), StringComparison.Ordinal);
        Assert.Contains("530 5.7.0 Authentication required", await Peer.RunAsync(swaks, [.. common, "--tls", "--from", User], expectedExit: 23), StringComparison.Ordinal);
        Assert.Contains("553 5.7.1", await Peer.RunAsync(swaks, [.. common, .. login, "--from", "ceo@example.net"], expectedExit: 23), StringComparison.Ordinal);
        await Peer.RunAsync(swaks, [.. common, .. login, "--from", "sales@example.net"]);
        Assert.Equal("sales@example.net", (await sink.NextAsync()).Sender);
        await Peer.RunAsync(swaks, [.. common, .. login, "--from", "alice+list@example.net"]);
        Assert.Equal("alice+list@example.net", (await sink.NextAsync()).Sender);
    }

    [Theory]
    [InlineData("PLAIN")]
    [InlineData("LOGIN")]
    [InlineData("CRAM-MD5")]
    [InlineData("SCRAM-SHA-1")]
    [InlineData("SCRAM-SHA-256")]
    [InlineData("SCRAM-SHA-1-PLUS")]
    [InlineData("SCRAM-SHA-256-PLUS")]
    [InlineData("SCRAM-SHA-256-PLUS", SslProtocols.Tls12)]
    [InlineData("OAUTHBEARER")]
    [InlineData("XOAUTH2")]
    public async Task MailKit_logs_in_and_sends_and_the_event_and_the_trace_say_who(string mechanism, SslProtocols protocol = SslProtocols.Tls13)
    {
        await using CapturingSink sink = new();
        await using Server server = await StartAsync(sink);
        using SmtpClient client = await ConnectAsync(server, protocol);
        Assert.Contains(mechanism, client.AuthenticationMechanisms);
        await Assert.ThrowsAsync<MailKit.Security.AuthenticationException>(() => client.AuthenticateAsync(Make(mechanism, "wrong", Token("mallory@example.net", "other")), TestContext.Current.CancellationToken));
        await client.DisconnectAsync(true, TestContext.Current.CancellationToken);
        using SmtpClient again = await ConnectAsync(server, protocol);
        await again.AuthenticateAsync(Make(mechanism, Password, Token(User, "smtp")), TestContext.Current.CancellationToken);
        string id = await SendAsync(again);
        await again.DisconnectAsync(true, TestContext.Current.CancellationToken);
        Assert.Contains("with ESMTPSA", (await sink.NextAsync()).Content, StringComparison.Ordinal);
        Assert.Contains($"\"user\": \"{User}\"", await server.Mta.CommandAsync(0, "trace", id, "--json"), StringComparison.Ordinal);
        Assert.Contains(User, await server.Mta.CommandAsync(0, "trace", id), StringComparison.Ordinal);
        foreach (string secret in (string[])[Password, Token(User, "smtp").Split('.')[0]])
        {
            Assert.DoesNotContain(secret, server.Mta.Log, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_dovecot_that_dies_in_the_middle_is_454_and_one_that_comes_back_is_asked_again()
    {
        await using DovecotInstance dovecot = await DovecotInstance.StartAsync();
        string address = dovecot.Tcp.ToString()!;
        await using Server server = await StartAsync(null, $"""
            [[auth_backend]]
            type = "dovecot"
            socket = "{address}"

            [submission]
            senders = "any"
            """);
        using SmtpClient client = await ConnectAsync(server, SslProtocols.Tls13);
        await client.AuthenticateAsync(new SaslMechanismPlain("user", Password), TestContext.Current.CancellationToken);
        await SendAsync(client);

        // One exchange is open there when it dies; others come afterwards.
        using SmtpClient open = await ConnectAsync(server, SslProtocols.Tls13);
        await using Session held = await Session.OpenAsync(_authority, server.Implicit);
        Assert.StartsWith("334", await held.Client.CommandAsync("AUTH SCRAM-SHA-256 " + Convert.ToBase64String("n,,n=user,r=abcdefgh"u8)), StringComparison.Ordinal);
        await dovecot.KillAsync();
        Assert.StartsWith("454 4.7.0", await held.Client.CommandAsync(Convert.ToBase64String("c=biws,r=abcdefgh,p=AAAA"u8)), StringComparison.Ordinal);
        await Assert.ThrowsAsync<MailKit.Security.AuthenticationException>(() => open.AuthenticateAsync(new SaslMechanismPlain("user", Password), TestContext.Current.CancellationToken));
        Assert.StartsWith("454 4.7.0", await held.Client.CommandAsync("AUTH PLAIN " + Convert.ToBase64String("\0user\0pencil"u8)), StringComparison.Ordinal);
        Assert.StartsWith("530 5.7.0", await held.Client.CommandAsync("MAIL FROM:<user@example.net>"), StringComparison.Ordinal);

        // Who is logged in stays it.
        await SendAsync(client);
        Assert.Contains("authentication backend dovecot cannot tell", server.Mta.Log, StringComparison.Ordinal);
        await dovecot.StartAgainAsync();
        await Eventually.TrueAsync(
            async () => (await held.Client.CommandAsync("AUTH PLAIN " + Convert.ToBase64String("\0user\0pencil"u8)))!.StartsWith("235", StringComparison.Ordinal), () => server.Mta.Log + dovecot.Log);
    }

    [Fact]
    public async Task A_certificate_of_our_own_authority_logs_in()
    {
        using X509Certificate2 certificate = _authority.Issue([User]);
        await using Server server = await StartAsync(null, $"""
            [[auth_backend]]
            type = "certificate"
            ca = "{_authority.RootFile}"
            name_from = "common_name"
            """, "client_certificates = \"request\"");
        await using Session session = await Session.OpenAsync(_authority, server.Implicit, certificate);
        Assert.StartsWith("235", await session.Client.CommandAsync("AUTH EXTERNAL ="), StringComparison.Ordinal);
        Assert.StartsWith("553", await session.Client.CommandAsync("MAIL FROM:<bob@example.net>"), StringComparison.Ordinal);
        Assert.StartsWith("250", await session.Client.CommandAsync($"MAIL FROM:<{User}>"), StringComparison.Ordinal);
    }

    private static string Text(int port) => port.ToString(CultureInfo.InvariantCulture);

    private static SaslMechanism Make(string mechanism, string password, string token) => mechanism switch
    {
        "PLAIN" => new SaslMechanismPlain(User, password),
        "LOGIN" => new SaslMechanismLogin(User, password),
        "CRAM-MD5" => new SaslMechanismCramMd5(User, password),
        "SCRAM-SHA-1" => new SaslMechanismScramSha1(User, password),
        "SCRAM-SHA-256" => new SaslMechanismScramSha256(User, password),
        "SCRAM-SHA-1-PLUS" => new SaslMechanismScramSha1Plus(User, password),
        "SCRAM-SHA-256-PLUS" => new SaslMechanismScramSha256Plus(User, password),
        "OAUTHBEARER" => new SaslMechanismOAuthBearer(User, token),
        _ => new SaslMechanismOAuth2(User, token),
    };

    private static async Task<string> SendAsync(SmtpClient client)
    {
        using MimeMessage message = new();
        message.From.Add(new MailboxAddress("", User));
        message.To.Add(new MailboxAddress("", "b@example.org"));
        message.Body = new TextPart("plain") { Text = "a line of text" };
        string reply = await client.SendAsync(message, TestContext.Current.CancellationToken);
        return reply.Split(' ')[^1];
    }

    private static async Task<SmtpClient> ConnectAsync(Server server, SslProtocols protocol)
    {
        SmtpClient client = new() { ServerCertificateValidationCallback = (_, certificate, _, _) => certificate!.Subject == "CN=mx.test", SslProtocols = protocol };
        await client.ConnectAsync("127.0.0.1", server.Mta.Port, SecureSocketOptions.StartTls, TestContext.Current.CancellationToken);
        return client;
    }

    private string Token(string user, string audience)
    {
        string claims = $$"""{"iss":"{{Issuer}}","aud":"{{audience}}","email":"{{user}}","exp":{{TimeProvider.System.GetUtcNow().AddHours(1).ToUnixTimeSeconds()}}}""";
        string signed = Base64Url.EncodeToString("{\"alg\":\"ES256\",\"kid\":\"ec\"}"u8) + "." + Base64Url.EncodeToString(Encoding.UTF8.GetBytes(claims));
        return signed + "." + Base64Url.EncodeToString(_issuer.SignData(Encoding.ASCII.GetBytes(signed), HashAlgorithmName.SHA256));
    }

    private string KeySet()
    {
        ECParameters key = _issuer.ExportParameters(false);
        return $$"""{"keys":[{"kty":"EC","crv":"P-256","kid":"ec","x":"{{Base64Url.EncodeToString(key.Q.X)}}","y":"{{Base64Url.EncodeToString(key.Q.Y)}}"}]}""";
    }

    /// <summary>Users in a file and tokens, unless other backends are given.</summary>
    private async Task<Server> StartAsync(CapturingSink? sink, string? backends = null, string listener = "")
    {
        if (backends is null)
        {
            await Peer.RunAsync(
                "dotnet",
                [MtaProcess.ProgramPath, "user", "add", User, "--file", _folder.File("users"), "--memory", "1024", "--scram", "both", "--cram-md5", "--address", "alice+*@example.net"],
                Password + "\n");
            await File.WriteAllTextAsync(_folder.File("keys"), KeySet(), TestContext.Current.CancellationToken);
            backends = $"""
                [[auth_backend]]
                type = "file"
                path = "{_folder.File("users")}"

                [[auth_backend]]
                type = "jwt"
                keys = "{_folder.File("keys")}"
                issuer = "{Issuer}"
                audience = "smtp"

                [[submission_sender]]
                users = ["*@example.net"]
                addresses = ["sales@example.net"]
                """;
        }

        using X509Certificate2 certificate = _authority.Issue(["mx.test"]);
        CertificateFiles files = _authority.Write(certificate);
        int implicitTls = Ports.Free();
        MtaProcess mta = await MtaProcess.StartAsync(
            $$"""
            [[listener]]
            address = "127.0.0.1:{{Text(implicitTls)}}"
            profile = "submission"
            tls = "implicit"
            {{listener}}

            [tls]
            certificates = [ { cert = "{{files.Certificate}}", key = "{{files.Key}}" } ]

            [auth]
            mechanisms = ["scram-sha-256-plus", "scram-sha-1-plus", "scram-sha-256", "scram-sha-1", "oauthbearer", "xoauth2", {{(backends.Contains("certificate", StringComparison.Ordinal) ? "\"external\", " : "")}}"cram-md5", "plain", "login"]
            failure_delay = "0s"

            {{backends}}

            [[route]]
            domains = ["*"]
            to = "{{(sink is null ? "hold" : $"smtp://127.0.0.1:{Text(sink.Port)}")}}"
            """,
            "submission");
        return new Server(mta, implicitTls);
    }

    private sealed record Server(MtaProcess Mta, int Implicit) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Mta.DisposeAsync();
    }

    /// <summary>A bare client that has said EHLO under TLS.</summary>
    private sealed class Session(Stream stream, SmtpTestClient client) : IAsyncDisposable
    {
        public SmtpTestClient Client => client;

        public static async Task<Session> OpenAsync(TestAuthority authority, int port, X509Certificate2? certificate = null)
        {
            System.Net.Sockets.Socket socket = new(System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Tcp) { NoDelay = true };
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port), TestContext.Current.CancellationToken);
            Stream stream = await authority.ConnectAsync(new System.Net.Sockets.NetworkStream(socket, ownsSocket: true), certificate: certificate);
            SmtpTestClient client = new(stream);
            Assert.StartsWith("220", await client.ReadReplyAsync(), StringComparison.Ordinal);
            Assert.StartsWith("250", await client.CommandAsync("EHLO client.test"), StringComparison.Ordinal);
            return new Session(stream, client);
        }

        public ValueTask DisposeAsync() => stream.DisposeAsync();
    }
}
