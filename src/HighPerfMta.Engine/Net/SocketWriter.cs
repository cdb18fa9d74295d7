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
/// <param name="socket">Where the octets go.</param>
/// <param name="signals">Of the socket.</param>
/// <param name="watchOutput">Called once, when the peer is first slower than we: from then on the signals tell when there is room again.</param>
internal sealed class SocketWriter(TcpSocket socket, SocketSignals signals, Action watchOutput) : PipeWriter
{
    private const int Smallest = 1 << 10;

    private byte[] _buffer = [];
    private int _end;
    private bool _completed;
    private bool _watched;

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

        return SendAllAsync(_buffer.AsMemory(0, _end), cancellationToken);
    }

    /// <summary>Sends octets from where they are, unless something was written that goes before them. They must stay as they are until it has ended.</summary>
    /// <exception cref="SocketException">The connection broke.</exception>
    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        ThrowIfCompleted();
        if (_end > 0)
        {
            this.Write(source.Span);
            return FlushAsync(cancellationToken);
        }

        return SendAllAsync(source, cancellationToken);
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

    private ValueTask<FlushResult> SendAllAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation)
    {
        int sent = TrySend(octets.Span);
        if (sent < octets.Length)
        {
            return SendAsync(octets[sent..], cancellation);
        }

        Release();
        return default;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<FlushResult> SendAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation)
    {
        if (!_watched)
        {
            _watched = true;
            watchOutput();
        }

        CancellationTokenRegistration registration = cancellation.UnsafeRegister(static signal => ((SocketSignal)signal!).Set(inline: false), signals.Writable);
        try
        {
            while (!octets.IsEmpty)
            {
                await signals.Writable.WaitAsync();
                cancellation.ThrowIfCancellationRequested();
                octets = octets[TrySend(octets.Span)..];
            }
        }
        finally
        {
            await registration.DisposeAsync();
        }

        Release();
        return default;
    }

    /// <summary>Sends what the kernel takes of the octets; how many that were.</summary>
    private int TrySend(ReadOnlySpan<byte> octets)
    {
        int sent = 0;
        try
        {
            while (sent < octets.Length && socket.Send(octets[sent..]) is >= 0 and int count)
            {
                sent += count;
            }
        }
        catch (ObjectDisposedException)
        {
            throw new SocketException((int)SocketError.OperationAborted);
        }

        return sent;
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
