using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Net;

public class ReceptionSocketTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_one_of_500_clients_reads_the_last_reply()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Limits = new LimitOptions { ConnectionsPerIp = 1000 } });
        host.Server.Start();
        string[] all = await Task.WhenAll(Enumerable.Range(0, 500).Select(async _ =>
        {
            await using NetworkStream stream = await host.ConnectAsync(Cancellation);

            // Input left unread at the close must not destroy the reply either.
            await stream.WriteAsync("QUIT\r\nNOOP\r\nNOOP\r\n"u8.ToArray(), Cancellation);
            return await ReadToEndAsync(stream);
        }));
        Assert.All(all, static text => Assert.EndsWith("221 2.0.0 Bye\r\n", text));
    }

    [Fact]
    public async Task Connections_of_one_address_are_capped_with_421_and_come_back()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Limits = new LimitOptions { ConnectionsPerIp = 2 } });
        host.Server.Start();
        NetworkStream first = await host.ConnectAsync(Cancellation);
        NetworkStream second = await host.ConnectAsync(Cancellation);
        Assert.StartsWith("220", await new SmtpTestClient(first).ReadReplyAsync());
        Assert.StartsWith("220", await new SmtpTestClient(second).ReadReplyAsync());
        await using (NetworkStream third = await host.ConnectAsync(Cancellation))
        {
            Assert.StartsWith("421 4.7.0", await ReadToEndAsync(third));
        }

        Assert.StartsWith("221", await new SmtpTestClient(first).CommandAsync("QUIT"));
        await first.DisposeAsync();
        await Waiting.UntilAsync(() => host.Server.Gate.Admitted == 1);
        await using NetworkStream fourth = await host.ConnectAsync(Cancellation);
        Assert.StartsWith("220", await new SmtpTestClient(fourth).ReadReplyAsync());
        await second.DisposeAsync();
    }

    [Fact]
    public async Task Connections_in_all_are_capped_with_421()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Limits = new LimitOptions { Connections = 2 } });
        host.Server.Start();
        await using NetworkStream first = await host.ConnectAsync(Cancellation);
        await using NetworkStream second = await host.ConnectAsync(Cancellation);
        Assert.StartsWith("220", await new SmtpTestClient(first).ReadReplyAsync());
        Assert.StartsWith("220", await new SmtpTestClient(second).ReadReplyAsync());
        await using NetworkStream third = await host.ConnectAsync(Cancellation);
        Assert.StartsWith("421 4.3.2", await ReadToEndAsync(third));
    }

    [Fact]
    public async Task The_cap_stays_below_the_descriptor_limit_and_waits_before_accept_when_all_places_are_taken()
    {
        // 1003 descriptors less the reserve of 1000 leave a quarter: 250. With 250 sessions and 64 refusals open nothing more is accepted.
        Assert.Equal(250, DescriptorLimit.ConnectionsBelow(1003));
        await using ReceptionHost host = new(
            ReceptionHost.Loopback() with { Limits = new LimitOptions { ConnectionsPerIp = 10_000 } }, descriptors: 12);
        const int cap = 3;
        host.Server.Start();
        List<NetworkStream> clients = [];
        for (int i = 0; i < cap; i++)
        {
            clients.Add(await host.ConnectAsync(Cancellation));
            Assert.StartsWith("220", await new SmtpTestClient(clients[i]).ReadReplyAsync());
        }

        // Clients that are refused and do not close hold their places until the close gives up on them.
        for (int i = 0; i < ConnectionGate.RefusalPlaces; i++)
        {
            clients.Add(await host.ConnectAsync(Cancellation));
        }

        await Waiting.UntilAsync(() => host.Server.Gate.FreePlaces == 0);
        Assert.Equal(cap, host.Server.Gate.Admitted);
        await using (NetworkStream waiting = await host.ConnectAsync(Cancellation))
        {
            Assert.StartsWith("421 4.3.2", await ReadToEndAsync(waiting));
        }

        foreach (NetworkStream client in clients)
        {
            await client.DisposeAsync();
        }

        await Waiting.UntilAsync(() => host.Server.Gate.Admitted == 0);
        await using NetworkStream after = await host.ConnectAsync(Cancellation);
        Assert.StartsWith("220", await new SmtpTestClient(after).ReadReplyAsync());
    }

    [Fact]
    public async Task Many_listeners_on_both_families_each_with_its_profile()
    {
        Assert.SkipUnless(Socket.OSSupportsIPv6, "no IPv6 here");
        await using ReceptionHost host = new(new SmtpServerOptions
        {
            Hostname = ReceptionHost.Hostname,
            Listeners =
            [
                new ListenerOptions(new IPEndPoint(IPAddress.Loopback, 0), ListenerProfile.Relay),
                new ListenerOptions(new IPEndPoint(IPAddress.IPv6Loopback, 0), ListenerProfile.Mx),
            ],
            Relay = new RelayOptions { Networks = [] },
        });
        host.Server.Start();
        Assert.Equal([AddressFamily.InterNetwork, AddressFamily.InterNetworkV6], host.Server.Endpoints.Select(static e => e.AddressFamily));
        Assert.StartsWith("550", await MailReplyAsync(host.Server.Endpoints[0]));
        Assert.StartsWith("250", await MailReplyAsync(host.Server.Endpoints[1]));
    }

    [Fact]
    public async Task A_port_in_use_is_an_error_and_leaves_nothing_listening()
    {
        await using ReceptionHost first = new();
        first.Server.Start();
        using Socket probe = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        probe.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        IPEndPoint free = (IPEndPoint)probe.LocalEndPoint!;
        probe.Dispose();
        await using ReceptionHost second = new(ReceptionHost.Loopback() with
        {
            Listeners = [new ListenerOptions(free, ListenerProfile.Relay), new ListenerOptions(first.Server.Endpoints[0], ListenerProfile.Relay)],
        });
        SocketException e = Assert.Throws<SocketException>(second.Server.Start);
        Assert.Equal(SocketError.AddressAlreadyInUse, e.SocketErrorCode);
        Assert.Equal(first.Server.Endpoints[0].ToString(), e.Data["address"]);
        using Socket again = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        SocketException refused = await Assert.ThrowsAsync<SocketException>(() => again.ConnectAsync(free, Cancellation).AsTask());
        Assert.Equal(SocketError.ConnectionRefused, refused.SocketErrorCode);
    }

    [Fact]
    public async Task A_stop_closes_the_port_and_tells_the_idle()
    {
        await using ReceptionHost host = new();
        host.Server.Start();
        IPEndPoint endpoint = host.Server.Endpoints[0];
        await using NetworkStream stream = await host.ConnectAsync(Cancellation);
        Assert.StartsWith("220", await new SmtpTestClient(stream).ReadReplyAsync());
        await host.Server.StopAsync(Cancellation);
        Assert.StartsWith("421 4.3.2", await ReadToEndAsync(stream));
        using Socket late = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await Assert.ThrowsAsync<SocketException>(() => late.ConnectAsync(endpoint, Cancellation).AsTask());
    }

    [Fact]
    public async Task A_peer_that_resets_ends_its_session_alone()
    {
        await using ReceptionHost host = new();
        host.Server.Start();
        using (Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp))
        {
            await socket.ConnectAsync(host.Server.Endpoints[0], Cancellation);
            await socket.SendAsync("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nhalf"u8.ToArray(), Cancellation);
            socket.LingerState = new LingerOption(enable: true, seconds: 0);
        }

        await Waiting.UntilAsync(() => host.Server.SessionCount == 0 && host.Server.Gate.Admitted == 0);
        Assert.Empty(host.Intake.Messages);
        Assert.Equal(0, host.Intake.Open);
        Assert.StartsWith("250", await MailReplyAsync(host.Server.Endpoints[0]));
    }

    [Fact]
    public async Task Abort_ends_a_read_and_a_flush_that_wait()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        Socket client = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(listener.LocalEndPoint!, Cancellation);
        using Socket peer = await listener.AcceptAsync(Cancellation);
        await using PipeSocketConnection connection = PipeSocketConnection.Create(client);
        Assert.Equal(listener.LocalEndPoint, connection.Remote);
        Task read = connection.Input.ReadAsync(Cancellation).AsTask();
        Task flush = Task.Run(async () =>
        {
            byte[] block = new byte[64 << 10];
            while (!(await connection.Output.WriteAsync(block, Cancellation)).IsCompleted)
            {
            }
        }, Cancellation);
        connection.Abort();
        connection.Abort();
        await Task.WhenAny(Task.WhenAll(read, flush), Task.Delay(TimeSpan.FromSeconds(30), Cancellation));
        Assert.True(read.IsCompleted && flush.IsCompleted);
    }

    private static async Task<string?> MailReplyAsync(IPEndPoint endpoint)
    {
        using Socket socket = new(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(endpoint, Cancellation);
        await using NetworkStream stream = new(socket);
        SmtpTestClient client = new(stream);
        await client.ReadReplyAsync();
        await client.CommandAsync("HELO c.example");
        return await client.CommandAsync("MAIL FROM:<a@b.example>");
    }

    private static async Task<string> ReadToEndAsync(Stream stream)
    {
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        using StreamReader reader = new(stream, Encoding.ASCII, leaveOpen: true);
        return await reader.ReadToEndAsync(limit.Token);
    }
}
