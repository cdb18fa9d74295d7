using System.Buffers;
using System.Runtime.CompilerServices;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Smtp;

/// <summary>
/// Takes the octets of one message from DATA or BDAT into the queue's memory, checking as they pass. The first fault is kept as
/// <see cref="Refusal"/>; from then on octets are only consumed, so that the session stays in step with its client, and the storage is given
/// back at once. Memory is bounded by one chunk whatever the message's size.
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

    public MessageReceiver(IIntake intake, LimitOptions limits)
    {
        _intake = intake;
        _limits = limits;
        _dots = new DotReader(limits.TextLine);
        _lines = new LineChecker(limits.TextLine);
        _message = intake.Begin();
    }

    /// <summary>Why the message is refused; null while nothing is wrong with it.</summary>
    public SmtpReply? Refusal { get; private set; }

    /// <summary>The fault of the storage behind a 4xx refusal, for the log.</summary>
    public LogUnavailableException? StorageFault { get; private set; }

    /// <summary>Octets taken.</summary>
    public long Length => _message?.Length ?? 0;

    /// <summary>The message to commit; null once it was refused.</summary>
    public IncomingMessage? Message => _message;

    /// <summary>Refuses the message and gives its storage back. The first refusal is the one that is answered.</summary>
    public void Refuse(SmtpReply refusal)
    {
        Refusal ??= refusal;
        _message?.Dispose();
        _message = null;
    }

    /// <summary>Refuses the message when the queue cannot take mail any more.</summary>
    public void CheckIntake()
    {
        if (_message is not null && _intake.Refusal is { } refusal)
        {
            Refuse(refusal);
        }
    }

    /// <summary>Takes octets of DATA. True when CRLF.CRLF was found; <paramref name="buffer"/> then starts behind it, else it is used up.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
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
            if (_message is null)
            {
                return;
            }

            if (Replies.ForMessage(_lines.Check(segment.Span)) is { } fault)
            {
                Refuse(fault);
                return;
            }

            ScanHeader(segment.Span);
            await StoreAsync(segment);
        }
    }

    /// <summary>Ends a message that came by BDAT: a missing final CRLF is added, a CR left without its LF is refused.</summary>
    public async ValueTask EndChunksAsync()
    {
        if (_message is null)
        {
            return;
        }

        if (Replies.ForMessage(_lines.Finish()) is { } fault)
        {
            Refuse(fault);
        }
        else if (_message.Length > 0 && !_lines.EndsWithCrLf)
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
        if (_message is not null)
        {
            _message.Advance(written);
            ScanHeader(room[..written]);
            if (Replies.ForMessage(_dots.Violation) is { } fault)
            {
                Refuse(fault);
            }
            else if (_message is { } message && message.Length > _limits.MessageSize)
            {
                Refuse(Replies.MessageTooLarge);
            }
        }

        return status == DotStatus.End;
    }

    private void ScanHeader(ReadOnlySpan<byte> octets)
    {
        if (_headers.InHeader)
        {
            _headers.Feed(octets);
            if (_headers.ReceivedCount > _limits.ReceivedHops)
            {
                Refuse(Replies.RoutingLoop);
            }
        }
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
        Refuse(e.Condition == LogCondition.LowSpace ? Replies.InsufficientStorage : Replies.LocalError);
    }
}
