using System.Buffers;
using System.Runtime.CompilerServices;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Smtp;

/// <summary>
/// Takes the octets of one message after the other from DATA or BDAT into the queue's memory, checking as they pass. After a fault octets are only consumed, so
/// that the session stays in step with its client, and the storage is given back at once. Memory is bounded by one chunk whatever the message's size.
/// </summary>
internal sealed class MessageReceiver : IDisposable
{
    /// <summary>Octets of input unstuffed in one step; the queue gives at most 64 KiB of room.</summary>
    private const int Step = 16 << 10;

    private readonly IIntake _intake;
    private readonly LimitOptions _limits;
    private DotReader _dots;
    private LineChecker _lines;
    private HeaderScanner _headers;
    private IncomingMessage? _message;
    private byte[]? _scrap;
    private long _taken;
    private SmtpReply? _storageRefusal;
    private bool _binary;

    public MessageReceiver(IIntake intake, LimitOptions limits)
    {
        _intake = intake;
        _limits = limits;
    }

    /// <summary>Begins a message; the one before it has ended or is given up.</summary>
    /// <param name="body">Lines, or any octets, which are stored as they are.</param>
    public void Begin(BodyEncoding body)
    {
        Dispose();
        _binary = body == BodyEncoding.BinaryMime;
        _dots = new DotReader(_limits.TextLine);
        _lines = new LineChecker(_limits.TextLine);
        _headers = default;
        _taken = 0;
        _storageRefusal = null;
        StorageFault = null;
        _message = _intake.Begin();
    }

    /// <summary>
    /// Why the message is refused; null while nothing is wrong with it. Of several faults the graver is answered, not the one that a reader of
    /// the stream happens to meet first: the answer must not depend on how the stream was cut.
    /// </summary>
    public SmtpReply? Refusal => Replies.ForMessage(_dots.Violation) ?? Replies.ForMessage(_lines.Violation)
        ?? (_taken > _limits.MessageSize ? Replies.MessageTooLarge : null)
        ?? (_headers.ReceivedCount > _limits.ReceivedHops ? Replies.RoutingLoop : null)
        ?? _storageRefusal;

    /// <summary>The fault of the storage behind a 4xx refusal, for the log.</summary>
    public LogUnavailableException? StorageFault { get; private set; }

    /// <summary>Octets of the message so far, also of one that is refused.</summary>
    public long Length => _taken;

    /// <summary>The message to commit; null once it was refused.</summary>
    public IncomingMessage? Message => _message;

    /// <summary>Refuses the message when the queue cannot take mail any more.</summary>
    public void CheckIntake()
    {
        if (_message is not null && _intake.Refusal is { } refusal)
        {
            _storageRefusal = refusal;
            Drop();
        }
    }

    /// <summary>Takes octets of DATA. True when CRLF.CRLF was found; <paramref name="buffer"/> then starts behind it, else it is used up.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    public async ValueTask<(bool Ended, SequencePosition Consumed)> TakeDataAsync(ReadOnlySequence<byte> buffer)
    {
        long position = 0;
        foreach (ReadOnlyMemory<byte> segment in buffer)
        {
            ReadOnlyMemory<byte> rest = segment;
            while (!rest.IsEmpty)
            {
                ReadOnlyMemory<byte> input = rest.Length > Step ? rest[..Step] : rest;
                Memory<byte> room = await RoomAsync(input.Length + 2);
                bool ended = Unstuff(input.Span, room.Span, out int consumed);
                position += consumed;
                if (ended)
                {
                    return (true, buffer.GetPosition(position));
                }

                rest = rest[consumed..];
            }
        }

        return (false, buffer.End);
    }

    /// <summary>Takes octets of a BDAT chunk, all of them.</summary>
    public async ValueTask TakeChunkAsync(ReadOnlySequence<byte> octets)
    {
        foreach (ReadOnlyMemory<byte> segment in octets)
        {
            if (!_binary)
            {
                _lines.Check(segment.Span);
            }

            Count(segment.Span);
            await StoreAsync(segment);
        }
    }

    /// <summary>Ends a message that came by BDAT: a missing final CRLF is added, a CR left without its LF is refused. A binary one ends as it does.</summary>
    public async ValueTask EndChunksAsync()
    {
        if (_binary)
        {
            return;
        }

        if (_lines.Finish() != DotStatus.NeedMore)
        {
            Drop();
        }
        else if (Length > 0 && !_lines.EndsWithCrLf)
        {
            await StoreAsync(CrLf);
        }
    }

    public void Dispose()
    {
        _message?.Dispose();
        _message = null;
        if (_scrap is not null)
        {
            ArrayPool<byte>.Shared.Return(_scrap);
            _scrap = null;
        }
    }

    private static readonly byte[] CrLf = "\r\n"u8.ToArray();

    private bool Unstuff(ReadOnlySpan<byte> input, Span<byte> room, out int consumed)
    {
        DotStatus status = _dots.Read(input, room, out consumed, out int written);
        _message?.Advance(written);
        Count(room[..written]);
        return status == DotStatus.End;
    }

    /// <summary>Counts octets of the message, stored or not, and drops a message that is at fault.</summary>
    private void Count(ReadOnlySpan<byte> octets)
    {
        _taken += octets.Length;
        if (_headers.InHeader)
        {
            _headers.Feed(octets);
        }

        if (_message is not null && Refusal is not null)
        {
            Drop();
        }
    }

    private void Drop()
    {
        _message?.Dispose();
        _message = null;
    }

    /// <summary>Room in the queue's memory; scrap memory when the message is refused and its octets are thrown away.</summary>
    private async ValueTask<Memory<byte>> RoomAsync(int minimum)
    {
        if (_message is not null)
        {
            try
            {
                return await _message.GetMemoryAsync(minimum);
            }
            catch (LogUnavailableException e)
            {
                StorageFailed(e);
            }
        }

        return _scrap ??= ArrayPool<byte>.Shared.Rent(Step + 2);
    }

    private async ValueTask StoreAsync(ReadOnlyMemory<byte> octets)
    {
        if (_message is null)
        {
            return;
        }

        try
        {
            await _message.WriteAsync(octets);
        }
        catch (LogUnavailableException e)
        {
            StorageFailed(e);
        }
    }

    private void StorageFailed(LogUnavailableException e)
    {
        StorageFault = e;
        _storageRefusal = e.Condition == LogCondition.LowSpace ? Replies.InsufficientStorage : Replies.LocalError;
        Drop();
    }
}
