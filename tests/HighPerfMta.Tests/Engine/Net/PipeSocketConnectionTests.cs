using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Net;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Net;

public sealed class PipeSocketConnectionTests : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private PipeSocketConnection _near = null!;
    private Socket _far = null!;

    public async ValueTask InitializeAsync()
    {
        (_far, Socket near) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        _near = PipeSocketConnection.Create(near);
    }

    public async ValueTask DisposeAsync()
    {
        await _near.DisposeAsync();
        _far.Dispose();
    }

    [Fact]
    public async Task Whatever_the_pieces_and_the_steps_of_the_reader_every_octet_comes_once_and_in_order()
    {
        Random random = new(1);
        byte[] sent = new byte[3 << 20];
        random.NextBytes(sent);
        Task sending = SendInPiecesAsync(sent, new Random(2));
        List<byte> seen = [];
        while (true)
        {
            ReadResult result = await ReadAsync();
            Assert.True(result.Buffer.IsSingleSegment);
            Assert.InRange(result.Buffer.Length, 0, 2 * SocketReader.Largest);
            int take = random.Next(3) == 0 ? (int)result.Buffer.Length : random.Next((int)Math.Min(result.Buffer.Length, 3000) + 1);
            seen.AddRange(result.Buffer.Slice(0, take).ToArray());

            // Half of the time what is left was looked at: then the next read brings more of it.
            bool looked = random.Next(2) == 0 && result.Buffer.Length < SocketReader.Largest;
            _near.Input.AdvanceTo(result.Buffer.GetPosition(take), looked ? result.Buffer.End : result.Buffer.GetPosition(take));
            if (result.IsCompleted && result.Buffer.Length == take)
            {
                break;
            }
        }

        await sending;
        Assert.Equal(sent, seen);
    }

    [Fact]
    public async Task A_line_that_never_ends_ends_the_connection()
    {
        Task sending = SendInPiecesAsync(new byte[32 * SocketReader.Limit], new Random(3));
        IOException refused = await Assert.ThrowsAsync<IOException>(async () =>
        {
            while (true)
            {
                ReadResult result = await ReadAsync();
                _near.Input.AdvanceTo(result.Buffer.Start, result.Buffer.End);
            }
        });
        Assert.Contains("without the end of a line", refused.Message, StringComparison.Ordinal);
        _near.Abort();
        await Assert.ThrowsAsync<SocketException>(() => sending);
    }

    [Fact]
    public async Task A_read_is_cancelled_once_before_it_begins_or_while_it_waits_and_loses_nothing()
    {
        _near.Input.CancelPendingRead();
        Assert.True((await ReadAsync()).IsCanceled);
        Advance(default);

        ValueTask<ReadResult> waiting = _near.Input.ReadAsync(TestContext.Current.CancellationToken);
        Assert.False(waiting.IsCompleted);
        _near.Input.CancelPendingRead();
        ReadResult cancelled = await waiting;
        Assert.True(cancelled is { IsCanceled: true, IsCompleted: false });
        _near.Input.AdvanceTo(cancelled.Buffer.Start, cancelled.Buffer.End);

        await _far.SendAsync("250 ok\r\n"u8.ToArray());
        ReadResult result = await ReadAsync();
        Assert.False(result.IsCanceled);
        Assert.Equal("250 ok\r\n"u8, result.Buffer.ToArray());
        _near.Input.AdvanceTo(result.Buffer.End);
    }

    /// <summary>What comes between the cancellation and whoever learns of it is told to nobody else, and no second time.</summary>
    [Fact]
    public async Task What_comes_while_a_read_is_cancelled_is_there_for_the_next()
    {
        (Socket client, Socket server) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        using Socket peer = client;
        using TcpSocket socket = TcpSocket.Take(server);
        SocketSignals signals = new();
        SocketReader reader = new(socket, signals);

        // No poller knows the socket: what one would tell, the test tells, most often before the pool has told the reader. Every third comes too late to wait.
        for (int i = 0; i < 60; i++)
        {
            bool waits = i % 3 != 0;
            ValueTask<ReadResult> read = waits ? reader.ReadAsync(TestContext.Current.CancellationToken) : default;
            await peer.SendAsync("250 ok\r\n"u8.ToArray());
            while (!socket.HasInput())
            {
                await Task.Yield();
            }

            reader.CancelPendingRead();
            signals.Readable.Set(inline: true);
            ReadResult cancelled = await (waits ? read : reader.ReadAsync(TestContext.Current.CancellationToken));
            Assert.True(cancelled.IsCanceled);
            reader.AdvanceTo(cancelled.Buffer.Start, cancelled.Buffer.End);
            ReadResult result = await reader.ReadAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
            Assert.Equal("250 ok\r\n"u8, result.Buffer.ToArray());
            reader.AdvanceTo(result.Buffer.End);
        }
    }

    [Fact]
    public async Task Input_that_waits_and_the_end_of_the_stream_are_seen_without_reading()
    {
        Assert.False(_near.HasInput());
        await _far.SendAsync("421 bye\r\n"u8.ToArray());
        while (!_near.HasInput())
        {
            await Task.Yield();
        }

        ReadResult result = await ReadAsync();
        _near.Input.AdvanceTo(result.Buffer.GetPosition(4), result.Buffer.End);
        Assert.True(_near.HasInput());
        Assert.False(_near.Input.TryRead(out _));
        _far.Shutdown(SocketShutdown.Send);
        result = await ReadAsync();
        Assert.True(result.IsCompleted);
        Assert.Equal("bye\r\n"u8, result.Buffer.ToArray());
        _near.Input.AdvanceTo(result.Buffer.End);
        Assert.True(_near.HasInput());
        Assert.True((await ReadAsync()).IsCompleted);
    }

    [Fact]
    public async Task A_flush_of_more_than_the_peer_takes_waits_and_sends_all()
    {
        byte[] sent = new byte[16 << 20];
        new Random(4).NextBytes(sent);
        _near.Output.Write(sent);
        Assert.Equal(sent.Length, _near.Output.UnflushedBytes);
        ValueTask<FlushResult> flush = _near.Output.FlushAsync(TestContext.Current.CancellationToken);
        Assert.False(flush.IsCompleted);
        byte[] seen = new byte[sent.Length];
        for (int at = 0; at < seen.Length;)
        {
            at += await _far.ReceiveAsync(seen.AsMemory(at), TestContext.Current.CancellationToken);
        }

        await flush;
        Assert.Equal(0, _near.Output.UnflushedBytes);
        Assert.Equal(sent, seen);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(10)]
    public async Task Octets_sent_from_where_they_are_follow_what_was_written_before_however_slow_the_peer(int before)
    {
        byte[] sent = new byte[before + (16 << 20)];
        new Random(7).NextBytes(sent);
        _near.Output.Write(sent.AsSpan(0, before));
        ValueTask<FlushResult> write = _near.Output.WriteAsync(sent.AsMemory(before), TestContext.Current.CancellationToken);
        Assert.False(write.IsCompleted);
        byte[] seen = new byte[sent.Length + 3];
        for (int at = 0; at < sent.Length;)
        {
            at += await _far.ReceiveAsync(seen.AsMemory(at), TestContext.Current.CancellationToken).AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);
        }

        await write;
        Assert.Equal(0, _near.Output.UnflushedBytes);
        await _near.Output.WriteAsync("end"u8.ToArray(), TestContext.Current.CancellationToken);
        Assert.Equal(3, await _far.ReceiveAsync(seen.AsMemory(sent.Length), TestContext.Current.CancellationToken));
        Assert.Equal([.. sent, .. "end"u8], seen);
    }

    [Fact]
    public async Task Aborting_ends_a_write_that_waits()
    {
        Task<FlushResult> write = _near.Output.WriteAsync(new byte[16 << 20], TestContext.Current.CancellationToken).AsTask();
        _near.Abort();
        Assert.True(IsBroken(await Record.ExceptionAsync(() => write.WaitAsync(Patience))));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Closing_sends_what_is_left_and_the_peer_sees_an_end_and_no_reset(bool peerIsDone)
    {
        _near.Output.Write("221 bye\r\n"u8);

        // Input that nobody read: an abrupt close would reset the connection and the reply be lost.
        await _far.SendAsync(new byte[100_000]);
        await _near.Output.FlushAsync(TestContext.Current.CancellationToken);
        Task closing = _near.CloseAsync(peerIsDone).AsTask();
        Assert.Equal("221 bye\r\n", await ReadToEndAsync());
        _far.Close();
        await closing.WaitAsync(Patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task The_end_of_a_peer_that_is_done_is_not_waited_for()
    {
        _near.Output.Write("221 bye\r\n"u8);
        await _near.Output.FlushAsync(TestContext.Current.CancellationToken);
        await _near.CloseAsync(peerIsDone: true);
        Assert.Throws<InvalidOperationException>(() => _near.Input.TryRead(out _));
        Assert.Equal("221 bye\r\n", await ReadToEndAsync());
    }

    [Fact]
    public async Task What_was_not_flushed_is_sent_to_a_peer_that_is_done()
    {
        _near.Output.Write("221 bye\r\n"u8);
        Task closing = _near.CloseAsync(peerIsDone: true).AsTask();
        Assert.Equal("221 bye\r\n", await ReadToEndAsync());
        _far.Close();
        await closing.WaitAsync(Patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Aborting_ends_a_read_and_a_flush_that_wait()
    {
        _near.Output.Write(new byte[16 << 20]);
        Task<FlushResult> flush = _near.Output.FlushAsync(TestContext.Current.CancellationToken).AsTask();
        Task<ReadResult> read = _near.Input.ReadAsync(TestContext.Current.CancellationToken).AsTask();
        _near.Abort();
        _near.Abort();
        Assert.True(IsBroken(await Record.ExceptionAsync(() => read.WaitAsync(Patience))));
        Assert.True(IsBroken(await Record.ExceptionAsync(() => flush.WaitAsync(Patience))));
        Assert.True(_near.HasInput());
    }

    [Fact]
    public async Task A_waiting_reader_holds_a_small_buffer_again_after_a_large_message()
    {
        foreach (int size in (int[])[500_000, 10, 10, 10])
        {
            await SendInPiecesAsync(new byte[size], new Random(5), end: false);
            for (int left = size; left > 0;)
            {
                ReadResult result = await ReadAsync();
                left -= (int)result.Buffer.Length;
                _near.Input.AdvanceTo(result.Buffer.End);
            }
        }

        await _far.SendAsync(new byte[10 * SocketReader.Smallest]);
        ReadResult first = await ReadAsync();
        Assert.Equal(SocketReader.Smallest, first.Buffer.Length);
        _near.Input.AdvanceTo(first.Buffer.End);
    }

    [Fact]
    public async Task A_wait_for_a_command_holds_a_small_buffer_whatever_came_before()
    {
        await SendInPiecesAsync(new byte[500_000], new Random(6), end: false);
        for (int left = 500_000; left > 0;)
        {
            ReadResult result = await ReadAsync();
            left -= (int)result.Buffer.Length;
            _near.Input.AdvanceTo(result.Buffer.End);
        }

        _near.ExpectLittle();
        await _far.SendAsync(new byte[10 * SocketReader.Smallest]);
        ReadResult first = await ReadAsync();
        Assert.Equal(SocketReader.Smallest, first.Buffer.Length);
        _near.Input.AdvanceTo(first.Buffer.End);
    }

    [Fact]
    public async Task A_body_is_received_in_pieces_as_large_as_the_one_before_and_commands_in_small_ones()
    {
        byte[] some = new byte[10 * SocketReader.Smallest];
        _near.ExpectBody();
        foreach (int filled in (int[])[SocketReader.Smallest, 8 * SocketReader.Smallest])
        {
            await _far.SendAsync(new byte[filled]);
            Assert.Equal(filled, await TakeAsync(filled));
        }

        _near.ExpectLittle();
        _near.ExpectLittle();
        await _far.SendAsync(some);
        Assert.Equal(SocketReader.Smallest, await TakeAsync(some.Length));
        _near.ExpectLittle();
        _near.ExpectBody();
        await _far.SendAsync(some);
        Assert.Equal(some.Length, await TakeAsync(some.Length));

        // Small ones follow: the next is not expected to be large.
        for (int i = 0; i < 3; i++)
        {
            _near.ExpectLittle();
            _near.ExpectBody();
            await _far.SendAsync(new byte[10]);
            await TakeAsync(10);
        }

        _near.ExpectLittle();
        _near.ExpectBody();
        await _far.SendAsync(some);
        Assert.Equal(SocketReader.Smallest, await TakeAsync(some.Length));
    }

    [Fact]
    public async Task A_connection_that_the_peer_has_reset_is_closed_without_an_error()
    {
        _far.LingerState = new LingerOption(enable: true, seconds: 0);
        _far.Close();
        while (!_near.HasInput())
        {
            await Task.Yield();
        }

        _near.Output.Write("421 4.7.0 too many connections\r\n"u8);
        await _near.CloseAsync();
        Assert.Throws<InvalidOperationException>(() => _near.Input.TryRead(out _));
    }

    /// <summary>Reads so many octets; how many came first.</summary>
    private async Task<int> TakeAsync(int count)
    {
        int first = 0;
        for (int left = count; left > 0;)
        {
            ReadResult result = await ReadAsync();
            int length = (int)result.Buffer.Length;
            first = first == 0 ? length : first;
            left -= length;
            _near.Input.AdvanceTo(result.Buffer.End);
        }

        return first;
    }

    private async Task<string> ReadToEndAsync()
    {
        byte[] seen = new byte[100];
        int count = 0;
        while (await _far.ReceiveAsync(seen.AsMemory(count), TestContext.Current.CancellationToken) is var got and > 0)
        {
            count += got;
        }

        return Encoding.ASCII.GetString(seen, 0, count);
    }

    private static bool IsBroken(Exception? error) => error is SocketException or ObjectDisposedException;

    private async Task SendInPiecesAsync(byte[] octets, Random random, bool end = true)
    {
        for (int at = 0; at < octets.Length;)
        {
            int piece = Math.Min(octets.Length - at, random.Next(4) == 0 ? random.Next(1, 100_000) : random.Next(1, 4000));
            at += await _far.SendAsync(octets.AsMemory(at, piece), TestContext.Current.CancellationToken);
        }

        if (end)
        {
            _far.Shutdown(SocketShutdown.Send);
        }
    }

    private async Task<ReadResult> ReadAsync() =>
        await _near.Input.ReadAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);

    private void Advance(SequencePosition position) => _near.Input.AdvanceTo(position);
}
