using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>What TLS changes for AUTH: what is offered, what it is bound to, and certificates of users.</summary>
public sealed class AuthTlsSessionTests : IDisposable
{
    private static readonly string Plain = "AUTH PLAIN " + Convert.ToBase64String(Encoding.UTF8.GetBytes($"\0{TestUsers.Name}\0{TestUsers.Password}"));

    private readonly TestTls _tls = new();
    private readonly TestUsers _users = new();

    public void Dispose() => _tls.Dispose();

    [Fact]
    public async Task Starttls_forgets_who_had_logged_in_and_offers_more()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.StartTls) with { Auth = AuthMode.All }, IPAddress.Parse("192.0.2.1"));
        SmtpTestClient client = new(plain);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.DoesNotContain("-PLUS", await client.CommandAsync("EHLO c.example"), StringComparison.Ordinal);
        Assert.StartsWith("235", await client.CommandAsync(Plain));
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        Assert.StartsWith("250", await client.CommandAsync("RSET"));
        Assert.StartsWith("220", await client.CommandAsync("STARTTLS"));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        client = new SmtpTestClient(secure);
        Assert.StartsWith("503 5.5.1", await client.CommandAsync(Plain));
        Assert.Contains("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 ", await client.CommandAsync("EHLO c.example"), StringComparison.Ordinal);
        Assert.StartsWith("530 5.7.0", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        Assert.StartsWith("235", await client.CommandAsync(Plain));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        Assert.Contains("with ESMTPSA", Encoding.ASCII.GetString(message.Headers), StringComparison.Ordinal);
        Assert.Equal(TestUsers.Name, message.Envelope.User);
    }

    [Theory]
    [InlineData(SslProtocols.Tls12, false, 235)]
    [InlineData(SslProtocols.Tls13, false, 235)]
    [InlineData(SslProtocols.Tls13, true, 535)]
    public async Task Scram_is_bound_to_the_certificate_that_the_client_saw(SslProtocols protocol, bool isInTheMiddle, int expected)
    {
        await using ReceptionHost host = Host();
        (SmtpTestClient client, SslStream secure, Task session) = await ConnectAsync(host, protocol: protocol);
        using X509Certificate2 other = _tls.Authority.Issue([ReceptionHost.Hostname]);
        using X509Certificate2 seen = X509CertificateLoader.LoadCertificate(secure.RemoteCertificate!.GetRawCertData());
        byte[] binding = SHA256.HashData((isInTheMiddle ? other : seen).RawData);
        ScramClient scram = new(ScramHash.Sha256, TestUsers.Name, TestUsers.Password) { Header = "p=tls-server-end-point,,", Binding = binding };
        string? first = await client.CommandAsync($"AUTH SCRAM-SHA-256-PLUS {Convert.ToBase64String(scram.First())}");
        string? final = await client.CommandAsync(Convert.ToBase64String(scram.Final(Convert.FromBase64String(first![4..]))));
        if (final!.StartsWith("334", StringComparison.Ordinal))
        {
            Assert.True(scram.Accepts(Convert.FromBase64String(final[4..])));
            final = await client.CommandAsync("");
        }

        Assert.StartsWith(expected.ToString(System.Globalization.CultureInfo.InvariantCulture), final, StringComparison.Ordinal);

        // Who says that it could bind, but was told that the server cannot, was told so by somebody else.
        if (expected != 235)
        {
            ScramClient misled = new(ScramHash.Sha256, TestUsers.Name, TestUsers.Password) { Header = "y,," };
            Assert.StartsWith("535", await client.CommandAsync($"AUTH SCRAM-SHA-256 {Convert.ToBase64String(misled.First())}"));
        }

        await client.CommandAsync("QUIT");
        await session;
        await secure.DisposeAsync();
    }

    [Theory]
    [InlineData("alice@example.net", "", true, true, "235")]
    [InlineData("alice@example.net", "Alice@example.net", true, true, "235")]
    [InlineData("alice@example.net", "bob@example.net", true, true, "535")]
    [InlineData("alice@example.net", "", false, true, "504")]
    [InlineData("alice@example.net", "", true, false, "504")]
    public async Task External_is_whom_a_certificate_of_our_own_authority_names(string inCertificate, string asked, bool isOurs, bool isValid, string expected)
    {
        using TestAuthority foreign = new();
        using X509Certificate2 certificate = (isOurs ? _tls.Authority : foreign).Issue([inCertificate], validDays: isValid ? 90 : -1);
        CertificateBackend backend = new(byCommonName: true, [X509CertificateLoader.LoadCertificate(_tls.Authority.Root.RawData)], TimeProvider.System);
        AuthenticationRoom room = new(new AuthOptions(), ReceptionHost.Hostname, [backend], TimeProvider.System, NullLogger<AuthenticationRoom>.Instance);
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Relay = new RelayOptions { Networks = [] } }, tls: _tls.Acceptor, auth: room);
        (SmtpTestClient client, SslStream secure, Task session) = await ConnectAsync(host, certificate);
        Assert.Equal(expected != "504", (await client.CommandAsync("EHLO c.example"))!.Contains("AUTH EXTERNAL", StringComparison.Ordinal));
        string response = asked.Length == 0 ? "=" : Convert.ToBase64String(Encoding.UTF8.GetBytes(asked));
        Assert.StartsWith(expected, await client.CommandAsync("AUTH EXTERNAL " + response), StringComparison.Ordinal);
        if (expected == "235")
        {
            await SendMessageAsync(client);
            Assert.Equal(inCertificate, Assert.Single(host.Intake.Messages).Envelope.User);
        }

        await client.CommandAsync("QUIT");
        await session;
        await secure.DisposeAsync();
    }

    [Theory]
    [InlineData("CN=alice@example.net, O=Example", true)]
    [InlineData("O=alice@example.net", false)]
    [InlineData("CN=alice@example.net, CN=bob@example.net", false)]
    [InlineData("CN=alice example", false)]
    public async Task The_common_name_is_one_or_nobodys(string subject, bool isGood)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        DateTimeOffset now = TimeProvider.System.GetUtcNow();
        using X509Certificate2 certificate = new CertificateRequest(subject, key, HashAlgorithmName.SHA256).CreateSelfSigned(now.AddDays(-1), now.AddDays(1));
        await using CertificateBackend backend = new(byCommonName: true, [X509CertificateLoader.LoadCertificate(certificate.RawData)], TimeProvider.System);
        Assert.True(backend.Trusts(certificate));
        SaslAnswer answer = await backend.AnswerAsync(new ExternalQuestion(""), new AuthConnection(IPAddress.Loopback) { VerifiedCertificate = certificate }, TestContext.Current.CancellationToken);
        Assert.Equal(isGood ? "alice@example.net" : "", answer.Identity);
    }

    [Fact]
    public async Task Submission_behind_starttls_takes_no_password_before_it()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Required) with { Profile = ListenerProfile.Submission });
        SmtpTestClient client = new(plain);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.DoesNotContain("AUTH", await client.CommandAsync("EHLO c.example"), StringComparison.Ordinal);
        Assert.StartsWith("530 5.7.0 Must issue a STARTTLS", await client.CommandAsync(Plain));
        Assert.StartsWith("530 5.7.0 Must issue a STARTTLS", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        Assert.StartsWith("220", await client.CommandAsync("STARTTLS"));
        await using SslStream secure = await _tls.Authority.ConnectAsync(plain);
        client = new SmtpTestClient(secure);
        await client.CommandAsync("EHLO c.example");
        Assert.StartsWith("530 5.7.0 Authentication", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        Assert.StartsWith("235", await client.CommandAsync(Plain));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
    }

    [Theory]
    [InlineData("SHA256", 32)]
    [InlineData("SHA384", 48)]
    [InlineData("SHA512", 64)]
    public void The_end_point_is_the_certificate_under_the_hash_of_its_signature(string hash, int size)
    {
        using RSA rsa = RSA.Create(2048);
        using X509Certificate2 certificate = new CertificateRequest("CN=x", rsa, new HashAlgorithmName(hash), RSASignaturePadding.Pkcs1)
            .CreateSelfSigned(TimeProvider.System.GetUtcNow(), TimeProvider.System.GetUtcNow().AddDays(1));
        byte[] expected = size switch { 32 => SHA256.HashData(certificate.RawData), 48 => SHA384.HashData(certificate.RawData), _ => SHA512.HashData(certificate.RawData) };
        Assert.Equal(expected, EndPointBinding.Of(certificate));
    }

    [Fact]
    public void A_signature_without_one_hash_gives_no_end_point()
    {
        using RSA rsa = RSA.Create(2048);
        using X509Certificate2 certificate = new CertificateRequest("CN=x", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pss)
            .CreateSelfSigned(TimeProvider.System.GetUtcNow(), TimeProvider.System.GetUtcNow().AddDays(1));
        Assert.Null(EndPointBinding.Of(certificate));
    }

    private static ListenerOptions Listener(TlsMode mode) => new(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay) { Tls = mode, Auth = AuthMode.Tls };

    private static async Task SendMessageAsync(SmtpTestClient client)
    {
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<alice@example.net>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        Assert.StartsWith("250", await client.CommandAsync("From: <alice@example.net>\r\n\r\ntext\r\n."));
    }

    private async Task<(SmtpTestClient Client, SslStream Secure, Task Session)> ConnectAsync(
        ReceptionHost host, X509Certificate2? certificate = null, SslProtocols protocol = SslProtocols.Tls12 | SslProtocols.Tls13)
    {
        (ConnectionStream plain, Task session) = host.ConnectInMemory(Listener(TlsMode.Implicit) with { ClientCertificates = ClientCertificates.Request }, IPAddress.Parse("192.0.2.1"));
        SslStream secure = await _tls.Authority.ConnectAsync(plain, null, protocol, certificate);
        SmtpTestClient client = new(secure);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        return (client, secure, session);
    }

    private ReceptionHost Host() => new(ReceptionHost.Loopback() with { Relay = new RelayOptions { Networks = [] } }, tls: _tls.Acceptor, auth: _users.Room(TimeProvider.System));
}
