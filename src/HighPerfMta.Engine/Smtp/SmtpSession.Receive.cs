using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using HighPerfMta.Engine.Smtp.Verbs;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Smtp;

/// <summary>The part of the session that takes the octets of a message (RFC 5321 §4.1.1.4, RFC 3030).</summary>
internal sealed partial class SmtpSession
{
    private Bdat.Chunk _chunk;
    private MessageReceiver? _receiver;

    /// <summary>How the wait for message octets ended.</summary>
    private enum Wait : byte
    {
        Octets, ClientClosed, TimedOut,
    }

    /// <summary>The session's one receiver: DATA and BDAT cannot be under way at once.</summary>
    private MessageReceiver BeginMessage()
    {
        _receiver ??= new MessageReceiver(_context.Intake, _context.Limits, _context.HeaderRulesOf(Profile));
        _receiver.Begin(Transaction.Mail.Body, Transaction.Mail.SmtpUtf8);
        return _receiver;
    }

    /// <summary>Takes the octets that DATA or BDAT announced and answers them. Null: the session goes on.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<SessionEnd?> ReceiveAsync(Next kind)
    {
        _answers = 1;
        (Wait wait, SmtpReply? reply, MessageId queued) = kind == Next.Data ? await ReceiveDataAsync() : await ReceiveChunkAsync();
        if (wait == Wait.ClientClosed)
        {
            return SessionEnd.ClientClosed;
        }

        if (wait == Wait.TimedOut)
        {
            Write(reply!);
            return SessionEnd.TimedOut;
        }

        if (reply is null)
        {
            _errors = 0;
            _guard?.Accepted();
            _context.Metrics.Accepted.Add(1);
            if (_answers == 1)
            {
                _transport.WriteQueued(queued);
                return null;
            }

            return await WriteQueuedAsync(queued) ? null : SessionEnd.ClientClosed;
        }

        if (_answers == 1 ? Write(reply) : await WriteRefusedAsync(reply))
        {
            return SessionEnd.Closed;
        }

        return reply.Code < 500 || DelayOfError <= TimeSpan.Zero || await HoldBackAsync() ? null : SessionEnd.ClientClosed;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<(Wait Wait, SmtpReply? Reply, MessageId Queued)> ReceiveDataAsync()
    {
        _transport.Write(Replies.StartMailInput.Wire.Span);
        _transport.ExpectBody();
        using MessageReceiver receiver = BeginMessage();
        while (true)
        {
            (Wait wait, ReadResult result, SmtpReply? timeout) = await WaitForOctetsAsync();
            if (wait != Wait.Octets)
            {
                return (wait, timeout, default);
            }

            receiver.CheckIntake();
            (bool ended, SequencePosition consumed) = await receiver.TakeDataAsync(result.Buffer);
            _transport.AdvanceTo(consumed, consumed);
            if (ended)
            {
                (SmtpReply? reply, MessageId queued) = await FinishAsync(receiver, "data");
                return (Wait.Octets, reply, queued);
            }

            if (result.IsCompleted)
            {
                return (Wait.ClientClosed, null, default);
            }
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<(Wait Wait, SmtpReply? Reply, MessageId Queued)> ReceiveChunkAsync()
    {
        Bdat.Chunk chunk = _chunk;
        MessageReceiver? receiver = chunk.Refusal is null ? Transaction.Chunks ??= BeginMessage() : null;
        _transport.ExpectBody();
        for (long left = chunk.Size; left > 0;)
        {
            (Wait wait, ReadResult result, SmtpReply? timeout) = await WaitForOctetsAsync();
            if (wait != Wait.Octets)
            {
                return (wait, timeout, default);
            }

            ReadOnlySequence<byte> octets = result.Buffer.Length > left ? result.Buffer.Slice(0, left) : result.Buffer;
            left -= octets.Length;
            if (receiver is not null)
            {
                receiver.CheckIntake();
                await receiver.TakeChunkAsync(octets);
            }

            _transport.AdvanceTo(octets.End, octets.End);
            if (left > 0 && result.IsCompleted)
            {
                return (Wait.ClientClosed, null, default);
            }
        }

        return await EndChunkAsync(chunk, receiver);
    }

    private async ValueTask<(Wait Wait, SmtpReply? Reply, MessageId Queued)> EndChunkAsync(Bdat.Chunk chunk, MessageReceiver? receiver)
    {
        if (receiver is null)
        {
            if (chunk.IsLast)
            {
                CountAnswers();
            }

            return (Wait.Octets, Bdat.EndRefused(this, chunk), default);
        }

        if (chunk.IsLast)
        {
            await receiver.EndChunksAsync();
            (SmtpReply? reply, MessageId queued) = await FinishAsync(receiver, "bdat");
            return (Wait.Octets, reply, queued);
        }

        if (receiver.Refusal is { } refusal)
        {
            ReportRefused(receiver, refusal, "bdat");
            Bdat.Kill(this);
            return (Wait.Octets, refusal, default);
        }

        State = SessionState.Chunks;
        return (Wait.Octets, Replies.Ok, default);
    }

    /// <summary>Commits a complete message. No reply: it is durable and 250 is due.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<(SmtpReply? Reply, MessageId Queued)> FinishAsync(MessageReceiver receiver, string stage)
    {
        CountAnswers();
        SmtpReply? refusal = receiver.Refusal;
        MessageId id = default;
        if (refusal is null)
        {
            long size = receiver.Length;
            Envelope envelope = MakeEnvelope();
            id = envelope.Id;
            WriteReceived(envelope);
            _context.HeaderRulesOf(Profile).WriteMissing(_headers, receiver.Header, envelope.ReceivedAt, envelope.Id, _context.Hostname);
            try
            {
                (refusal, _) = await _context.Intake.CommitAsync(receiver.Message!, envelope, _headers.WrittenMemory);
            }
            catch (LogUnavailableException error)
            {
                refusal = CannotStore(error);
            }

            if (refusal is null)
            {
                KeepTaken();
                _context.Metrics.Bytes.Add(size);
            }
        }

        if (refusal is not null)
        {
            ReportRefused(receiver, refusal, stage);
        }

        ResetTransaction();
        return (refusal, id);
    }

    private SmtpReply CannotStore(LogUnavailableException error)
    {
        SmtpLog.CannotStore(_context.Logger, error, _connection.Remote, Replies.LocalError.Code);
        return Replies.LocalError;
    }

    private void ReportRefused(MessageReceiver receiver, SmtpReply refusal, string stage)
    {
        Reject(refusal, Transaction.SingleRecipient, stage);
        if (receiver.StorageFault is { } fault)
        {
            SmtpLog.CannotStore(_context.Logger, fault, _connection.Remote, refusal.Code);
        }
    }

    private Envelope MakeEnvelope()
    {
        Envelope envelope = new()
        {
            Id = _context.Intake.NextId(),
            Sender = Transaction.Mail.Sender,
            Recipients = Transaction.CopyRecipients(),
            ReceivedAt = _context.Time.GetUtcNow(),
            Body = Transaction.Mail.Body,
            SmtpUtf8 = Transaction.Mail.SmtpUtf8,
            ClientAddress = ClientAddress,
            HeloName = HeloName,
        };
        if (Transaction.MakeParameters() is { } parameters)
        {
            envelope = new EnvelopeWithParameters(envelope, parameters);
        }

        string? submitter = IsTrusted ? Transaction.Mail.Submitter : null;
        return Tls is null && User is null && submitter is null && Forwarded is null
            ? envelope
            : new EnvelopeWithOrigin(envelope, Tls?.Description, Forwarded, User?.Name, submitter);
    }

    private void WriteReceived(Envelope envelope)
    {
        bool hides = User is not null && _context.Options.Submission.HideClient;
        _headers.ResetWrittenCount();
        ReceivedHeader.Write(_headers, new ReceivedFields
        {
            HeloName = hides ? "" : HeloName,
            ClientAddress = ClientAddress,
            Hostname = _context.Hostname,
            Esmtp = IsExtended,
            Lmtp = IsLmtp,
            SmtpUtf8 = envelope.SmtpUtf8,
            Authenticated = User is not null,
            ClientName = ClientName,
            TlsProtocol = Tls?.Protocol,
            TlsCipher = Tls?.Cipher,
            Id = envelope.Id,
            For = Transaction.SingleRecipient,
            Date = envelope.ReceivedAt,
        });
    }

    /// <summary>
    /// The next octets of a message. Replies that wait (354 among them) are sent first when there are none yet. Each wait has the data time-out, of guarded clients less what the message is
    /// behind; the session's own bounds the others that feed octet by octet.
    /// </summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<(Wait Wait, ReadResult Result, SmtpReply? Timeout)> WaitForOctetsAsync()
    {
        while (true)
        {
            if (!_transport.TryRead(out ReadResult result))
            {
                if (!await _transport.FlushAsync())
                {
                    return (Wait.ClientClosed, default, null);
                }

                _commandSince = _context.Time.GetTimestamp();
                TimeSpan wait = TimeLeft(_context.Limits.DataTimeout - _behind, out SmtpReply timeout);
                timeout = timeout == Replies.Timeout && _behind > TimeSpan.Zero ? GuardReplies.TooSlow : timeout;
                if (wait <= TimeSpan.Zero)
                {
                    return (Wait.TimedOut, default, timeout);
                }

                result = await _transport.ReadAsync(wait);
                if (result.IsCanceled && _transport.TimedOut)
                {
                    _transport.AdvanceTo(result.Buffer.Start, result.Buffer.End);
                    return (Wait.TimedOut, default, timeout);
                }

                NoteWait(_commandSince);
            }

            if (!result.Buffer.IsEmpty)
            {
                NoteOctets(result.Buffer.Length);
                return (Wait.Octets, result, null);
            }

            _transport.AdvanceTo(result.Buffer.Start, result.Buffer.End);
            if (result.IsCompleted)
            {
                return (Wait.ClientClosed, default, null);
            }
        }
    }
}
