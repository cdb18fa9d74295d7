using System.Buffers;
using System.Runtime.CompilerServices;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Delivery;

/// <summary>The message itself: what it needs of the peer, and its octets as DATA or BDAT.</summary>
internal sealed partial class SmtpCourier
{
    /// <summary>Octets sent at once.</summary>
    private const int Block = 64 << 10;

    /// <summary>Octets that are worth a system call of their own, instead of a copy.</summary>
    private const int WorthSending = 16 << 10;

    /// <summary>Decides what the peer's capabilities decide. False when no recipient is left.</summary>
    private ValueTask<bool> PrepareAsync(DeliveryTask task, CancellationToken cancellation)
    {
        Envelope envelope = task.Message.Envelope;
        _stage = DeliveryStage.MailFrom;
        if (_peerCan.Size is { } limit && task.Message.Size > limit)
        {
            Decide(task, CourierOutcomes.TooLarge(task.Message.Size, limit, _peer));
            return new ValueTask<bool>(false);
        }

        if (Refusal(envelope) is { } refusal)
        {
            Decide(task, refusal);
            return new ValueTask<bool>(false);
        }

        KeepWithinLimits(task);
        (bool lacksUtf8, bool lacksEightBit) = ChooseParameters(task);
        return lacksUtf8 || lacksEightBit ? FitAsync(task, envelope.Sender is { NeedsSmtpUtf8: true }, lacksUtf8, lacksEightBit, cancellation) : new ValueTask<bool>(true);
    }

    /// <summary>The extensions that MAIL will name, and those which the envelope asks for and the peer lacks.</summary>
    private (bool LacksUtf8, bool LacksEightBit) ChooseParameters(DeliveryTask task)
    {
        Envelope envelope = task.Message.Envelope;
        bool utf8 = envelope.SmtpUtf8 || envelope.Sender is { NeedsSmtpUtf8: true } || AnyRecipientNeedsUtf8(task);
        bool eightBit = envelope.Body == BodyEncoding.EightBitMime;
        _utf8 = utf8 && _peerCan.SmtpUtf8;
        _body = eightBit && !_peerCan.EightBitMime ? BodyEncoding.SevenBit : envelope.Body;
        return (utf8 && !_peerCan.SmtpUtf8, eightBit && !_peerCan.EightBitMime);
    }

