using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp;

/// <summary>Listeners behind a balancer, over sockets.</summary>
public class ProxyListenerTests
{
    private const string Outsider = "PROXY TCP4 203.0.113.1 192.0.2.25 1234 25\r\n";

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("PROXY TCP4 203.0.113.1 192.0.2.25 1234 25\r\n", "550 5.7.1")]
    [InlineData("PROXY TCP4 127.0.0.9 192.0.2.25 1234 25\r\n", "250")]
    [InlineData("PROXY UNKNOWN\r\n", "550 5.7.1")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n \0\0\0", "250")]
    public async Task The_header_says_whose_rights_count(string header, string answer)
    {
        await using ReceptionHost host = Host();
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        SmtpTestClient client = new(stream);
        await client.SendAsync(header);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("EHLO c.example");
        Assert.StartsWith(answer, await client.CommandAsync("MAIL FROM:<a@b.example>"));
    }

    [Fact]
    public async Task A_header_in_pieces_and_commands_right_behind_it()
    {
        await using ReceptionHost host = Host();
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        SmtpTestClient client = new(stream);
        foreach (char octet in Outsider)
        {
            await client.SendAsync(octet.ToString());
        }

        await client.SendAsync("EHLO c.example\r\nQUIT\r\n");
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("250", await client.ReadReplyAsync());
        Assert.StartsWith("221", await client.ReadReplyAsync());
    }

    [Theory]
    [InlineData("EHLO c.example\r\n", "Missing")]
    [InlineData("PROXY TCP4 nonsense\r\n", "Malformed")]
    [InlineData(null, "Closed")]
    public async Task A_balancer_without_a_header_is_closed_and_told(string? octets, string cause)
    {
        RecordingLoggers log = new();
        await using ReceptionHost host = Host(log);
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        SmtpTestClient client = new(stream);
        if (octets is null)
        {
            stream.Socket.Shutdown(SocketShutdown.Send);
        }
        else
        {
            await client.SendAsync(octets);
        }

        Assert.Equal("", await ReadToEndAsync(stream));
        await Waiting.UntilAsync(() => log.Warnings.Any(w => w.Contains($"({cause})", StringComparison.Ordinal)));
        await Waiting.UntilAsync(() => host.Server.Gate.FreePlaces == new LimitOptions().Connections + ConnectionGate.RefusalPlaces - 1);
    }

    [Fact]
    public async Task A_header_that_does_not_come_is_not_waited_for()
    {
        FakeTimeProvider time = new();
        RecordingLoggers log = new();
        await using ReceptionHost host = Host(log, time);
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        await stream.WriteAsync("PROXY TCP4"u8.ToArray(), Cancellation);
        await Waiting.UntilAsync(() =>
        {
            time.Advance(TimeSpan.FromSeconds(3));
            return log.Warnings.Any(static w => w.Contains("(Timeout)", StringComparison.Ordinal));
        });
        Assert.Equal("", await ReadToEndAsync(stream));
    }

    [Fact]
    public async Task Limits_are_of_the_client_and_not_of_the_balancer()
    {
        await using ReceptionHost host = Host(limits: new LimitOptions { ConnectionsPerIp = 1 });
        await using NetworkStream one = await GreetAsync(host, "PROXY TCP4 203.0.113.1 192.0.2.25 1 25\r\n", "220");
        await using NetworkStream two = await GreetAsync(host, "PROXY TCP4 203.0.113.2 192.0.2.25 1 25\r\n", "220");
        await using NetworkStream again = await GreetAsync(host, "PROXY TCP4 203.0.113.1 192.0.2.25 2 25\r\n", "421 4.7.0");
    }

    [Fact]
    public async Task Others_than_balancers_are_clients_themselves()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with
        {
            Listeners = [new ListenerOptions(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay) { ProxyProtocol = [IPNetwork.Parse("10.0.0.0/8")] }],
        });
        host.Server.Start();
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("500 5.5.2", await client.CommandAsync(Outsider.TrimEnd()));
    }

    [Fact]
    public async Task The_header_comes_before_the_handshake()
    {
        using TestTls tls = new();
        await using ReceptionHost host = Host(tls: tls, mode: TlsMode.Implicit);
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        await stream.WriteAsync(Encoding.ASCII.GetBytes(Outsider), Cancellation);
        await using SslStream secure = await tls.Authority.ConnectAsync(stream, ReceptionHost.Hostname);
        SmtpTestClient client = new(secure);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        await client.CommandAsync("EHLO c.example");
        Assert.StartsWith("550 5.7.1", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("221", await client.CommandAsync("QUIT"));
    }

    [Fact]
    public async Task A_server_that_stops_does_not_wait_for_a_header()
    {
        FakeTimeProvider time = new();
        RecordingLoggers log = new();
        ReceptionHost host = Host(log, time);
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        await Waiting.UntilAsync(() => host.Server.Gate.FreePlaces == new LimitOptions().Connections + ConnectionGate.RefusalPlaces - 2);
        await host.DisposeAsync();
        Assert.Equal("", await ReadToEndAsync(stream));
        await Waiting.UntilAsync(() => host.Server.Gate.FreePlaces >= new LimitOptions().Connections + ConnectionGate.RefusalPlaces - 1);
        Assert.DoesNotContain(log.Warnings, static w => w.Contains("PROXY", StringComparison.Ordinal));
    }

    private static async Task<NetworkStream> GreetAsync(ReceptionHost host, string header, string greeting)
    {
        NetworkStream stream = await host.ConnectAsync(Cancellation);
        SmtpTestClient client = new(stream);
        await client.SendAsync(header);
        Assert.StartsWith(greeting, await client.ReadReplyAsync());
        return stream;
    }

    private static ReceptionHost Host(
        RecordingLoggers? log = null, TimeProvider? time = null, LimitOptions? limits = null, TestTls? tls = null, TlsMode mode = TlsMode.Off)
    {
        ReceptionHost host = new(
            ReceptionHost.Loopback() with
            {
                Limits = limits ?? new LimitOptions(),
                Listeners =
                [
                    new ListenerOptions(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay) { Tls = mode, ProxyProtocol = [IPNetwork.Parse("127.0.0.0/8")] },
                ],
            },
            time,
            loggers: log,
            tls: tls?.Acceptor);
        host.Server.Start();
        return host;
    }

    private static async Task<string> ReadToEndAsync(NetworkStream stream)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        limit.CancelAfter(TimeSpan.FromSeconds(30));
        StringBuilder text = new();
        byte[] buffer = new byte[256];
        try
        {
            for (int read; (read = await stream.ReadAsync(buffer, limit.Token)) > 0;)
            {
                text.Append(Encoding.Latin1.GetString(buffer, 0, read));
            }
        }
        catch (IOException e) when (e.InnerException is SocketException { SocketErrorCode: SocketError.ConnectionReset })
        {
            // Closed with octets unread.
        }

        return text.ToString();
    }
}
