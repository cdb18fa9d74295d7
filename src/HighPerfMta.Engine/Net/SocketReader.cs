using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// The receive side of a socket as a pipe's end, without a pipe: one buffer, filled by whoever reads, on its own thread. There is no loop that receives
/// ahead, so the kernel's buffer is what bounds the peer. The buffer is as large as the peer's pieces have lately been: <see cref="Smallest"/> octets for commands, <see cref="Largest"/> for a
/// body; who waits with nothing unread holds none. What is read is always one segment.
/// </summary>
internal sealed class SocketReader(TcpSocket socket, SocketSignals signals) : PipeReader
{
    /// <summary>Octets received at a time from a peer that sends commands.</summary>
    public const int Smallest = 2 << 10;

    /// <summary>Octets received at a time, at most.</summary>
    public const int Largest = 64 << 10;

    /// <summary>Octets that a reader may leave unconsumed: far more than any line or reply that a parser waits for.</summary>
    public const int Limit = 1 << 20;

    /// <summary>Receives in a row that did not wait, on a poller's thread; the pool goes on after so many: 1 MiB of a body.</summary>
    public const int MostInline = 16;

    private volatile bool _cancelled;

    /// <summary>The socket may have something: not all that came was taken, or the stream ends.</summary>
    private bool _mayHave;

    private int _inline;
    private byte[] _buffer = [];
    private int _start;
    private int _end;
    private int _next = Smallest;
    private int _ofBody = Smallest;
    private bool _inBody;
    private bool _examined = true;
    private bool _ended;
    private bool _completed;

    /// <summary>Octets that have come and were not consumed.</summary>
    public bool HasUnread => _end > _start;

    /// <summary>The next wait begins with the smallest buffer again.</summary>
    public void ExpectLittle()
    {
        if (_inBody)
        {
            _inBody = false;
            _ofBody = _next;
        }

        _next = Smallest;
    }

    /// <summary>The next wait begins with a buffer as large as that in which the body before this one ended.</summary>
    public void ExpectBody()
    {
        _inBody = true;
        _next = Math.Max(_next, _ofBody);
    }

    /// <summary>What has come and was not looked at; the socket is not asked.</summary>
    public override bool TryRead(out ReadResult result)
    {
        ThrowIfCompleted();
        if (_cancelled)
        {
            result = TakeCancelled();
            return true;
        }

        bool any = (!_examined && HasUnread) || _ended;
        result = any ? Result(isCanceled: false) : default;
        return any;
    }

    /// <exception cref="SocketException">The connection broke.</exception>
    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        if (TryRead(out ReadResult ready))
        {
            return new ValueTask<ReadResult>(ready);
        }

        cancellationToken.ThrowIfCancellationRequested();
        if (_mayHave && (CommitThread.IsCurrent || (SocketPoller.IsCurrent && ++_inline > MostInline)))
        {
            return HopAsync();
        }

        return TryReceive() ? new ValueTask<ReadResult>(Result(isCanceled: false)) : WaitAsync(cancellationToken);
    }

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
            _start = 0;
            _end = 0;
        }
    }

    /// <summary>Safe from any thread.</summary>
    public override void CancelPendingRead()
    {
        _cancelled = true;
        signals.Readable.Set(inline: false);
    }

    /// <summary>Gives the buffer back; no read may be under way.</summary>
    public override void Complete(Exception? exception = null)
    {
        if (!_completed)
        {
            _completed = true;
            Release();
            _start = 0;
            _end = 0;
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<ReadResult> WaitAsync(CancellationToken cancellation)
    {
        _inline = 0;
        CancellationTokenRegistration registration = cancellation.UnsafeRegister(static reader => ((SocketReader)reader!).CancelPendingRead(), this);
        try
        {
            while (true)
            {
                if (!HasUnread)
                {
                    Release();
                }

                await signals.Readable.WaitAsync();

                // Also for whoever was cancelled: what came between that and now was told to nobody else, and is not told again.
                _mayHave = true;
                if (_cancelled)
                {
                    ReadResult cancelled = TakeCancelled();
                    cancellation.ThrowIfCancellationRequested();
                    return cancelled;
                }

                if (TryReceive())
                {
                    return Result(isCanceled: false);
                }
            }
        }
        finally
        {
            await registration.DisposeAsync();
        }
    }

    /// <summary>Others whose sockets the poller watches have their turn; this reader goes on on the pool.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<ReadResult> HopAsync()
    {
        _inline = 0;
        await Departures.LeaveAsync();
        return TryReceive() ? Result(isCanceled: false) : await WaitAsync(CancellationToken.None);
    }

    /// <summary>Takes what the socket has; false when that is nothing yet.</summary>
    private bool TryReceive()
    {
        if (!_mayHave)
        {
            return false;
        }

        Room();
        int asked = _buffer.Length - _end;
        int count;
        try
        {
            count = socket.Receive(_buffer.AsSpan(_end));
        }
        catch (ObjectDisposedException)
        {
            throw new SocketException((int)SocketError.OperationAborted);
        }

        if (count < 0)
        {
            _mayHave = false;
            return false;
        }

        // Less than there was room for: all of it. The end of the stream is told once, maybe before this.
        _mayHave = count == asked || signals.Ended;
        Received(count, asked);
        return true;
    }

    private void Received(int count, int asked)
    {
        _end += count;
        _ended = count == 0;

        // Filled: the peer has more. Mostly empty: it will send little next time too.
        if (count == asked)
        {
            _next = Math.Min(_next * 8, Largest);
        }
        else if (count < _next / 4)
        {
            _next = Math.Max(Smallest, _next / 8);
        }
    }

    /// <summary>Makes room behind what was not consumed.</summary>
    private void Room()
    {
        int kept = _end - _start;
        if (kept == 0 ? _buffer.Length != _next : _buffer.Length - _end < Smallest / 2)
        {
            if (kept > Limit - Smallest)
            {
                throw new IOException($"more than {Limit} octets came without the end of a line");
            }

            byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(_next, 2 * kept));
            _buffer.AsSpan(_start, kept).CopyTo(larger);
            Release();
            _buffer = larger;
            _start = 0;
            _end = kept;
        }
    }

    private ReadResult Result(bool isCanceled)
    {
        _examined = false;
        return new ReadResult(new ReadOnlySequence<byte>(_buffer, _start, _end - _start), isCanceled, _ended);
    }

    private ReadResult TakeCancelled()
    {
        _cancelled = false;
        return Result(isCanceled: true);
    }

    private void Release()
    {
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
