using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Server.Web;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp.Guard;

/// <summary>What a connection meets before it is a session, on loopback.</summary>
public sealed class GuardSocketTests : IDisposable
{
    private static readonly IPAddress A = IPAddress.Parse("127.0.0.2");
    private static readonly IPAddress B = IPAddress.Parse("127.0.0.3");
    private static readonly IPAddress Far = IPAddress.Parse("127.0.9.2");

    private readonly MetricsCollector _meters = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _meters.Dispose();

    [Fact]
    public async Task Denied_clients_read_why_and_allowed_ones_have_no_limit()
    {
        await using ReceptionHost host = Host(
            new GuardOptions { Deny = [IPNetwork.Parse("127.0.0.0/24")], Allow = [IPNetwork.Parse("127.0.0.3/32")], AddressConnectionsPerMinute = 1, NetworkConnections = 1 },
            new LimitOptions { ConnectionsPerIp = 1 });
        Assert.Equal("554 5.7.1 Access denied\r\n", await HearAsync(host, A));
        List<NetworkStream> open = [];
        for (int i = 0; i < 3; i++)
        {
            open.Add(await ConnectAsync(host, B));
            Assert.StartsWith("220", await new SmtpTestClient(open[i]).ReadReplyAsync());
        }

        foreach (NetworkStream stream in open)
        {
            await stream.DisposeAsync();
        }

        await AssertEmptyAsync(host);
        Assert.Contains("hpmta_smtp_limited_total{limit=\"denied\"} 1\n", _meters.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_denied_client_can_be_reset_without_a_word()
    {
        await using ReceptionHost host = Host(new GuardOptions { Deny = [IPNetwork.Parse("127.0.0.2/32")], DenyAction = DenyAction.Drop });
        Exception? e = await Record.ExceptionAsync(() => HearAsync(host, A));
        Assert.Equal(SocketError.ConnectionReset, Assert.IsType<SocketException>(e is IOException ? e.InnerException : e).SocketErrorCode);
        await AssertEmptyAsync(host);
    }

    [Fact]
    public async Task Connections_of_a_network_are_capped_and_come_back()
    {
        await using ReceptionHost host = Host(new GuardOptions { NetworkConnections = 2 });
        NetworkStream first = await ConnectAsync(host, A);
        await using NetworkStream second = await ConnectAsync(host, B);
        Assert.StartsWith("220", await new SmtpTestClient(first).ReadReplyAsync());
        Assert.StartsWith("220", await new SmtpTestClient(second).ReadReplyAsync());
        Assert.StartsWith("421 4.7.0 Too many connections from your network", await HearAsync(host, IPAddress.Parse("127.0.0.4")));
        await using NetworkStream far = await ConnectAsync(host, Far);
        Assert.StartsWith("220", await new SmtpTestClient(far).ReadReplyAsync());
        await first.DisposeAsync();
        await Waiting.UntilAsync(() => host.Server.Gate.Admitted == 2);
        await using NetworkStream again = await ConnectAsync(host, A);
        Assert.StartsWith("220", await new SmtpTestClient(again).ReadReplyAsync());
    }

    [Fact]
    public async Task Connections_a_minute_are_refused_with_their_reason_until_time_has_passed()
    {
        FakeTimeProvider time = new();
        await using ReceptionHost host = Host(new GuardOptions { AddressConnectionsPerMinute = 2, NetworkConnectionsPerMinute = 3 }, time: time);
        Assert.StartsWith("220", await QuitAsync(host, A));
        Assert.StartsWith("220", await QuitAsync(host, A));
        Assert.StartsWith("421 4.7.0 Too many connections a minute from your address", await HearAsync(host, A));
        Assert.StartsWith("220", await QuitAsync(host, B));
        Assert.StartsWith("421 4.7.0 Too many connections a minute from your network", await HearAsync(host, B));
        time.Advance(TimeSpan.FromSeconds(60));
        Assert.StartsWith("220", await QuitAsync(host, A));
        string metrics = _meters.Render();
        Assert.Contains("hpmta_smtp_limited_total{limit=\"address_connections_per_minute\"} 1\n", metrics, StringComparison.Ordinal);
        Assert.Contains("hpmta_smtp_limited_total{limit=\"network_connections_per_minute\"} 1\n", metrics, StringComparison.Ordinal);
        Assert.Contains("hpmta_smtp_connections_refused_total 2\n", metrics, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_comes_when_all_places_are_taken_is_told_while_the_others_finish()
    {
        await using ReceptionHost host = Host(new GuardOptions(), new LimitOptions { Connections = 1 });
        await using NetworkStream stream = await ConnectAsync(host, A);
        SmtpTestClient client = new(stream);
        Assert.StartsWith("220", await client.ReadReplyAsync());
        Assert.StartsWith("421 4.3.2", await HearAsync(host, B));
        Assert.StartsWith("250", await client.CommandAsync("HELO c.example"));
        Assert.StartsWith("250", await client.CommandAsync("MAIL FROM:<a@b.example>"));
        Assert.StartsWith("250", await client.CommandAsync("RCPT TO:<a@local.example>"));
        Assert.StartsWith("421 4.3.2", await HearAsync(host, B));
        Assert.StartsWith("354", await client.CommandAsync("DATA"));
        Assert.StartsWith("250", await client.CommandAsync("Subject: x\r\n\r\ntext\r\n."));
        Assert.Contains("hpmta_smtp_limited_total{limit=\"connections\"} 2\n", _meters.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Resets_at_any_point_leave_nothing_counted()
    {
        await using ReceptionHost host = Host(new GuardOptions { NetworkConnections = 10_000, AddressConnectionsPerMinute = 0, NetworkConnectionsPerMinute = 0 },
            new LimitOptions { ConnectionsPerIp = 10_000 });
        string[] points = ["", "HE", "HELO c.example\r\n", "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@local.example>\r\nDATA\r\nhalf",
            "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@local.example>\r\nBDAT 100\r\nhalf", "JUNK\r\nJUNK\r\nJUNK\r\nJUNK\r\nJUNK\r\nJUNK\r\nJUNK\r\n"];
        await Task.WhenAll(Enumerable.Range(0, 120).Select(async i =>
        {
            using Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            await socket.ConnectAsync(host.Server.Endpoints[0], Cancellation);
            await socket.SendAsync(Encoding.ASCII.GetBytes(points[i % points.Length]), Cancellation);
            socket.LingerState = new LingerOption(enable: true, seconds: 0);
        }));
        await AssertEmptyAsync(host);
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
    }

    private ReceptionHost Host(GuardOptions guard, LimitOptions? limits = null, TimeProvider? time = null)
    {
        SmtpServerOptions options = ReceptionHost.Loopback(ListenerProfile.Mx);
        ReceptionHost host = new(
            options with
            {
                Listeners = [options.Listeners[0] with { Guard = true }],
                Relay = new RelayOptions { Networks = [], Domains = ["local.example"] },
                Guard = guard,
                Limits = limits ?? new LimitOptions(),
            },
            time, meters: _meters);
        host.Server.Start();
        return host;
    }

    private static async Task<NetworkStream> ConnectAsync(ReceptionHost host, IPAddress from)
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Bind(new IPEndPoint(from, 0));
        await socket.ConnectAsync(host.Server.Endpoints[0], Cancellation);
        return new NetworkStream(socket, ownsSocket: true);
    }

    /// <summary>All that a client hears that says nothing.</summary>
    private static async Task<string> HearAsync(ReceptionHost host, IPAddress from)
    {
        await using NetworkStream stream = await ConnectAsync(host, from);
        using StreamReader reader = new(stream, Encoding.ASCII);
        return await reader.ReadToEndAsync(Cancellation).WaitAsync(TimeSpan.FromSeconds(60), Cancellation);
    }

    private static async Task<string?> QuitAsync(ReceptionHost host, IPAddress from)
    {
        await using NetworkStream stream = await ConnectAsync(host, from);
        SmtpTestClient client = new(stream);
        string? greeting = await client.ReadReplyAsync();
        await client.CommandAsync("QUIT");
        return greeting;
    }

    private static async Task AssertEmptyAsync(ReceptionHost host)
    {
        // The last may still be on their way from the listener: what is counted for good never becomes nothing.
        await Waiting.UntilAsync(() => host.Server.SessionCount == 0 && host.Server.Gate.Admitted == 0 && host.Server.Gate.Counted == (0, 0));
    }
}
