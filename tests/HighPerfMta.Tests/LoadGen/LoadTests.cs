using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Load;
using HighPerfMta.LoadGen.Smtp;
using Waiting = HighPerfMta.TestKit.Waiting;

namespace HighPerfMta.Tests.LoadGen;

/// <summary>Source and sink against each other and against raw sockets, on loopback.</summary>
public class LoadTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 0)]
    [InlineData(2, 0)]
    [InlineData(1, 1)]
    [InlineData(2, 7)]
    public async Task What_the_source_counts_is_what_the_sink_got(int pipeline, int perConnection)
    {
        await using var sink = Sink();
        var options = Source(sink) with { Pipeline = pipeline, MessagesPerConnection = perConnection, Connections = 5, Count = 203, Recipients = 3 };

        var report = await new RelayRunner(options, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(203, report.Source.Accepted);
        Assert.Equal(203, report.Source.Attempted);
        Assert.Equal((0, 0), (report.Source.Refused, report.Source.Failed));
        Assert.Equal((203, 0, 0, 0), (report.Delivered, report.Lost, report.Duplicates, report.Unconfirmed));
        Assert.Equal(203 * 3, report.Sink.Recipients);
        Assert.Equal(203, report.EndToEndMs!.Count);
    }

    [Fact]
    public async Task What_is_due_while_both_ends_warm_up_counts_and_has_no_latency()
    {
        await using var sink = Sink();
        var options = Source(sink) with { Connections = 2, Count = 10, Rate = 100, WarmUp = TimeSpan.FromMilliseconds(50) };

        var report = await new RelayRunner(options, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal((10, 10), (report.Source.Accepted, report.Delivered));
        Assert.Equal(5, report.Source.LatencyMs!.Count);
        Assert.Equal(5, report.EndToEndMs!.Count);
    }

    [Fact]
    public async Task A_group_of_commands_larger_than_the_message_still_travels_with_the_end_of_the_one_before()
    {
        await using var sink = Sink();
        var options = Source(sink) with { Pipeline = 2, Connections = 2, Count = 20, Recipients = 400 };

        var report = await new RelayRunner(options, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal((20, 0, 0), (report.Delivered, report.Source.Failed, report.Lost));
        Assert.Equal(20 * 400, report.Sink.Recipients);
    }

    [Theory]
    [InlineData("SIZE", 1)]
    [InlineData("SIZE,pipelining", 6)]
    public async Task Commands_travel_together_only_to_a_server_that_announces_it(string keywords, int commands)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var options = new SourceOptions { Target = listener.LocalEndpoint, Sizes = OneKiB(), Connections = 1, Count = 1, Recipients = 4, Pipeline = 2, Timeout = Limit };

        var running = new SourceRunner(options).RunAsync(CancellationToken.None);
        using var server = await listener.AcceptSocketAsync();
        await server.SendAsync("220 hi\r\n"u8.ToArray());
        await ReadLinesAsync(server, 1);
        await server.SendAsync(System.Text.Encoding.ASCII.GetBytes("250-me\r\n" + string.Concat(keywords.Split(',').Select(k => $"250-{k} \r\n")) + "250 HELP\r\n"));
        var group = await ReadLinesAsync(server, commands);
        server.Close();
        await running.WaitAsync(Limit);

        Assert.StartsWith("MAIL FROM:", group, StringComparison.Ordinal);
        Assert.Equal(commands, group.Count(c => c == '\n'));
    }

    [Fact]
    public async Task A_message_in_several_copies_is_not_whole_before_its_last_recipient()
    {
        await using var sink = Sink();
        using var relay = new TcpListener(IPAddress.Loopback, 0);
        relay.Start();
        var splitting = SplitRecipientsAsync(relay, (IPEndPoint)sink.LocalEndPoint);
        var options = Source(sink) with { Target = relay.LocalEndpoint, Connections = 1, Count = 1, Recipients = 3, Pipeline = 0 };

        var report = await new RelayRunner(options, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);
        await splitting;

        Assert.Equal((1, 0, 0), (report.Delivered, report.Lost, report.MissingRecipients));
        Assert.Equal((3, 2), (sink.Recipients, report.Duplicates));
    }

    [Fact]
    public async Task Recipients_that_never_arrive_are_missing()
    {
        await using var sink = Sink();
        using var relay = new TcpListener(IPAddress.Loopback, 0);
        relay.Start();
        var splitting = SplitRecipientsAsync(relay, (IPEndPoint)sink.LocalEndPoint, copies: 1);
        var options = Source(sink) with { Target = relay.LocalEndpoint, Connections = 1, Count = 1, Recipients = 3, Pipeline = 0 };

        var report = await new RelayRunner(options, sink).RunAsync(TimeSpan.FromMilliseconds(100), CancellationToken.None).WaitAsync(Limit);
        await splitting;

        Assert.Equal((1, 0, 2), (report.Delivered, report.Lost, report.MissingRecipients));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Refusals_are_counted_by_code_and_never_as_accepted(int pipeline)
    {
        Assert.True(Rejection.TryParse("mail=10%:451,rcpt=10%:550,data=10%:452", out var rejections));
        await using var sink = Sink(o => o with { Rejections = rejections });
        var options = Source(sink) with { Pipeline = pipeline, Count = 400 };

        var report = await new RelayRunner(options, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(400, report.Source.Accepted + report.Source.Refused);
        Assert.Equal(report.Source.Refused, report.Source.RefusedByCode.Values.Sum());
        Assert.Equal([451, 452, 550], report.Source.RefusedByCode.Keys);
        Assert.Equal(report.Source.Accepted, report.Delivered);
        Assert.EndsWith("Refused by the load test", report.Source.FirstRefusal, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_message_arrives_byte_exact()
    {
        var sent = new ConcurrentDictionary<long, byte[]>();
        var got = new ConcurrentDictionary<long, ReceivedMessage>();
        await using var sink = Sink(o => o with { Received = m => got[m.Mark!.Value.Sequence] = m });
        Assert.True(SizeMix.TryParse("1KiB:5,100KiB:2,3MiB:1", out var mix, out _));
        var options = Source(sink) with { Sizes = mix!, Count = 64, Pipeline = 2, Accepted = (sequence, hash) => sent[sequence] = hash };

        await new RelayRunner(options, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(64, sent.Count);
        Assert.All(sent, s => Assert.Equal(s.Value, got[s.Key].Sha256));
        Assert.All(got, g => Assert.Equal(mix!.For(g.Key).Size, g.Value.Size));
    }

    [Fact]
    public async Task A_second_copy_is_a_duplicate()
    {
        await using var sink = Sink();
        var options = Source(sink) with { Count = 30 };

        await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);
        await new SourceRunner(options with { Count = 10 }).RunAsync(CancellationToken.None).WaitAsync(Limit);

        await Waiting.UntilAsync(() => sink.Delivered == 40);
        Assert.Equal(10, sink.Duplicates);
        Assert.Equal(30, sink.Report().Unique);
    }

    [Fact]
    public async Task A_server_that_dies_before_its_reply_makes_a_failure()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var serving = ServeAndDieAsync(listener);
        var options = new SourceOptions { Target = listener.LocalEndpoint, Sizes = OneKiB(), Connections = 1, Count = 1, Timeout = Limit };

        var report = await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);
        await serving;

        Assert.Equal((1, 0, 0, 1), (report.Attempted, report.Accepted, report.Refused, report.Failed));
    }

    [Fact]
    public async Task A_silent_server_is_left_when_the_time_is_over()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var options = new SourceOptions
        {
            Target = listener.LocalEndpoint,
            Sizes = OneKiB(),
            Connections = 1,
            Count = 1,
            Timeout = TimeSpan.FromMilliseconds(50),
        };

        var report = await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(1, report.Failed);
        Assert.Equal("no reply within the time limit", report.FirstFailure);
    }

    [Fact]
    public async Task Connections_that_wait_for_their_turn_are_not_opened_when_nothing_is_left_to_send()
    {
        await using var sink = Sink();

        var report = await new SourceRunner(Source(sink) with { Ramp = TimeSpan.FromHours(2), Count = 20 }).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal((20, 1), (report.Accepted, report.Connections));
    }

    [Fact]
    public async Task Connections_whose_turn_has_come_all_send()
    {
        await using var sink = Sink();
        var options = Source(sink) with { Ramp = TimeSpan.FromMilliseconds(30), Count = 0, Duration = TimeSpan.FromSeconds(1) };

        var report = await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal((options.Connections, 0), (report.Connections, report.Failed));
    }

    [Fact]
    public async Task A_paced_source_sends_its_count()
    {
        await using var sink = Sink();

        var report = await new SourceRunner(Source(sink) with { Rate = 2000, Count = 100 }).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal(100, report.Accepted);
    }

    [Fact]
    public async Task A_paced_source_ends_with_its_time_though_messages_are_due_later()
    {
        await using var sink = Sink();
        var options = Source(sink) with { Rate = 0.001, Count = 100, Duration = TimeSpan.FromMilliseconds(200) };

        var report = await new SourceRunner(options).RunAsync(CancellationToken.None).WaitAsync(Limit);

        Assert.Equal((report.Accepted, 0), (report.Attempted, report.Failed));
        Assert.InRange(report.Accepted, 0, 1);
    }

    [Fact]
    public async Task Replies_are_read_whole_over_any_split()
    {
        var replies = "220-first\r\n220 second\r\n250\r\n354 go\r\n"u8.ToArray();
        for (var split = 1; split < replies.Length; split++)
        {
            var (client, server) = await ConnectAsync();
            using (server)
            using (var wire = new SmtpWire(client))
            {
                await server.SendAsync(replies.AsMemory(0, split));
                var first = wire.ReadReplyAsync();
                await server.SendAsync(replies.AsMemory(split));

                Assert.Equal(220, await first);
                Assert.Equal(250, await wire.ReadReplyAsync());
                Assert.Equal(354, await wire.ReadReplyAsync());
            }
        }
    }

    [Theory]
    [InlineData("hello\r\n")]
    [InlineData("25 x\r\n")]
    [InlineData("250_x\r\n")]
    public async Task What_is_no_reply_is_an_error(string line)
    {
        var (client, server) = await ConnectAsync();
        using (server)
        using (var wire = new SmtpWire(client))
        {
            await server.SendAsync(System.Text.Encoding.ASCII.GetBytes(line));

            await Assert.ThrowsAsync<IOException>(async () => await wire.ReadReplyAsync());
        }
    }

    [Fact]
    public async Task The_sink_takes_a_dialogue_octet_by_octet_and_only_ends_at_the_dot()
    {
        ReceivedMessage? got = null;
        await using var sink = Sink(o => o with { Received = m => got = m });
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(sink.LocalEndPoint);
        using var wire = new SmtpWire(socket);
        const string Dialogue = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\nDATA\r\nA: b\r\n\r\n..x\r\n\n.\n\r\n.\r\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\nBDAT 4\r\na\r\nbBDAT 0 LAST\r\nQUIT\r\n";
        foreach (var octet in System.Text.Encoding.ASCII.GetBytes(Dialogue))
        {
            await wire.SendAsync(new[] { octet });
        }

        foreach (var code in (int[])[220, 250, 250, 250, 354, 250, 250, 250, 250, 250, 221])
        {
            Assert.Equal(code, await wire.ReadReplyAsync());
        }

        await Waiting.UntilAsync(() => sink.Delivered == 2);
        Assert.Equal(4, got!.Value.Size);
        Assert.Equal("A: b\r\n\r\n.x\r\n\n.\n\r\n\r\r\n".Length + 4, sink.Report().Octets);
    }

    private static async Task ServeAndDieAsync(TcpListener listener)
    {
        using var server = await listener.AcceptSocketAsync();
        await server.SendAsync("220 hi\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"u8.ToArray());
        var buffer = new byte[65536];
        for (var text = ""; !text.EndsWith("\r\n.\r\n", StringComparison.Ordinal);)
        {
            text += System.Text.Encoding.ASCII.GetString(buffer, 0, await server.ReceiveAsync(buffer));
        }
    }

    /// <summary>What arrives until so many lines are there.</summary>
    private static async Task<string> ReadLinesAsync(Socket socket, int lines)
    {
        var buffer = new byte[65536];
        var text = "";
        while (text.Count(c => c == '\n') < lines)
        {
            var read = await socket.ReceiveAsync(buffer).WaitAsync(Limit);
            Assert.NotEqual(0, read);
            text += System.Text.Encoding.ASCII.GetString(buffer, 0, read);
        }

        return text;
    }

    /// <summary>Takes one message, and sends a copy to each of the first recipients as an MTA may.</summary>
    private static async Task SplitRecipientsAsync(TcpListener listener, IPEndPoint next, int copies = int.MaxValue)
    {
        using var server = await listener.AcceptSocketAsync();
        await server.SendAsync("220 hi\r\n"u8.ToArray());
        var recipients = new List<string>();
        var line = "";
        while (!line.StartsWith("DATA", StringComparison.Ordinal))
        {
            line = await ReadLinesAsync(server, 1);
            recipients.AddRange(line.StartsWith("RCPT", StringComparison.Ordinal) ? [line] : []);
            await server.SendAsync(line.StartsWith("DATA", StringComparison.Ordinal) ? "354 go\r\n"u8.ToArray() : "250 ok\r\n"u8.ToArray());
        }

        var content = "";
        while (!content.EndsWith("\r\n.\r\n", StringComparison.Ordinal))
        {
            content += await ReadLinesAsync(server, 1);
        }

        await server.SendAsync("250 taken\r\n"u8.ToArray());
        foreach (var recipient in recipients.Take(copies))
        {
            using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            await socket.ConnectAsync(next);
            using var wire = new SmtpWire(socket);
            await wire.SendAsync(System.Text.Encoding.ASCII.GetBytes($"EHLO a\r\nMAIL FROM:<>\r\n{recipient}DATA\r\n{content}QUIT\r\n"));
            foreach (var code in (int[])[220, 250, 250, 250, 354, 250, 221])
            {
                Assert.Equal(code, await wire.ReadReplyAsync());
            }
        }
    }

    [Theory]
    [InlineData("StartTls")]
    [InlineData("Implicit")]
    public async Task Source_and_sink_speak_tls(string mode)
    {
        var tls = Enum.Parse<LoadTls>(mode);
        await using var sink = Sink(o => o with { Tls = tls });
        var report = await new SourceRunner(Source(sink) with { Tls = tls, Count = 40 }).RunAsync(TestContext.Current.CancellationToken);
        Assert.Equal(40, report.Accepted);
        Assert.Equal(40, sink.Report().Delivered);
        Assert.Equal(0, sink.Report().Broken);
    }

    private static async Task<(Socket Client, Socket Server)> ConnectAsync()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(listener.LocalEndpoint);
        return (client, await listener.AcceptSocketAsync());
    }

    private static SinkServer Sink(Func<SinkOptions, SinkOptions>? change = null)
    {
        var options = new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) };
        var sink = new SinkServer(change is null ? options : change(options));
        sink.Start();
        return sink;
    }

    private static SourceOptions Source(SinkServer sink) => new()
    {
        Target = sink.LocalEndPoint,
        Connections = 4,
        Sizes = OneKiB(),
        Pipeline = 1,
        Timeout = Limit,
    };

    private static SizeMix OneKiB() => SizeMix.TryParse("1KiB", out var mix, out _) ? mix! : throw new InvalidOperationException();
}
