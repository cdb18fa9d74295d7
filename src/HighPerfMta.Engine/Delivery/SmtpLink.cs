using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using HighPerfMta.Engine.Net;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Delivery;

/// <summary>How waiting for a reply, or for the peer to take octets, ended.</summary>
internal enum LinkStatus : byte
{
    /// <summary>A reply came, or the octets were taken.</summary>
    Ok,

    /// <summary>The deadline passed.</summary>
    TimedOut,

    /// <summary>The connection is gone.</summary>
    Lost,

    /// <summary>What came is no SMTP, or exceeds every limit.</summary>
    Garbage,
}

/// <summary>
/// A courier's side of its connection: commands collected for one flush, replies read with deadlines. A deadline is for the whole reply, so that a peer
/// that sends an octet now and then gains nothing. Not for concurrent use, except <see cref="Abort"/>.
/// </summary>
internal sealed class SmtpLink(IConnection connection, DeadlineWheel wheel, TimeProvider time) : Deadline
{
    private const int Idle = 0;
    private const int Reading = 1;
    private const int Flushing = 2;

    private readonly PipeReader _input = connection.Input;
    private volatile int _wait;
    private volatile bool _timedOut;
    private long _dueAt;

    /// <summary>Commands and message octets are written here.</summary>
    public PipeWriter Output { get; } = connection.Output;

    public IConnection Connection => connection;

    /// <summary>The last reply that <see cref="ReadAsync"/> took.</summary>
    public PeerReply Reply { get; private set; } = null!;

    public void Write(ReadOnlySpan<byte> octets) => Output.Write(octets);

    /// <summary>False when the connection has ended meanwhile.</summary>
    public bool TryWriteQuit()
    {
        try
        {
            Output.Write("QUIT\r\n"u8);
            return true;
        }
        catch (Exception error) when (IsBroken(error))
        {
            return false;
        }
    }

    /// <summary>Takes the next reply. The buffer may hold further ones: those of a pipelined batch.</summary>
    public ValueTask<LinkStatus> ReadAsync(TimeSpan timeout)
    {
        try
        {
            if (_input.TryRead(out ReadResult ready) && TryTake(ready, out LinkStatus status))
            {
                return new ValueTask<LinkStatus>(status);
            }
        }
        catch (Exception error) when (IsBroken(error))
        {
            return new ValueTask<LinkStatus>(LinkStatus.Lost);
        }

        return WaitForReplyAsync(timeout);
    }

    /// <summary>Sends what was written.</summary>
    public ValueTask<LinkStatus> FlushAsync(TimeSpan timeout) => SendAsync(default, timeout);

    /// <summary>Sends what was written, and then these octets, which must stay as they are until it has ended.</summary>
    public ValueTask<LinkStatus> SendAsync(ReadOnlyMemory<byte> octets, TimeSpan timeout)
    {
        ValueTask<FlushResult> flush;
        try
        {
            flush = octets.IsEmpty ? Output.FlushAsync() : Output.WriteAsync(octets);
            if (flush.IsCompletedSuccessfully)
            {
                return new ValueTask<LinkStatus>(flush.GetAwaiter().GetResult().IsCompleted ? LinkStatus.Lost : LinkStatus.Ok);
            }
        }
        catch (Exception error) when (IsBroken(error))
        {
            return new ValueTask<LinkStatus>(LinkStatus.Lost);
        }

        return WaitForFlushAsync(flush, timeout);
    }

    /// <summary>Whether something came, or the connection was closed, although no reply is due.</summary>
    public bool HasInput() => connection.HasInput();

    /// <summary>Something came with a reply that was read, although nothing is due.</summary>
    public bool HasReceived => connection.HasReceived;

    public void Abort() => connection.Abort();

    protected internal override void OnDeadline()
    {
        if (time.GetTimestamp() < Volatile.Read(ref _dueAt))
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
            case Flushing:
                _timedOut = true;
                connection.Abort();
                break;
        }
    }

    private static bool IsBroken(Exception error) =>
        error is IOException or SocketException or ObjectDisposedException or InvalidOperationException or OperationCanceledException;

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> WaitForReplyAsync(TimeSpan timeout)
    {
        try
        {
            SetDeadline(Reading, timeout);
            while (true)
            {
                ReadResult result = await _input.ReadAsync();
                if (TryTake(result, out LinkStatus status))
                {
                    return status;
                }

                if (result.IsCanceled && _timedOut)
                {
                    return LinkStatus.TimedOut;
                }
            }
        }
        catch (Exception error) when (IsBroken(error))
        {
            return LinkStatus.Lost;
        }
        finally
        {
            _wait = Idle;
            wheel.Clear(this);
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> WaitForFlushAsync(ValueTask<FlushResult> flush, TimeSpan timeout)
    {
        SetDeadline(Flushing, timeout);
        try
        {
            FlushResult result = await flush;
            return result.IsCompleted || result.IsCanceled ? LostOrLate : LinkStatus.Ok;
        }
        catch (Exception error) when (IsBroken(error))
        {
            return LostOrLate;
        }
        finally
        {
            _wait = Idle;
            wheel.Clear(this);
        }
    }

    private void SetDeadline(int wait, TimeSpan timeout)
    {
        _timedOut = false;
        Volatile.Write(ref _dueAt, time.GetTimestamp() + (long)(timeout.TotalSeconds * time.TimestampFrequency));
        _wait = wait;
        wheel.Set(this, timeout);
    }

    private LinkStatus LostOrLate => _timedOut ? LinkStatus.TimedOut : LinkStatus.Lost;

    /// <summary>True when the wait is over: a reply, the end of the stream, or garbage.</summary>
    private bool TryTake(in ReadResult result, out LinkStatus status)
    {
        ReadOnlySequence<byte> buffer = result.Buffer;
        status = LinkStatus.Lost;
        PeerReply? reply = null;
        SequencePosition consumed = buffer.Start;
        ReplyStatus parsed = buffer.IsEmpty ? ReplyStatus.NeedMore : ReplyParser.TryRead(buffer, out reply, out consumed);
        switch (parsed)
        {
            case ReplyStatus.NeedMore:
                _input.AdvanceTo(buffer.Start, buffer.End);
                return result.IsCompleted;
            case ReplyStatus.Reply:
                _input.AdvanceTo(consumed);
                Reply = reply!;
                status = LinkStatus.Ok;
                return true;
            default:
                _input.AdvanceTo(buffer.Start);
                status = LinkStatus.Garbage;
                return true;
        }
    }
}
