using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Proxy;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>Sessions whose client is another one than the peer: by XCLIENT, by XFORWARD, and behind a balancer.</summary>
public class OtherClientTests
{
    private static readonly IPAddress Filter = IPAddress.Parse("192.0.2.10");
    private static readonly RelayOptions Trusted = new() { Networks = [IPNetwork.Parse("198.51.100.0/24")] };

    [Fact]
    public async Task Only_named_clients_are_offered_and_may_use_them()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener(), IPAddress.Parse("192.0.2.99"));
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.DoesNotContain("XCLIENT", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("550 5.7.0", await client.CommandAsync("XCLIENT ADDR=198.51.100.1"));
        Assert.StartsWith("550 5.7.0", await client.CommandAsync("XFORWARD ADDR=198.51.100.1"));
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task Xclient_begins_anew_with_the_rights_of_the_other()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener(), Filter);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        string? ehlo = await client.CommandAsync("EHLO filter.example");
        Assert.Contains("250-XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT|", ehlo, StringComparison.Ordinal);
        Assert.Contains("250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE", ehlo, StringComparison.Ordinal);
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("220 mx.test.example", await client.CommandAsync("XCLIENT NAME=app.example ADDR=198.51.100.7"));
        Assert.StartsWith("503 5.5.1 Send EHLO", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.DoesNotContain("XCLIENT", await client.CommandAsync("EHLO app.example"));

        // Behind a proxy that only passes on what it gets, the client itself may have sent this.
        Assert.StartsWith("550 5.7.0", await client.CommandAsync("XCLIENT ADDR=198.51.100.8"));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        RecordedMessage message = Assert.Single(host.Intake.Messages);
        Assert.Equal(IPAddress.Parse("198.51.100.7"), message.Envelope.ClientAddress);
        Assert.StartsWith("Received: from app.example (app.example [198.51.100.7])", Encoding.ASCII.GetString(message.Headers));
    }

    [Theory]
    [InlineData("XCLIENT ADDR=[UNAVAILABLE]")]
    [InlineData("XCLIENT ADDR=203.0.113.1")]
    [InlineData("XCLIENT ADDR=IPV6:2001:db8::1")]
    public async Task Rights_that_the_peer_had_are_gone(string command)
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Xclient = [IPNetwork.Parse("198.51.100.7/32")] }, IPAddress.Parse("198.51.100.7"));
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("220", await client.CommandAsync(command));
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task A_certificate_of_the_peer_is_not_the_others()
    {
        using TestTls tls = new();
        using X509Certificate2 certificate = tls.Authority.Issue(["filter.example"]);
        RelayOptions relay = Trusted with { Certificates = [Convert.ToHexStringLower(SHA256.HashData(certificate.RawData))] };
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Relay = relay }, tls: tls.Acceptor);
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Tls = TlsMode.Implicit, ClientCertificates = ClientCertificates.Request }, Filter);
        await using SslStream secure = await tls.Authority.ConnectAsync(stream, certificate: certificate);
        SmtpTestClient client = new(secure);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RSET"));
        Assert.StartsWith("220", await client.CommandAsync("XCLIENT ADDR=203.0.113.1"));
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Theory]
    [InlineData("XCLIENT ADDR=198.51.100.7")]
    [InlineData("XCLIENT NAME=app.example")]
    public async Task There_is_no_starttls_after_xclient(string command)
    {
        // What was said in plain text would have to be forgotten, and the other client would be left with the peer's rights.
        using TestTls tls = new();
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Relay = Trusted }, tls: tls.Acceptor);
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Tls = TlsMode.StartTls }, Filter);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.Contains("STARTTLS", await client.CommandAsync("EHLO filter.example"));
        Assert.StartsWith("220 mx.test.example", await client.CommandAsync(command));
        Assert.DoesNotContain("STARTTLS", await client.CommandAsync("EHLO app.example"));
        Assert.StartsWith("503 5.5.1", await client.CommandAsync("STARTTLS"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task Xclient_needs_tls_where_it_is_required_and_lasts_through_the_session()
    {
        using TestTls tls = new();
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Relay = Trusted }, tls: tls.Acceptor);
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Tls = TlsMode.Required }, Filter);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("530 5.7.0", await client.CommandAsync("XCLIENT ADDR=198.51.100.7"));
        Assert.StartsWith("530 5.7.0", await client.CommandAsync("XFORWARD ADDR=198.51.100.7"));
        Assert.StartsWith("220", await client.CommandAsync("STARTTLS"));
        await using SslStream secure = await tls.Authority.ConnectAsync(stream);
        client = new SmtpTestClient(secure);
        Assert.StartsWith("220", await client.CommandAsync("XCLIENT ADDR=198.51.100.7"));
        Assert.StartsWith("250", await client.CommandAsync("EHLO app.example"));
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        Envelope envelope = Assert.Single(host.Intake.Messages).Envelope;
        Assert.Equal((IPAddress.Parse("198.51.100.7"), "app.example"), (envelope.ClientAddress, envelope.HeloName));
        Assert.StartsWith("TLSv1.", envelope.Tls);
    }

    [Fact]
    public async Task Neither_is_possible_within_a_transaction_and_bad_ones_change_nothing()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Xclient = [IPNetwork.Parse("198.51.100.7/32")] }, IPAddress.Parse("198.51.100.7"));
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("501", await client.CommandAsync("XCLIENT ADDR=nonsense"));
        Assert.StartsWith("501", await client.CommandAsync("XFORWARD"));
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("503 5.5.1 Mail transaction", await client.CommandAsync("XCLIENT ADDR=203.0.113.1"));
        Assert.StartsWith("503 5.5.1 Mail transaction", await client.CommandAsync("XFORWARD ADDR=203.0.113.1"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
        await client.CommandAsync("QUIT");
        await session;
    }

    [Fact]
    public async Task Xforward_is_kept_for_one_message_and_gives_no_rights()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener() with { Xclient = [IPNetwork.Parse("198.51.100.7/32")] }, IPAddress.Parse("198.51.100.7"));
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.CommandAsync("EHLO c.example"));
        Assert.StartsWith("250 2.0.0", await client.CommandAsync("XFORWARD NAME=origin.example ADDR=203.0.113.9 PROTO=ESMTP"));
        Assert.StartsWith("250 2.0.0", await client.CommandAsync("XFORWARD HELO=helo.example IDENT=ABC SOURCE=REMOTE"));
        await SendMessageAsync(client);
        await SendMessageAsync(client);
        await client.CommandAsync("QUIT");
        await session;
        RecordedMessage[] messages = [.. host.Intake.Messages];
        Assert.Equal(2, messages.Length);
        Assert.Equal(
            ("origin.example", IPAddress.Parse("203.0.113.9"), "ESMTP", "helo.example", "ABC", "REMOTE"),
            (messages[0].Envelope.Forwarded!.Name, messages[0].Envelope.Forwarded!.Address, messages[0].Envelope.Forwarded!.Protocol, messages[0].Envelope.Forwarded!.Helo,
                messages[0].Envelope.Forwarded!.Identifier, messages[0].Envelope.Forwarded!.Source));
        Assert.Equal(IPAddress.Parse("198.51.100.7"), messages[0].Envelope.ClientAddress);
        Assert.Null(messages[1].Envelope.Forwarded);
    }

    [Theory]
    [InlineData("198.51.100.7", "250")]
    [InlineData("203.0.113.1", "550 5.7.1")]
    [InlineData("::ffff:198.51.100.7", "250")]
    public async Task Behind_a_balancer_rights_are_those_of_the_client(string source, string answer)
    {
        ProxyHeader origin = new(ProxyOrigin.Tcp, new IPEndPoint(IPAddress.Parse(source), 1234), new IPEndPoint(IPAddress.Loopback, 25));
        Assert.StartsWith(answer, await MailBehindAsync(origin, IPAddress.Parse("192.0.2.1")));
    }

    [Fact]
    public async Task A_balancer_that_names_no_client_has_no_rights_to_give()
    {
        IPAddress balancer = IPAddress.Parse("198.51.100.1");
        Assert.StartsWith("250", await MailBehindAsync(null, balancer));
        Assert.StartsWith("250", await MailBehindAsync(ProxyHeader.Local, balancer));
        Assert.StartsWith("550 5.7.1", await MailBehindAsync(ProxyHeader.Unknown, balancer));
    }

    [Fact]
    public async Task Rejections_say_what_was_forwarded()
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener(), Filter);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("EHLO c.example");
        Assert.StartsWith("250", await client.CommandAsync("XFORWARD ADDR=203.0.113.9"));
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        await client.CommandAsync("QUIT");
        await session;
        MailEvent rejected = Assert.Single(host.Events.Events);
        Assert.Equal(IPAddress.Parse("203.0.113.9"), rejected.Forwarded!.Address);
    }

    private static async Task<string?> MailBehindAsync(ProxyHeader? origin, IPAddress balancer)
    {
        await using ReceptionHost host = Host();
        (ConnectionStream stream, Task session) = host.ConnectInMemory(Listener(), balancer, origin: origin);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("EHLO c.example");
        string? reply = await client.CommandAsync("MAIL FROM:<a@b.example>");
        await client.CommandAsync("QUIT");
        await session;
        return reply;
    }

    private static async Task SendMessageAsync(SmtpTestClient client)
    {
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<c@d.example>"));
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        Assert.StartsWith("250", await client.CommandAsync("Subject: x\r\n\r\ntext\r\n."));
    }

    private static ListenerOptions Listener() => new(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay) { Xclient = [new IPNetwork(Filter, 32)] };

    private static ReceptionHost Host() => new(ReceptionHost.Loopback() with { Relay = Trusted });
}
