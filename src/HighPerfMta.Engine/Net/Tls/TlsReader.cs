using System.Buffers;
using System.IO.Pipelines;
using System.Net.Security;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>
/// The receive side of a TLS session as a pipe's end: one buffer, filled with a record at a time by whoever reads. While it waits, neither it nor the session
/// below holds a buffer for octets that have not come. What is read is always one segment.
/// </summary>
internal sealed class TlsReader(SslStream session, TransportStream transport) : PipeReader
{
    /// <summary>Octets that a record carries at most (RFC 8446 §5.1).</summary>
    private const int Record = 16 << 10;

    private byte[] _buffer = [];
    private int _start;
    private int _end;
    private bool _examined = true;
    private bool _ended;
    private bool _completed;

    /// <summary>Octets that have come and were not consumed.</summary>
    public bool HasUnread => _end > _start;

    public override bool TryRead(out ReadResult result)
    {
        ThrowIfCompleted();
        if (transport.TakeCancellation())
        {
            result = Result(isCanceled: true);
            return true;
        }

        bool any = (!_examined && HasUnread) || _ended;
        result = any ? Result(isCanceled: false) : default;
        return any;
    }

    /// <exception cref="IOException">The connection broke, or what came was not of the session.</exception>
    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default) =>
        TryRead(out ReadResult ready) ? new ValueTask<ReadResult>(ready) : FillAsync(cancellationToken);

    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        // Positions of an empty result, or of the buffer: nothing else was handed out.
        if (ReferenceEquals(consumed.GetObject(), _buffer))
        {
            int to = consumed.GetInteger();
            ArgumentOutOfRangeException.ThrowIfLessThan(to, _start, nameof(consumed));
            ArgumentOutOfRangeException.ThrowIfGreaterThan(to, _end, nameof(consumed));
            _start = to;
        }

        _examined = !HasUnread || (ReferenceEquals(examined.GetObject(), _buffer) && examined.GetInteger() >= _end);
        if (!HasUnread)
        {
            Release();
        }
    }

    /// <summary>Safe from any thread.</summary>
    public override void CancelPendingRead() => transport.CancelRead();

    /// <summary>Gives the buffer back; no read may be under way.</summary>
    public override void Complete(Exception? exception = null)
    {
        if (!_completed)
        {
            _completed = true;
            Release();
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<ReadResult> FillAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        CancellationTokenRegistration registration = cancellation.UnsafeRegister(static reader => ((TlsReader)reader!).CancelPendingRead(), this);
        try
        {
            // A read of nothing returns when there is something, and keeps no buffer until then.
#pragma warning disable CA2022 // Nothing is asked for.
            await session.ReadAsync(Memory<byte>.Empty, CancellationToken.None);
#pragma warning restore CA2022
            Room();
            int count = await session.ReadAsync(_buffer.AsMemory(_end), CancellationToken.None);
            _end += count;
            _ended = count == 0;
            return Result(isCanceled: false);
        }
        catch (ReadCancelledException)
        {
            cancellation.ThrowIfCancellationRequested();
            return Result(isCanceled: true);
        }
        finally
        {
            await registration.DisposeAsync();
        }
    }

    /// <summary>Makes room for a record behind what was not consumed.</summary>
    private void Room()
    {
        int kept = _end - _start;
        if (_buffer.Length - _end >= Record)
        {
            return;
        }

        if (kept > SocketReader.Limit - Record)
        {
            throw new IOException($"more than {SocketReader.Limit} octets came without the end of a line");
        }

        byte[] larger = ArrayPool<byte>.Shared.Rent(kept + Record);
        _buffer.AsSpan(_start, kept).CopyTo(larger);
        Release();
        _buffer = larger;
        _end = kept;
    }

    private ReadResult Result(bool isCanceled)
    {
        _examined = false;
        return new ReadResult(new ReadOnlySequence<byte>(_buffer, _start, _end - _start), isCanceled, _ended);
    }

    private void Release()
    {
        _start = 0;
        _end = 0;
        if (_buffer.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = [];
        }
    }

    private void ThrowIfCompleted()
    {
        if (_completed)
        {
            throw new InvalidOperationException("The connection's input was given up.");
        }
    }
}
