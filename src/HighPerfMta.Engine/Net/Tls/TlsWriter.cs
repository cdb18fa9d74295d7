using System.Buffers;
using System.IO.Pipelines;
using System.Net.Security;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>
/// The send side of a TLS session as a pipe's end: one buffer, encrypted and sent by whoever flushes. A flush that has ended means that the connection below has
/// the octets. Between flushes no buffer is held.
/// </summary>
internal sealed class TlsWriter(SslStream session) : PipeWriter
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
    /// <exception cref="IOException">The connection broke.</exception>
    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfCompleted();
        if (_end == 0)
        {
            return default;
        }

        return SendAllAsync(_buffer.AsMemory(0, _end), cancellationToken);
    }

    /// <summary>Encrypts octets from where they are, unless something was written that goes before them. They must stay as they are until it has ended.</summary>
    /// <exception cref="IOException">The connection broke.</exception>
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
        ValueTask write = session.WriteAsync(octets, cancellation);
        if (write.IsCompletedSuccessfully)
        {
            write.GetAwaiter().GetResult();
            Release();
            return default;
        }

        return SendAsync(write);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<FlushResult> SendAsync(ValueTask write)
    {
        await write;
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
