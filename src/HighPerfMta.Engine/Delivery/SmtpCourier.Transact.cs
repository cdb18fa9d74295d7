using System.Runtime.CompilerServices;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// One transaction. Its commands have places in a row: <see cref="Reset"/>, <see cref="Mail"/>, one for each recipient, and last DATA (or BDAT with
/// the whole message). A peer with PIPELINING gets a window of them at once, others one at a time.
/// </summary>
internal sealed partial class SmtpCourier
{
    private const int Reset = -2;
    private const int Mail = -1;

    /// <summary>Commands sent before their replies are read: their replies fit the receive buffers, so that neither side waits for the other (RFC 2920 §3.1).</summary>
    private const int Window = 100;

    /// <summary>A message of at most so many octets goes with its envelope in one piece when the peer has CHUNKING and PIPELINING.</summary>
    private const long InlineLimit = 32 << 10;

    private bool _utf8;
    private BodyEncoding _body;
    private bool _inline;

    /// <summary>Octets of the message have left already.</summary>
    private bool _bodyBegun;

    /// <summary>The peer did not take this transaction's RSET: it counts if MAIL is refused too.</summary>
    private bool _resetRefused;

    private bool _answered;
    private bool _mailAccepted;
    private int _accepted;
    private int _dataCode;
    private DeliveryStage _stage;
    private TimeSpan _timeout;

    /// <summary>Why the sender was refused: the replies to the rest of the envelope mean nothing then.</summary>
    private DeliveryOutcome? _mailRefusal;

    /// <summary>A reply after which the session is over.</summary>
    private DeliveryOutcome? _fatal;

