using System.IO.Pipelines;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Smtp;

#pragma warning disable VSTHRD002, CA2012 // Taking a result at the wrong time, and being told otherwise than by await, is what is tested.

/// <summary>The read of a session: its result, its deadline, and who is told.</summary>
public sealed class SessionTransportTests : IDisposable
{
    private static readonly AsyncLocal<int> Ambient = new();
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly FakeTimeProvider _time = new();
    private readonly DeadlineWheel _wheel;
    private readonly MemoryConnection _client;
    private readonly SessionTransport _transport;

    public SessionTransportTests()
    {
        _wheel = new DeadlineWheel(_time);
        (_client, MemoryConnection server) = MemoryConnection.CreatePair();
        _transport = new SessionTransport(server, _wheel, Limit);
    }

    public void Dispose() => _wheel.Dispose();

    [Fact]
    public async Task What_comes_later_ends_the_wait_and_is_taken_once()
    {
        for (int i = 0; i < 3; i++)
        {
            ValueTask<ReadResult> read = _transport.ReadAsync(Limit);
            ValueTask<ReadResult> copy = read;
            Assert.False(read.IsCompleted);
            Assert.Throws<InvalidOperationException>(() => read.GetAwaiter().GetResult());

            await SendAsync();
            ReadResult result = await SoonAsync(read);
            Assert.Equal(6, result.Buffer.Length);
            Assert.False(result.IsCanceled);
            Assert.Throws<InvalidOperationException>(() => copy.GetAwaiter().GetResult());
            Take(result);
        }
    }

    [Fact]
    public async Task What_is_there_already_needs_no_wait()
    {
        await SendAsync();
        ValueTask<ReadResult> read = _transport.ReadAsync(Limit);
        Assert.True(read.IsCompletedSuccessfully);
        Take(await read);
    }

    [Fact]
    public async Task A_wait_ends_at_its_deadline()
    {
        ValueTask<ReadResult> read = _transport.ReadAsync(Limit);
        _time.Advance(Limit + TimeSpan.FromSeconds(2));
        ReadResult result = await SoonAsync(read);
        Assert.True(result.IsCanceled);
        Assert.True(_transport.TimedOut);
        Take(result);
    }

    [Fact]
    public async Task The_deadline_ends_with_the_wait()
    {
        ValueTask<ReadResult> first = _transport.ReadAsync(Limit);
        await SendAsync();
        ReadResult result = await SoonAsync(first);

        // Whoever works on what came has his own time for it.
        _time.Advance(2 * Limit);
        Take(result);
        ValueTask<ReadResult> second = _transport.ReadAsync(Limit);
        Assert.False(second.IsCompleted);
        Assert.False(_transport.TimedOut);
        await SendAsync();
        Assert.False((await SoonAsync(second)).IsCanceled);
    }

    /// <summary>The wheel had found the deadline of the read before when that ended.</summary>
    [Fact]
    public async Task A_deadline_that_is_told_late_does_not_end_the_next_wait()
    {
        ValueTask<ReadResult> first = _transport.ReadAsync(Limit);
        await SendAsync();
        Take(await SoonAsync(first));
        ValueTask<ReadResult> second = _transport.ReadAsync(Limit);
        _transport.OnDeadline();
        Assert.False(second.IsCompleted);
        Assert.False(_transport.TimedOut);
        await SendAsync();
        Assert.False((await SoonAsync(second)).IsCanceled);
    }

    /// <summary>A socket's reads end in boxes that the next read takes, before those who were told have returned.</summary>
    [Fact]
    public async Task Over_a_socket_each_of_many_reads_has_its_own_result()
    {
        (Socket near, Socket far) = await SocketPair.ConnectAsync(TestContext.Current.CancellationToken);
        using Socket client = near;
        await using PipeSocketConnection server = PipeSocketConnection.Create(far);
        SessionTransport transport = new(server, _wheel, Limit);
        Task<int> counting = Task.Run(() => CountAsync(transport), TestContext.Current.CancellationToken);
        for (int i = 0; i < 500; i++)
        {
            await client.SendAsync("NOOP\r\n"u8.ToArray(), TestContext.Current.CancellationToken);
            if (i % 3 == 0)
            {
                await Task.Yield();
            }
        }

        client.Shutdown(SocketShutdown.Send);
        Assert.Equal(3000, await counting.WaitAsync(Patience, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_broken_connection_ends_the_wait_with_its_error_and_its_deadline()
    {
        ValueTask<ReadResult> read = _transport.ReadAsync(Limit);
        await _client.Output.CompleteAsync(new IOException("reset"));
        await Assert.ThrowsAnyAsync<IOException>(async () => await SoonAsync(read));
        _time.Advance(2 * Limit);
        Assert.False(_transport.TimedOut);
    }

    [Fact]
    public async Task Whoever_asks_for_his_own_ambient_values_has_them()
    {
        Ambient.Value = 7;
        TaskCompletionSource<int> seen = new();
        ValueTask<ReadResult> read = _transport.ReadAsync(Limit);
        read.GetAwaiter().OnCompleted(() => seen.SetResult(Ambient.Value));
        Ambient.Value = 8;
        await SendAsync();
        Assert.Equal(7, await seen.Task.WaitAsync(Patience, TestContext.Current.CancellationToken));
        Take(await SoonAsync(read));
    }

    /// <summary>Octets until the stream ends.</summary>
    private static async Task<int> CountAsync(SessionTransport transport)
    {
        int octets = 0;
        while (true)
        {
            ReadResult result = await transport.ReadAsync(Limit);
            octets += (int)result.Buffer.Length;
            transport.AdvanceTo(result.Buffer.End, result.Buffer.End);
            if (result.IsCompleted)
            {
                return octets;
            }
        }
    }

    private static Task<ReadResult> SoonAsync(ValueTask<ReadResult> read) => read.AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);

    private async Task SendAsync() => await _client.Output.WriteAsync("NOOP\r\n"u8.ToArray(), TestContext.Current.CancellationToken);

    private void Take(ReadResult result) => _transport.AdvanceTo(result.Buffer.End, result.Buffer.End);
}
