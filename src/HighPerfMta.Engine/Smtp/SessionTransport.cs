using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Smtp;

/// <summary>
/// The session's side of its connection: reads and flushes with deadlines, and replies collected for one flush. A read that takes too long is
/// cancelled, so that the session can answer 421; a flush that takes too long means that the peer does not read, and the connection is dropped.
/// </summary>
internal sealed class SessionTransport(IConnection connection, DeadlineWheel wheel, TimeSpan flushTimeout) : Deadline, IValueTaskSource<ReadResult>
{
    /// <summary>Octets of unsent replies at which the session flushes even though more commands are buffered.</summary>
    private const int FlushThreshold = 16 << 10;

    private const int None = 0;
    private const int Reading = 1;
    private const int Flushing = 2;
    private const int Handshaking = 3;
    private const int Pausing = 4;

    private volatile PipeReader _input = connection.Input;
    private PipeWriter _output = connection.Output;
    private volatile int _wait;
    private volatile bool _timedOut;
    private int _unflushed;
    private TaskCompletionSource? _pause;

    // The read that waits, who waits for it, and how he is told: one delegate for the session's life.
    private ValueTask<ReadResult> _read;
    private short _reads;
    private Action<object?>? _reader;
    private object? _readerState;
    private Action? _tellReader;

    /// <summary>The last read was cancelled by its deadline.</summary>
    public bool TimedOut => _timedOut;

    /// <summary>So much is waiting to be sent that it must go out now, to keep memory bounded and the peer's back-pressure felt.</summary>
    public bool MustFlush => _unflushed >= FlushThreshold;

    public void Write(ReadOnlySpan<byte> octets)
    {
        _output.Write(octets);
        _unflushed += octets.Length;
    }

    /// <summary>"250 2.0.0 Ok: queued as ID".</summary>
    public void WriteQueued(MessageId id)
    {
        ReadOnlySpan<byte> prefix = "250 2.0.0 Ok: queued as "u8;
        int length = prefix.Length + MessageId.TextLength + 2;
        Span<byte> span = _output.GetSpan(length);
        prefix.CopyTo(span);
        id.Format(span[prefix.Length..]);
        span[length - 2] = (byte)'\r';
        span[length - 1] = (byte)'\n';
        _output.Advance(length);
        _unflushed += length;
    }

    /// <summary>What has arrived and was not looked at yet, without waiting.</summary>
    public bool TryRead(out ReadResult result) => _input.TryRead(out result);

    public void AdvanceTo(SequencePosition consumed, SequencePosition examined) => _input.AdvanceTo(consumed, examined);

    /// <summary>As <see cref="ReadAsync"/>, for a command.</summary>
    public ValueTask<ReadResult> ReadCommandAsync(TimeSpan timeout)
    {
        connection.ExpectLittle();
        return ReadAsync(timeout);
    }

    /// <summary>A message comes next.</summary>
    public void ExpectBody() => connection.ExpectBody();

    /// <summary>Waits for input, at most <paramref name="timeout"/>. A cancelled result means the deadline or <see cref="Interrupt"/>. One at a time, and its result is taken before anything else is done.</summary>
    public ValueTask<ReadResult> ReadAsync(TimeSpan timeout)
    {
        _timedOut = false;
        ValueTask<ReadResult> read = _input.ReadAsync();
        if (read.IsCompleted)
        {
            return read;
        }

        _wait = Reading;
        wheel.Set(this, timeout);
        _read = read;
        return new ValueTask<ReadResult>(this, _reads);
    }

    ReadResult IValueTaskSource<ReadResult>.GetResult(short token)
    {
        ThrowIfOver(token);
        ValueTask<ReadResult> read = _read;
        if (read.IsCompleted)
        {
            _wait = None;
            wheel.Clear(this);
            _reads++;
            _read = default;
            return read.GetAwaiter().GetResult();
        }

        throw new InvalidOperationException("The result of a read was taken before it was there");
    }

    ValueTaskSourceStatus IValueTaskSource<ReadResult>.GetStatus(short token)
    {
        ThrowIfOver(token);
        return !_read.IsCompleted ? ValueTaskSourceStatus.Pending
            : _read.IsCompletedSuccessfully ? ValueTaskSourceStatus.Succeeded
            : _read.IsCanceled ? ValueTaskSourceStatus.Canceled
            : ValueTaskSourceStatus.Faulted;
    }