    /// <summary>True when every recipient has an outcome; false when the reused connection turned out to be closed and nothing was answered.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<bool> TransactAsync(DeliveryTask task, bool reused, CancellationToken cancellation)
    {
        SentAhead ahead = TakeAhead(task);
        if (ahead == SentAhead.None && !await PrepareAsync(task, cancellation))
        {
            return true;
        }

        LinkStatus status = await RunAsync(task, ahead, cancellation);
        if (status == LinkStatus.Ok && _fatal is null)
        {
            return true;
        }

        bool cancelled = cancellation.IsCancellationRequested;
        if (reused && !_answered && !cancelled && (_fatal is not null || status == LinkStatus.Lost))
        {
            return false;
        }

        DeliveryOutcome outcome = _fatal ?? (cancelled ? CourierOutcomes.Cancelled(_stage, _peer) : CourierOutcomes.FromLink(status, _stage, _timeout, _peer));
        Decide(task, outcome);

        // A message that was begun must not end as if it were whole: what was written and not sent is thrown away with the connection.
        await DropAsync(abort: _stage == DeliveryStage.Body || status is LinkStatus.TimedOut or LinkStatus.Garbage);
        return true;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> RunAsync(DeliveryTask task, SentAhead ahead, CancellationToken cancellation)
    {
        BeginTransaction(task, ahead);
        bool chunk = _peerCan.Chunking && !_inline;
        int last = chunk ? task.RecipientCount - 1 : task.RecipientCount;
        LinkStatus status = ahead == SentAhead.None ? await SendEnvelopeAsync(task, last, cancellation)
            : await ReadRepliesAsync(task, _peerCan.Chunking ? Reset : Mail, last + 1, LinkStatus.Ok);
        if (status != LinkStatus.Ok || _fatal is not null)
        {
            return status;
        }

        if (_mailRefusal is not null)
        {
            Decide(task, _mailRefusal);
        }

        _needsReset |= _mailAccepted;
        bool wanted = _dataCode is >= 300 and <= 399;
        bool taken = _accepted > 0 && _mailRefusal is null;
        if (wanted && !taken)
        {
            return await SendLoneDotAsync();
        }

        if (wanted)
        {
            status = await WriteDataAsync(task, cancellation);
        }
        else if (chunk && _accepted > 0)
        {
            status = await WriteChunkAsync(task, flush: true, cancellation);
        }
        else
        {
            return status;
        }

        return status == LinkStatus.Ok && _fatal is null ? await FinishAsync(task) : status;
    }

    private void BeginTransaction(DeliveryTask task, SentAhead ahead)
    {
        _transactions++;
        task.PassesDsn = _peerCan.Dsn;
        _answered = false;
        _resetRefused = false;
        _bodyBegun = false;
        _mailAccepted = false;
        _accepted = 0;
        _dataCode = 0;
        _mailRefusal = null;
        _fatal = null;
        _inline = ahead == SentAhead.Whole
            || (ahead == SentAhead.None && _peerCan.Chunking && _peerCan.Pipelining && task.Message.Size <= InlineLimit && task.RecipientCount <= Window - 3);
    }

    /// <summary>Sends the commands up to place <paramref name="last"/> and reads their replies. Stops early when there is nobody to send the message to.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> SendEnvelopeAsync(DeliveryTask task, int last, CancellationToken cancellation)
    {
        int window = _peerCan.Pipelining ? Window : 1;
        for (int next = _needsReset ? Reset : Mail; next <= last;)
        {
            int first = next;
            int sent = 0;
            for (; next <= last && sent < window; next++)
            {
                if (next == task.RecipientCount && sent == 0 && _accepted == 0)
                {
                    return LinkStatus.Ok;
                }

                if (!IsDecided(task, next))
                {
                    await WriteCommandAsync(task, next, cancellation);
                    sent++;
                }
            }

            if (_inline)
            {
                WriteAhead(task);
            }

            LinkStatus status = await FlushAsync(PlaceStage(task, first), _options.CommandTimeout);
            status = await ReadRepliesAsync(task, first, next, status);
            if (status != LinkStatus.Ok || _fatal is not null || _mailRefusal is not null)
            {
                return status;
            }
        }

        return LinkStatus.Ok;
    }

    /// <summary>Reads and judges the replies to the places from <paramref name="first"/> up to and without <paramref name="end"/>, whose commands were sent with the status given.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<LinkStatus> ReadRepliesAsync(DeliveryTask task, int first, int end, LinkStatus status)
    {
        for (int place = first; place < end && status is LinkStatus.Ok or LinkStatus.Lost && _fatal is null; place++)
        {
            if (!IsDecided(task, place))
            {
                // Also when the flush failed: what the peer said before it closed is worth more than that it closed.
                status = await ReadAsync(PlaceStage(task, place), PlaceTimeout(task, place));
                if (status != LinkStatus.Ok)
                {
                    return status;
                }

                Judge(task, place);
            }
        }

        return status;
    }

    /// <summary>A recipient that is not sent, or whose reply was read.</summary>
    private static bool IsDecided(DeliveryTask task, int place) => place >= 0 && place < task.RecipientCount && task.Outcomes[place] is not null;

    private ValueTask WriteCommandAsync(DeliveryTask task, int place, CancellationToken cancellation)
    {
        if (place == Reset)
        {
            _link!.Write("RSET\r\n"u8);
        }
        else if (place == Mail)
        {
            WriteMail(task);
        }
        else if (place < task.RecipientCount)
        {
            WriteRcpt(task, place);
        }
        else if (_inline)
        {
            return WriteChunkAsync(task, cancellation);
        }
        else
        {
            _link!.Write("DATA\r\n"u8);
        }

        return default;
    }

    private void WriteMail(DeliveryTask task)
    {
        Envelope envelope = task.Message.Envelope;
        EnvelopeWriter.Mail(_link!.Output, envelope.Sender, _peerCan.SizeExtension ? task.Message.Size : -1, _body, _utf8, envelope.Parameters, _peerCan,
            envelope.Parameters?.DeliverBy is null ? default : services.Time.GetUtcNow());
    }

    private void WriteRcpt(DeliveryTask task, int place)
    {
        Envelope envelope = task.Message.Envelope;
        int recipient = task.RecipientIndexes[place];
        EnvelopeWriter.Rcpt(_link!.Output, envelope.Recipients[recipient], envelope.Parameters?.Of(recipient), _peerCan);
    }

    private DeliveryStage PlaceStage(DeliveryTask task, int place) =>
        place < 0 ? DeliveryStage.MailFrom : place < task.RecipientCount ? DeliveryStage.RcptTo : _inline ? DeliveryStage.FinalDot : DeliveryStage.Data;

    private TimeSpan PlaceTimeout(DeliveryTask task, int place) =>
        place < task.RecipientCount ? _options.CommandTimeout : _inline ? _options.FinalDotTimeout : _options.DataTimeout;

    private void Judge(DeliveryTask task, int place)
    {
        PeerReply reply = _link!.Reply;
        if (reply.Code == 421 || (place == Mail && _resetRefused && reply.Class != 2))
        {
            // As the first thing on a reused connection it means that the peer had enough of it: that is no answer to this transaction.
            _fatal = CourierOutcomes.FromReply(reply, _stage, _peer);
            return;
        }

        _answered |= place != Reset;
        if (place == Reset)
        {
            // Not the end: the message may have left with it, and a peer that takes MAIL all the same has begun anew.
            _resetRefused = reply.Class != 2;
            _needsReset = _resetRefused;
        }
        else if (place == Mail)
        {
            JudgeMail(reply);
        }
        else if (place < task.RecipientCount)
        {
            JudgeRecipient(task, place, reply);
        }
        else
        {
            JudgeData(task, reply);
        }
    }

    private void JudgeMail(PeerReply reply)
    {
        _mailAccepted = reply.Class == 2;
        if (reply.Class == 3)
        {
            _fatal = CourierOutcomes.FromReply(reply, _stage, _peer);
        }
        else if (!_mailAccepted)
        {
            _mailRefusal = CourierOutcomes.FromReply(reply, _stage, _peer);
        }
    }

    private void JudgeRecipient(DeliveryTask task, int place, PeerReply reply)
    {
        if (_mailRefusal is not null)
        {
            return;
        }

        switch (reply.Class)
        {
            case 2:
                _accepted++;
                break;
            case 3:
                _fatal = CourierOutcomes.FromReply(reply, _stage, _peer);
                break;
            default:
                task.Outcomes[place] = Stamp(CourierOutcomes.FromRecipientReply(reply, _accepted > 0, _peer));
                break;
        }
    }

    private void JudgeData(DeliveryTask task, PeerReply reply)
    {
        _dataCode = reply.Code;
        if (reply.Class == (_inline ? 3 : 2))
        {
            _fatal = CourierOutcomes.FromReply(reply, _inline ? _stage : DeliveryStage.Data, _peer);
        }
        else if (_inline && reply.Class == 2)
        {
            // The message has ended the transaction: RSET is not needed.
            _mailAccepted = false;
            _needsReset = false;
        }

        if (_fatal is null && _accepted > 0 && _mailRefusal is null && reply.Class != 3)
        {
            Decide(task, CourierOutcomes.FromReply(reply, _stage, _peer));
        }
    }

    private ValueTask<LinkStatus> FlushAsync(DeliveryStage stage, TimeSpan timeout) => SendAsync(default, stage, timeout);

    private ValueTask<LinkStatus> SendAsync(ReadOnlyMemory<byte> octets, DeliveryStage stage, TimeSpan timeout)
    {
        _stage = stage;
        _timeout = timeout;
        return _link!.SendAsync(octets, timeout);
    }

    private ValueTask<LinkStatus> ReadAsync(DeliveryStage stage, TimeSpan timeout)
    {
        _stage = stage;
        _timeout = timeout;
        return _link!.ReadAsync(timeout);
    }
}
