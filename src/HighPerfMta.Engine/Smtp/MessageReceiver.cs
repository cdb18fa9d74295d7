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
    private readonly HeaderRules _rules;
    private DotReader _dots;
    private LineChecker _lines;
    private HeaderScanner _headers;
    private BccFilter _bcc;
    private bool _smtpUtf8;
    private SmtpReply? _headerRefusal;
    private IncomingMessage? _message;
    private byte[]? _scrap;
    private long _taken;
    private SmtpReply? _storageRefusal;
    private bool _binary;

    public MessageReceiver(IIntake intake, LimitOptions limits, HeaderRules rules)
    {
        _intake = intake;
        _limits = limits;
        _rules = rules;
    }

    /// <summary>Begins a message; the one before it has ended or is given up.</summary>
    /// <param name="body">Lines, or any octets, which are stored as they are.</param>
    /// <param name="smtpUtf8">The envelope has SMTPUTF8.</param>
    public void Begin(BodyEncoding body, bool smtpUtf8)
    {
        Dispose();
        _binary = body == BodyEncoding.BinaryMime;
        _dots = new DotReader(_limits.TextLine);
        _lines = new LineChecker(_limits.TextLine);
        _headers = default;
        _bcc = default;
        _smtpUtf8 = smtpUtf8;
        _headerRefusal = null;
        _storageRefusal = null;
        StorageFault = null;
        _message = _intake.Begin();
        _message.ExpectedLength = _taken;
        _taken = 0;
        _message.GoesOnInline = true;
    }

    /// <summary>
    /// Why the message is refused; null while nothing is wrong with it. Of several faults the graver is answered, not the one that a reader of
    /// the stream happens to meet first: the answer must not depend on how the stream was cut.
    /// </summary>
    public SmtpReply? Refusal => Replies.ForMessage(_dots.Violation) ?? Replies.ForMessage(_lines.Violation)
        ?? (_taken > _limits.MessageSize ? Replies.MessageTooLarge : null)
        ?? (_headers.ReceivedCount > _limits.ReceivedHops ? Replies.RoutingLoop : null)
        ?? _headerRefusal
        ?? _storageRefusal;

    /// <summary>The fault of the storage behind a 4xx refusal, for the log.</summary>
    public LogUnavailableException? StorageFault { get; private set; }

    /// <summary>Octets of the message so far, also of one that is refused.</summary>
    public long Length => _taken;

    /// <summary>The header of the message, once all of that was taken.</summary>
    public ref readonly HeaderScanner Header => ref _headers;

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
                Memory<byte> room = await RoomAsync(input.Length + 2 + (FiltersBcc ? BccFilter.Slack : 0));
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
            if (_binary)
            {
                CountBinary(segment.Span);
            }
            else
            {
                _lines.Check(segment.Span);
                Count(segment.Span);
            }

            await (FiltersBcc ? StoreFilteredAsync(segment) : StoreAsync(segment));
        }
    }

    /// <summary>Ends a message that came by BDAT: a missing final CRLF is added, a CR left without its LF is refused. A binary one ends as it does.</summary>
    public async ValueTask EndChunksAsync()
    {
        EndHeader();
        if (_lines.Finish() != DotStatus.NeedMore)
        {
            Drop();
            return;
        }

        if (FiltersBcc)
        {
            byte[] held = new byte[BccFilter.Slack];
            await StoreAsync(held.AsMemory(0, _bcc.Finish(held)));
        }

        if (!_binary && Length > 0 && !_lines.EndsWithCrLf)
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
        Count(room[..written]);
        if (status == DotStatus.End)
        {
            EndHeader();
        }

        if (_message is not null)
        {
            // Whole lines come before the end of DATA, so that nothing is held back then.
            _message.Advance(FiltersBcc ? _bcc.Filter(room, written) : written);
        }

        return status == DotStatus.End;
    }

    private bool FiltersBcc => _rules.RemovesBcc && !_bcc.IsDone;

    /// <summary>The header of a binary message is made of lines too (RFC 3030 §3 frees the body alone): without that others might read another header in it.</summary>
    private void CountBinary(ReadOnlySpan<byte> octets)
    {
        _lines.Check(octets[..Count(octets)]);
        if (_message is not null && Refusal is not null)
        {
            Drop();
        }
    }

    /// <summary>Counts octets of the message, stored or not, and drops a message that is at fault. Returns how many of them are of the header.</summary>
    private int Count(ReadOnlySpan<byte> octets)
    {
        int inHeader = 0;
        _taken += octets.Length;
        if (_headers.InHeader)
        {
            inHeader = _headers.Feed(octets);
            _headerRefusal = _rules.Refusal(_headers, _smtpUtf8);
        }

        if (_message is not null && Refusal is not null)
        {
            Drop();
        }

        return inHeader;
    }

    /// <summary>A message may end within its header.</summary>
    private void EndHeader()
    {
        if (_headers.InHeader)
        {
            _headers.Finish();
            _headerRefusal = _rules.Refusal(_headers, _smtpUtf8);
            if (_headerRefusal is not null)
            {
                Drop();
            }
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

        return _scrap ??= ArrayPool<byte>.Shared.Rent(Step + 2 + BccFilter.Slack);
    }

    private async ValueTask StoreFilteredAsync(ReadOnlyMemory<byte> octets)
    {
        for (; !octets.IsEmpty && _message is not null; octets = octets[Math.Min(octets.Length, Step)..])
        {
            ReadOnlyMemory<byte> piece = octets.Length > Step ? octets[..Step] : octets;
            Memory<byte> room = await RoomAsync(piece.Length + BccFilter.Slack);
            piece.CopyTo(room);
            _message?.Advance(_bcc.Filter(room.Span, piece.Length));
        }
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
