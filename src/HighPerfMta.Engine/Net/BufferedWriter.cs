using System.Buffers;
using System.IO.Pipelines;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// The send side of a connection as a pipe's end, without a pipe: one buffer, sent by whoever flushes. A flush that has ended means that what is below has the octets. Between flushes no buffer is held.
/// </summary>
internal abstract class BufferedWriter : PipeWriter
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

    /// <summary>Sends what was written. Fails as the connection below does when it broke.</summary>
    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        ThrowIfCompleted();
        return _end == 0 ? default : SendAsync(_buffer.AsMemory(0, _end), cancellationToken);
    }

    /// <summary>Sends octets from where they are, unless something was written that goes before them. They must stay as they are until it has ended.</summary>
    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        ThrowIfCompleted();
        if (_end > 0)
        {
            this.Write(source.Span);
            return FlushAsync(cancellationToken);
        }

        return source.IsEmpty ? default : SendAsync(source, cancellationToken);
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

    /// <summary>Sends all of the octets, and then calls <see cref="Release"/>; they are those of the buffer or of the caller.</summary>
    protected abstract ValueTask<FlushResult> SendAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation);

    /// <summary>What was written has left.</summary>
    protected void Release()
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
