using System.Buffers;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// The next messages' commands with the end of the present one (RFC 2920 §3.1): one send and one round trip less for each. A peer without CHUNKING gets the next envelope up to DATA;
/// one with CHUNKING gets small messages whole, each behind an RSET, as a refused BDAT or a message without recipients leaves its transaction open.
/// </summary>
internal sealed partial class SmtpCourier
{
    /// <summary>The first transaction of which something has left already; the others follow by <see cref="DeliveryTask.Next"/>.</summary>
    private DeliveryTask? _ahead;

    public bool SendsAhead => _link is not null && _peerCan.Pipelining && _options.PipelinedMessages > 1;

    public ValueTask AbandonAheadAsync() => _ahead is null ? default : DropAsync(abort: false);

    /// <summary>Writes what may go of the messages after this one, whose last octets are written and not sent.</summary>
    private void WriteAhead(DeliveryTask task)
    {
        if (!_peerCan.Pipelining || _ahead is not null)
        {
            return;
        }

        int commands = 0;
        long octets = 0;
        int left = Math.Min(_options.PipelinedMessages - 1, MostTransactions - _transactions);
        for (DeliveryTask? next = task.Next; next is not null && left > 0; next = next.Next, left--)
        {
            commands += next.RecipientCount + 3;
            if (commands > Window || !GoesAsItIs(next))
            {
                return;
            }

            next.Ahead = _peerCan.Chunking && TryWriteWhole(next, ref octets) ? SentAhead.Whole : SentAhead.Envelope;
            _ahead ??= next;
            if (next.Ahead == SentAhead.Envelope)
            {
                WriteAheadEnvelope(next);
                return;
            }
        }
    }

    /// <summary>Nothing about the transaction has to be decided or read before it begins.</summary>
    private bool GoesAsItIs(DeliveryTask task) => !(_peerCan.Size < task.Message.Size) && Refusal(task.Message.Envelope) is null && FitsLimits(task) && ChooseParameters(task) == default;

    private bool TryWriteWhole(DeliveryTask task, ref long octets)
    {
        long size = task.Message.Size;
        if (octets + size > InlineLimit)
        {
            return false;
        }

        using BodyReader reader = services.Queue.OpenBody(task.Message);
        ReadOnlyMemory<byte> message = reader.Whole;
        if (message.Length != size || size == 0)
        {
            return false;
        }

        octets += size;
        WriteAheadEnvelope(task);
        EnvelopeWriter.Bdat(_link!.Output, size, last: true);
        _link.Output.Write(message.Span);
        return true;
    }

    private void WriteAheadEnvelope(DeliveryTask task)
    {
        if (_peerCan.Chunking)
        {
            _link!.Write("RSET\r\n"u8);
        }

        WriteMail(task);
        for (int i = 0; i < task.RecipientCount; i++)
        {
            WriteRcpt(task, i);
        }

        if (!_peerCan.Chunking)
        {
            _link!.Write("DATA\r\n"u8);
        }
    }

    /// <summary>The transaction's turn has come: what of it was sent.</summary>
    private SentAhead TakeAhead(DeliveryTask task)
    {
        if (_ahead != task)
        {
            return SentAhead.None;
        }

        SentAhead sent = task.Ahead;
        task.Ahead = SentAhead.None;
        _ahead = task.Next is { Ahead: not SentAhead.None } next ? next : null;
        return sent;
    }

    private void ForgetAhead()
    {
        for (DeliveryTask? task = _ahead; task is not null && task.Ahead != SentAhead.None; task = task.Next)
        {
            task.Ahead = SentAhead.None;
        }

        _ahead = null;
    }
}