    private static bool AnyRecipientNeedsUtf8(DeliveryTask task)
    {
        EmailAddress[] recipients = task.Message.Envelope.Recipients;
        for (int i = 0; i < task.RecipientCount; i++)
        {
            if (recipients[task.RecipientIndexes[i]].NeedsSmtpUtf8)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// The peer lacks an extension that the envelope asks for: the message goes only if it does without. Domains are A-labels already, so that an
    /// international domain alone needs nothing (RFC 6531 §3.2).
    /// </summary>
    private async ValueTask<bool> FitAsync(DeliveryTask task, bool senderNeeds, bool lacksUtf8, bool lacksEightBit, CancellationToken cancellation)
    {
        (bool header, bool body) = await FindEightBitAsync(task.Message, cancellation);
        if (lacksUtf8 && (senderNeeds || (header && task.Message.Envelope.SmtpUtf8)))
        {
            Decide(task, CourierOutcomes.NeedsSmtpUtf8(_peer));
            return false;
        }

        if (lacksEightBit && (header || body))
        {
            Decide(task, CourierOutcomes.NeedsEightBit(_peer));
            return false;
        }

        int left = task.RecipientCount;
        for (int i = 0; lacksUtf8 && i < task.RecipientCount; i++)
        {
            if (task.Message.Envelope.Recipients[task.RecipientIndexes[i]].NeedsSmtpUtf8)
            {
                task.Outcomes[i] = Stamp(CourierOutcomes.NeedsSmtpUtf8(_peer));
                left--;
            }
        }

        return left > 0;
    }

    /// <summary>Whether there are octets over 127 before and after the blank line that ends the header.</summary>
    private async ValueTask<(bool Header, bool Body)> FindEightBitAsync(QueuedMessage message, CancellationToken cancellation)
    {
        using BodyReader reader = services.Queue.OpenBody(message);
        EightBitFinder finder = default;
        while (true)
        {
            ReadOnlyMemory<byte> piece = await reader.ReadAsync(cancellation);
            if (piece.IsEmpty)
            {
                return (finder.InHeader, finder.InBody);
            }

            finder.Feed(piece.Span);
        }
    }

    /// <summary>Writes the message and its end for DATA; what is more than a block is sent.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> WriteDataAsync(DeliveryTask task, CancellationToken cancellation)
    {
        using BodyReader reader = services.Queue.OpenBody(task.Message);
        DotWriter dots = default;
        long left = task.Message.Size;
        int unflushed = 0;
        while (true)
        {
            ReadOnlyMemory<byte> piece = await reader.ReadAsync(cancellation);
            left -= piece.Length;
            if (piece.IsEmpty)
            {
                break;
            }

            while (!piece.IsEmpty)
            {
                ReadOnlyMemory<byte> block = piece[..Math.Min(piece.Length, Block)];

                bool passes = false;
                int consumed = 0;
                if (left > 0 || block.Length < piece.Length)
                {
                    passes = dots.TryPass(block.Span, WorthSending, out consumed);
                }

                if (!passes)
                {
                    unflushed += Stuff(ref dots, block.Span, out consumed);
                }

                block = passes ? block[..consumed] : default;
                piece = piece[consumed..];

                // The last octets stay unsent here: they go with the end, and with the next message's commands.
                if (passes || (unflushed >= Block && (left > 0 || !piece.IsEmpty)))
                {
                    unflushed = 0;
                    if (await SendBlockAsync(block) is var status && (status != LinkStatus.Ok || _fatal is not null))
                    {
                        return status;
                    }
                }
            }
        }

        if (left != 0)
        {
            // No dot: what was sent must not count as the message.
            throw new InvalidOperationException("A message has another length than its record says.");
        }

        _link!.Output.Advance(dots.Finish(_link.Output.GetSpan(DotWriter.MaxFinish)));
        return LinkStatus.Ok;
    }

    private int Stuff(ref DotWriter dots, ReadOnlySpan<byte> octets, out int consumed)
    {
        Span<byte> span = _link!.Output.GetSpan(Math.Min(octets.Length + 64, Block));
        dots.Write(octets, span, out consumed, out int written);
        _link.Output.Advance(written);
        return written;
    }

    private async ValueTask WriteChunkAsync(DeliveryTask task, CancellationToken cancellation) => await WriteChunkAsync(task, flush: false, cancellation);

    /// <summary>The message as one BDAT LAST: nothing is stuffed.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> WriteChunkAsync(DeliveryTask task, bool flush, CancellationToken cancellation)
    {
        EnvelopeWriter.Bdat(_link!.Output, task.Message.Size, last: true);
        using BodyReader reader = services.Queue.OpenBody(task.Message);
        long left = task.Message.Size;
        int unflushed = 0;
        while (true)
        {
            ReadOnlyMemory<byte> piece = await reader.ReadAsync(cancellation);
            left -= piece.Length;
            if (piece.IsEmpty || left < 0)
            {
                break;
            }

            for (int at = 0; at < piece.Length; at += Block)
            {
                ReadOnlyMemory<byte> block = piece.Slice(at, Math.Min(Block, piece.Length - at));
                unflushed += block.Length;

                // The last octets stay unsent here: once the peer has them all its reply is no early one.
                if (!flush || unflushed < Block || (left == 0 && at + block.Length == piece.Length))
                {
                    _link.Output.Write(block.Span);
                    continue;
                }

                unflushed = 0;
                if (await SendBlockAsync(block) is var status && (status != LinkStatus.Ok || _fatal is not null))
                {
                    return status;
                }
            }
        }

        return left == 0 ? LinkStatus.Ok : throw new InvalidOperationException("A message has another length than its record says.");
    }

    /// <summary>Sends what was written of the message, and a block of it from where that is. A peer that answers now does not take it: its words decide.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> SendBlockAsync(ReadOnlyMemory<byte> block)
    {
        _bodyBegun = true;
        LinkStatus status = await SendAsync(block, DeliveryStage.Body, _options.BlockTimeout);
        if (status == LinkStatus.TimedOut || (status == LinkStatus.Ok && !_link!.HasInput()))
        {
            return status;
        }

        return await ReadEarlyReplyAsync();
    }

    private async ValueTask<LinkStatus> ReadEarlyReplyAsync()
    {
        LinkStatus status = await ReadAsync(DeliveryStage.Body, QuitTimeout);
        if (status == LinkStatus.Ok)
        {
            _fatal = CourierOutcomes.FromReply(_link!.Reply, DeliveryStage.Body, _peer);
        }

        return status == LinkStatus.TimedOut ? LinkStatus.Lost : status;
    }

    /// <summary>Sends the end of the message and reads the reply that decides every accepted recipient.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> FinishAsync(DeliveryTask task)
    {
        if (_link!.HasReceived || (_bodyBegun && _link.HasInput()))
        {
            // Octets that are not flushed never leave: the peer does not see an end of the message.
            return await ReadEarlyReplyAsync();
        }

        WriteAhead(task);
        LinkStatus status = await FlushAsync(DeliveryStage.Body, _options.BlockTimeout);
        if (status != LinkStatus.TimedOut)
        {
            status = await ReadAsync(DeliveryStage.FinalDot, _options.FinalDotTimeout);
        }

        if (status != LinkStatus.Ok)
        {
            return status;
        }

        PeerReply reply = _link.Reply;
        DeliveryOutcome outcome = CourierOutcomes.FromReply(reply, DeliveryStage.FinalDot, _peer);
        if (reply.Code == 421 || reply.Class == 3)
        {
            _fatal = outcome;
        }
        else
        {
            Decide(task, outcome);
            _needsReset = reply.Class != 2 && _peerCan.Chunking;
        }

        return LinkStatus.Ok;
    }

    /// <summary>The peer wants the message although it took no recipient: an empty one ends the transaction (RFC 2920 §3.1).</summary>
    private async ValueTask<LinkStatus> SendLoneDotAsync()
    {
        _link!.Write(".\r\n"u8);
        LinkStatus status = await FlushAsync(DeliveryStage.FinalDot, _options.BlockTimeout);
        if (status == LinkStatus.Ok)
        {
            status = await ReadAsync(DeliveryStage.FinalDot, _options.FinalDotTimeout);
        }

        _needsReset = false;
        if (status == LinkStatus.Ok && _link.Reply.Code == 421)
        {
            _fatal = CourierOutcomes.FromReply(_link.Reply, DeliveryStage.FinalDot, _peer);
        }

        return status;
    }
}
