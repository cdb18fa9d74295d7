using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// The send side of a socket as a pipe's end, without a pipe: one buffer, sent by whoever flushes, on its own thread. A flush that has ended means that the kernel
/// has the octets. Between flushes no buffer is held.
/// </summary>
internal sealed class SocketWriter(Socket socket) : PipeWriter
{
    private const int Smallest = 1 << 10;

    private byte[] _buffer = [];
    private int _end;
    private bool _completed;

    public override bool CanGetUnflushedBytes => true;

    public override long UnflushedBytes => _end;

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        Room(sizeHint);
        return _buffer.AsMemory(_end);
    }

    public override Span<byte> GetSpan(int sizeHint = 0)
    {
        Room(sizeHint);
        return _buffer.AsSpan(_end);
    }

    public override void Advance(int bytes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)bytes, (uint)(_buffer.Length - _end), nameof(bytes));
        _end += bytes;
    }

    /// <summary>Sends what was written.</summary>
    /// <exception cref="SocketException">The connection broke.</exception>
    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfCompleted();
        if (_end == 0)
        {
            return default;
        }

        ValueTask<int> send = socket.SendAsync(_buffer.AsMemory(0, _end), SocketFlags.None, cancellationToken);
        if (send.IsCompletedSuccessfully)
        {
            return Sent(send.GetAwaiter().GetResult(), cancellationToken);
        }

        return SendAsync(send, cancellationToken);
    }

    /// <summary>Flushes end with the connection's deadline, which aborts it.</summary>
    public override void CancelPendingFlush() => throw new NotSupportedException();

    /// <summary>Gives the buffer back, with what was not flushed; no flush may be under way.</summary>
    public override void Complete(Exception? exception = null)
    {
        if (!_completed)
        {
            _completed = true;
            Release();
        }
    }

    private ValueTask<FlushResult> Sent(int count, CancellationToken cancellation)
    {
        if (count < _end)
        {
            return SendAsync(new ValueTask<int>(count), cancellation);
        }

        Release();
        return default;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<FlushResult> SendAsync(ValueTask<int> send, CancellationToken cancellation)
    {
        int sent = await send;
        while (sent < _end)
        {
            sent += await socket.SendAsync(_buffer.AsMemory(sent, _end - sent), SocketFlags.None, cancellation);
        }

        Release();
        return default;
    }

    private void Release()
    {
        _end = 0;
        if (_buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = [];
        }
    }

    private void Room(int wanted)
    {
        ThrowIfCompleted();
        wanted = Math.Max(wanted, 1);
        if (_buffer.Length - _end < wanted)
        {
            byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(Smallest, Math.Max(_end + wanted, 2 * _end)));
            _buffer.AsSpan(0, _end).CopyTo(larger);
            int end = _end;
            Release();
            _buffer = larger;
            _end = end;
        }
    }

    private void ThrowIfCompleted()
    {
        if (_completed)
        {
            throw new InvalidOperationException("The connection's output was given up.");
        }
    }
}
