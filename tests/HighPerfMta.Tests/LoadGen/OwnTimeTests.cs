using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Load;
using HighPerfMta.LoadGen.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.LoadGen;

/// <summary>What the harness itself is late is told apart from what the server takes.</summary>
public class OwnTimeTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);
    private static readonly long MostOfPause = (long)(Pause.TotalSeconds * 0.9 * Stopwatch.Frequency);

    // The kernel begins to take times a little after the first socket asked for them.
    private const int MostTries = 200;

    [Fact]
    public async Task A_message_begun_late_by_a_free_sender_is_the_sources_own_delay_and_one_that_waits_for_a_busy_sender_is_latency()
    {
        await using var sink = new SinkServer(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) });
        sink.Start();
        var options = new SourceOptions { Target = sink.LocalEndPoint, Sizes = OneKiB(), Connections = 1, Count = 2, Rate = 1000, Timeout = Limit };
        var longAgo = Stopwatch.GetTimestamp() - (1000 * Stopwatch.Frequency);

        var report = await new SourceRunner(options).RunAsync(longAgo, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(2, report.Accepted);
        Assert.Equal((2, 2), (report.LatencyMs!.Count, report.OwnDelayMs!.Count));
        Assert.InRange(report.OwnDelayMs.MaxMs, 999_000, 1_100_000);
        Assert.InRange(report.OwnDelayMs.P50Ms, 0, 100_000);
        Assert.InRange(report.LatencyMs.MaxMs, 999_000, 1_100_000);
        Assert.InRange(report.LatencyMs.P50Ms, 0, 100_000);
    }

    [Fact]
    public async Task Without_a_rate_a_source_is_never_late()
    {
        await using var sink = new SinkServer(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) });
        sink.Start();
        var options = new SourceOptions { Target = sink.LocalEndPoint, Sizes = OneKiB(), Connections = 2, Count = 20, Timeout = Limit };

        var report = await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(20, report.LatencyMs!.Count);
        Assert.Null(report.OwnDelayMs);
    }

    [Fact]
    public async Task A_connection_for_each_message_is_timed_as_well()
    {
        await using var sink = new SinkServer(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) });
        sink.Start();
        var options = new SourceOptions
        {
            Target = sink.LocalEndPoint,
            Sizes = OneKiB(),
            Connections = 2,
            MessagesPerConnection = 1,
            Count = 20,
            Rate = 1000,
            Timeout = Limit,
        };

        var report = await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal((20, 20), (report.Accepted, report.Connections));
        Assert.Equal((20, 20), (report.LatencyMs!.Count, report.OwnDelayMs!.Count));
    }

    [Fact]
    public async Task Arrival_is_when_the_kernel_had_the_octets_not_when_they_were_read()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && Environment.Is64BitProcess, "the kernel's time of arrival is known on 64-bit Linux");
        var (client, server) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        using var near = client;
        using var far = server;
        Assert.True(Arrivals.TryEnable(client));
        var buffer = new byte[100];
        Assert.Equal(-1, Arrivals.Receive(client, buffer, out _));

        var known = false;
        for (var i = 0; i < MostTries && !known; i++)
        {
            var before = Stopwatch.GetTimestamp();
            await server.SendAsync("250 ok\r\n"u8.ToArray());
            await PassAsync(Stopwatch.GetTimestamp());
            var read = Arrivals.Receive(client, buffer, out var arrivedAt);

            Assert.Equal("250 ok\r\n", System.Text.Encoding.ASCII.GetString(buffer, 0, read));
            Assert.InRange(arrivedAt, before - (Stopwatch.Frequency / 1000), Stopwatch.GetTimestamp());
            known = arrivedAt <= Stopwatch.GetTimestamp() - MostOfPause;
        }

        Assert.True(known);
        server.Dispose();
        await client.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None);
        Assert.Equal(0, Arrivals.Receive(client, buffer, out _));
    }

    [Fact]
    public async Task A_broken_connection_is_a_socket_error()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && Environment.Is64BitProcess, "the kernel's time of arrival is known on 64-bit Linux");
        var (client, server) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        using var near = client;
        Assert.True(Arrivals.TryEnable(client));
        server.LingerState = new LingerOption(true, 0);
        server.Dispose();
        Assert.True(client.Poll(Limit, SelectMode.SelectRead));

        var error = Assert.Throws<SocketException>(() => Arrivals.Receive(client, new byte[10], out _));

        Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
    }

    [Fact]
    public async Task The_peers_wait_for_what_follows_a_reply_is_this_ends_own_time_and_a_rest_between_messages_is_not()
    {
        var (client, server) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        using var far = server;
        using var wire = new SmtpWire(client);
        wire.TimeArrivals();

        await server.SendAsync("354 go on\r\n"u8.ToArray());
        Assert.Equal(354, await wire.ReadReplyAsync());
        await PassAsync(Stopwatch.GetTimestamp());
        await wire.SendAsync("one\r\n"u8.ToArray());
        var own = wire.OwnTime;
        await wire.SendAsync("two\r\n"u8.ToArray());

        Assert.True(own >= MostOfPause);
        Assert.Equal(own, wire.OwnTime);
        await server.SendAsync("250 ok\r\n"u8.ToArray());
        Assert.Equal(250, await wire.ReadReplyAsync());
        wire.Begin();
        await wire.SendAsync("three\r\n"u8.ToArray());
        Assert.Equal(0, wire.OwnTime);
    }

    [Fact]
    public async Task A_peer_that_is_slow_to_begin_tls_is_not_this_ends_own_time()
    {
        var (client, server) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        using var wire = new SmtpWire(client);
        await server.SendAsync("220 go\r\n"u8.ToArray());
        Assert.Equal(220, await wire.ReadReplyAsync());

        var securing = wire.SecureAsync().AsTask();
        var own = wire.OwnTime;
        await PassAsync(Stopwatch.GetTimestamp());
        server.Dispose();
        await Assert.ThrowsAnyAsync<Exception>(() => securing.WaitAsync(Limit));
        wire.CountOwnTime();

        Assert.Equal(own, wire.OwnTime);
    }

    private static SizeMix OneKiB() => SizeMix.TryParse("1KiB", out var mix, out _) ? mix! : throw new InvalidOperationException();

    private static async Task PassAsync(long from)
    {
        while (Stopwatch.GetElapsedTime(from) < Pause)
        {
            await Task.Yield();
        }
    }
}
