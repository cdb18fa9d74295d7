using System.Globalization;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Net;

/// <summary>Signals, the poller's threads, connecting and accepting without the runtime's socket engine.</summary>
public class SocketPollerTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_happens_while_nobody_waits_is_kept_once()
    {
        SocketSignal signal = new();
        signal.Set(inline: true);
        signal.Set(inline: true);
        Assert.True(signal.WaitAsync().AsTask().IsCompletedSuccessfully);
        Task waiting = signal.WaitAsync().AsTask();
        Assert.False(waiting.IsCompleted);
        signal.Set(inline: true);
        await waiting.WaitAsync(Patience, Cancellation);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task No_signal_is_lost_between_threads(int givers)
    {
        const int rounds = 100_000;
        SocketSignal signal = new();
        int given = 0;
        Task[] giving = [.. Enumerable.Range(0, givers).Select(_ => Task.Run(
            () =>
            {
                for (int i = 0; i < rounds; i++)
                {
                    Interlocked.Increment(ref given);
                    signal.Set(inline: i % 2 == 0);
                }
            },
            Cancellation))];

        // Whoever waits looks after each signal: the last one must be seen.
        while (Volatile.Read(ref given) < givers * rounds)
        {
            await signal.WaitAsync().AsTask().WaitAsync(Patience, Cancellation);
        }

        await Task.WhenAll(giving);
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    public async Task A_connection_knows_both_ends_and_carries_both_ways(string address)
    {
        using Socket listener = Listen(address);
        IPEndPoint remote = (IPEndPoint)listener.LocalEndPoint!;
        await using IConnection near = await new SocketConnector().ConnectAsync(remote, Cancellation);
        await using PipeSocketConnection far = PipeSocketConnection.Create(await listener.AcceptAsync(Cancellation));
        Assert.Equal(remote, near.Remote);
        Assert.Equal(near.Local, far.Remote);
        Assert.Equal(remote, far.Local);
        await near.Output.WriteAsync("ping"u8.ToArray(), Cancellation);
        Assert.Equal("ping"u8.ToArray(), await TakeAsync(far.Input, 4));
        await far.Output.WriteAsync("pong"u8.ToArray(), Cancellation);
        Assert.Equal("pong"u8.ToArray(), await TakeAsync(near.Input, 4));
    }

    [Fact]
    public async Task What_is_accepted_sends_at_once()
    {
        using Socket listener = SocketListener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        using Socket far = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await far.ConnectAsync(listener.LocalEndPoint!, TestContext.Current.CancellationToken);
        TcpSocket? near;
        while ((near = TcpSocket.TryAccept(listener, TcpSocket.NewPeer(), out _)) is null)
        {
            await Task.Yield();
        }

        using (near)
        {
            using Socket same = new(new SafeSocketHandle(near.DangerousGetHandle(), ownsHandle: false));
            Assert.True(same.NoDelay);
        }
    }

    [Fact]
    public async Task A_source_address_is_used()
    {
        using Socket listener = Listen("127.0.0.1");
        await using IConnection near = await new SocketConnector(IPAddress.Parse("127.0.0.7")).ConnectAsync((IPEndPoint)listener.LocalEndPoint!, Cancellation);
        using Socket far = await listener.AcceptAsync(Cancellation);
        Assert.Equal(IPAddress.Parse("127.0.0.7"), ((IPEndPoint)far.RemoteEndPoint!).Address);
    }

    [Fact]
    public async Task A_source_address_that_is_not_ours_and_a_port_nobody_listens_on_are_told_as_what_they_are()
    {
        IPEndPoint nobody;
        using (Socket closed = Listen("127.0.0.1"))
        {
            nobody = (IPEndPoint)closed.LocalEndPoint!;
        }

        SocketException refused = await Assert.ThrowsAsync<SocketException>(async () => await new SocketConnector().ConnectAsync(nobody, Cancellation));
        Assert.Equal(SocketError.ConnectionRefused, refused.SocketErrorCode);
        SocketException foreign = await Assert.ThrowsAsync<SocketException>(async () => await new SocketConnector(IPAddress.Parse("192.0.2.1")).ConnectAsync(nobody, Cancellation));
        Assert.Equal(SocketError.AddressNotAvailable, foreign.SocketErrorCode);
    }

    [Fact]
    public async Task A_connect_that_is_not_answered_ends_with_its_token()
    {
        // A full backlog: the kernel answers no further SYN.
        const int backlog = 1;
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen(backlog);
        IPEndPoint remote = (IPEndPoint)listener.LocalEndPoint!;
        List<IConnection> taken = [];
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
        do
        {
            // The next one would not be answered if the kernel were still about to count this one.
            taken.Add(await new SocketConnector().ConnectAsync(remote, stop.Token));
            await Waiting.UntilAsync(() => WaitingFor(remote) == taken.Count);
        }
        while (taken.Count <= backlog);

        Task<IConnection> connecting = new SocketConnector().ConnectAsync(remote, stop.Token).AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connecting.WaitAsync(Patience, Cancellation));
        foreach (IConnection connection in taken)
        {
            await connection.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_peer_that_never_pauses_leaves_the_pollers_thread_to_others()
    {
        using Socket listener = Listen("127.0.0.1");
        using Socket fast = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await fast.ConnectAsync(listener.LocalEndPoint!, Cancellation);
        await using PipeSocketConnection reading = PipeSocketConnection.Create(await listener.AcceptAsync(Cancellation));
        byte[] block = new byte[1 << 20];
        Task sending = Task.Run(
            async () =>
            {
                for (int i = 0; i < 64; i++)
                {
                    await fast.SendAsync(block, Cancellation);
                }

                fast.Shutdown(SocketShutdown.Send);
            },
            Cancellation);
        int inline = 0;
        int most = 0;
        long octets = 0;
        for (bool ended = false; !ended;)
        {
            ValueTask<ReadResult> read = reading.Input.ReadAsync(Cancellation);
            inline = read.IsCompleted && SocketPoller.IsCurrent ? inline + 1 : 0;
            ReadResult result = await read;
            most = Math.Max(most, inline);
            octets += result.Buffer.Length;
            ended = result.IsCompleted;
            reading.Input.AdvanceTo(result.Buffer.End);
        }

        await sending;
        Assert.Equal(64L << 20, octets);
        Assert.InRange(most, 0, SocketReader.MostInline);
    }

    [Fact]
    public async Task Thousands_that_come_and_go_are_each_told_their_own()
    {
        using Socket listener = Listen("127.0.0.1");
        IPEndPoint remote = (IPEndPoint)listener.LocalEndPoint!;
        await Parallel.ForEachAsync(Enumerable.Range(0, 2000), new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancellation }, async (number, stop) =>
        {
            await using IConnection near = await new SocketConnector().ConnectAsync(remote, stop);
            await using PipeSocketConnection far = PipeSocketConnection.Create(await listener.AcceptAsync(stop));
            byte[] said = BitConverter.GetBytes(number);
            await far.Output.WriteAsync(said, stop);
            byte[] heard = await TakeAsync(near.Input, 4);

            // Another pair's accept may have taken this one's connection: each hears whole words of somebody.
            Assert.InRange(BitConverter.ToInt32(heard), 0, 1999);
            if (number % 3 == 0)
            {
                near.Abort();
            }
        });
    }

    /// <summary>Connections that nobody has accepted yet: the rx_queue of the socket that listens on 127.0.0.1 (proc_net_tcp); -1 where its line was not met.</summary>
    private static int WaitingFor(IPEndPoint listener)
    {
        const string listening = "0A";
        string address = string.Create(CultureInfo.InvariantCulture, $"0100007F:{listener.Port:X4}");
        string[]? socket = File.ReadLines("/proc/net/tcp").Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .FirstOrDefault(fields => fields[3] == listening && fields[1] == address);
        return socket is null ? -1 : int.Parse(socket[4].Split(':')[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    private static Socket Listen(string address)
    {
        IPEndPoint any = new(IPAddress.Parse(address), 0);
        Socket listener = new(any.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(any);
        listener.Listen();
        return listener;
    }

    private static async Task<byte[]> TakeAsync(PipeReader input, int count)
    {
        ReadResult result = await input.ReadAtLeastAsync(count, Cancellation).AsTask().WaitAsync(Patience, Cancellation);
        byte[] taken = System.Buffers.BuffersExtensions.ToArray(result.Buffer.Slice(0, count));
        input.AdvanceTo(result.Buffer.GetPosition(count));
        return taken;
    }
}