    void IValueTaskSource<ReadResult>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
    {
        ThrowIfOver(token);
        _reader = continuation;
        _readerState = state;
        Action tell = _tellReader ??= TellReader;
        ConfiguredValueTaskAwaitable<ReadResult>.ConfiguredValueTaskAwaiter awaiter =
            _read.ConfigureAwait((flags & ValueTaskSourceOnCompletedFlags.UseSchedulingContext) != 0).GetAwaiter();
        if ((flags & ValueTaskSourceOnCompletedFlags.FlowExecutionContext) != 0)
        {
            awaiter.OnCompleted(tell);
        }
        else
        {
            awaiter.UnsafeOnCompleted(tell);
        }
    }

    /// <summary>Sends what was written. False when the peer is gone.</summary>
    public ValueTask<bool> FlushAsync()
    {
        if (_unflushed == 0)
        {
            return new ValueTask<bool>(true);
        }

        _unflushed = 0;
        ValueTask<FlushResult> flush = _output.FlushAsync();
        if (flush.IsCompletedSuccessfully)
        {
            return new ValueTask<bool>(!flush.GetAwaiter().GetResult().IsCompleted);
        }

        return WaitForFlushAsync(flush);
    }

    /// <summary>
    /// A handshake within its time, after which reads and writes go through the session that it made. Nothing may be left to be flushed. One that takes too long
    /// loses its connection.
    /// </summary>
    public async ValueTask<(TlsConnection? Secured, TlsFailure Failure, string Detail)> SecureAsync(
        Func<ValueTask<(TlsConnection? Connection, TlsFailure Failure, string Detail)>> handshake, TimeSpan timeout)
    {
        _timedOut = false;
        _wait = Handshaking;
        Interlocked.MemoryBarrier();
        wheel.Set(this, timeout);
        (TlsConnection? secured, TlsFailure failure, string detail) result;
        try
        {
            result = await handshake();
        }
        finally
        {
            _wait = None;
            wheel.Clear(this);
        }

        if (result.secured is null)
        {
            return _timedOut ? (null, TlsFailure.Timeout, "") : result;
        }

        connection = result.secured;
        _output = connection.Output;
        _input = connection.Input;
        Interlocked.MemoryBarrier();
        return result;
    }

    /// <summary>Ends the read that waits now, or the next one, with a cancelled result; a handshake loses its connection. Safe from any thread.</summary>
    public void Interrupt()
    {
        // What the caller wrote before, and what was read here, must not change places: a handshake that begins now looks for the former.
        Interlocked.MemoryBarrier();
        if (_wait == Handshaking)
        {
            connection.Abort();
        }
        else
        {
            _input.CancelPendingRead();
            EndPause();
        }
    }

    /// <summary>Begins to wait, whatever comes meanwhile. No thread is held; nothing may be read or flushed until it is over.</summary>
    public Task PauseAsync(TimeSpan time)
    {
        TaskCompletionSource pause = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Volatile.Write(ref _pause, pause);
        _wait = Pausing;
        wheel.Set(this, time);
        return pause.Task;
    }

    /// <summary>Ends a pause before its time. Safe from any thread.</summary>
    public void EndPause() => Volatile.Read(ref _pause)?.TrySetResult();

    /// <summary>A pause is over.</summary>
    public void Resume()
    {
        _wait = None;
        wheel.Clear(this);
        _pause = null;
    }

    protected internal override void OnDeadline()
    {
        if (IsSet)
        {
            // The deadline of an earlier wait, told late.
            return;
        }

        switch (_wait)
        {
            case Reading:
                _timedOut = true;
                _input.CancelPendingRead();
                break;
            case Handshaking:
                _timedOut = true;
                connection.Abort();
                break;
            case Flushing:
                connection.Abort();
                break;
            case Pausing:
                EndPause();
                break;
        }
    }

    private void TellReader()
    {
        Action<object?> reader = _reader!;
        object? state = _readerState;
        _reader = null;
        _readerState = null;
        reader(state);
    }

    private void ThrowIfOver(short token)
    {
        if (token != _reads)
        {
            throw new InvalidOperationException("The result of a read is taken once");
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<bool> WaitForFlushAsync(ValueTask<FlushResult> flush)
    {
        _wait = Flushing;
        wheel.Set(this, flushTimeout);
        try
        {
            return !(await flush).IsCompleted;
        }
        finally
        {
            _wait = None;
            wheel.Clear(this);
        }
    }
}
