using System.Buffers;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Protocol.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Reports;

/// <summary>
/// Composes delivery status notifications and sends them through Intake: null sender, so that no report is ever made of a report
/// (RFC 5321 §4.5.5, §6.1), to the sender of the message.
/// </summary>
/// <param name="intake">The door that a report enters by.</param>
/// <param name="queue">Where the original header is read.</param>
/// <param name="hostname">Reporting-MTA.</param>
/// <param name="time">The clock.</param>
/// <param name="logger">Is told when an original header cannot be read.</param>
/// <param name="expire">How long delivery is tried, for the words of a delay notice; null leaves them out.</param>
/// <param name="returnSize">Octets of the largest message that is returned whole to a sender who asks for that.</param>
public sealed partial class ReportsRoom(
    IIntake intake, IMailQueue queue, string hostname, TimeProvider time, ILogger logger, TimeSpan? expire = null, long returnSize = ReportsRoom.DefaultReturnSize) : IReports
{
    public const long DefaultReturnSize = 1 << 20;

    public async ValueTask<bool> SendAsync(
        ReportKind kind, QueuedMessage message, IReadOnlyList<(int Recipient, DeliveryOutcome Outcome)> recipients, CancellationToken cancellation)
    {
        Envelope original = message.Envelope;
        if (original.Parameters is not null)
        {
            recipients = [.. recipients.Where(r => ReportPolicy.IsWanted(kind, original, r.Recipient))];
        }

        if (original.Sender is not { } sender || recipients.Count == 0)
        {
            return false;
        }

        if (intake.Refusal is { } busy)
        {
            throw Unavailable(busy);
        }

        MessageId id = intake.NextId();
        DateTimeOffset now = time.GetUtcNow();
        DeliveryReportInput input = new()
        {
            Action = ActionOf(kind),
            ReportingMta = hostname,
            ReportId = id,
            Date = now,
            To = sender,
            OriginalId = original.Id,
            ArrivalDate = original.ReceivedAt,
            ReceivedFrom = original.HeloName,
            ReceivedFromAddress = original.ClientAddress,
            WillRetryUntil = expire is { } span ? original.ReceivedAt + span : null,
            Recipients = Describe(message, recipients, now),
            OriginalHeaders = await ReadHeaderAsync(message, cancellation),
            SmtpUtf8 = original.SmtpUtf8,
            OriginalEnvelopeId = original.Parameters?.EnvelopeId is { } envelopeId ? Xtext.Decode(envelopeId) : null,
            Returned = kind == ReportKind.Failure ? await ChooseReturnAsync(message, cancellation) : ReturnedMessage.Headers,
        };
        ArrayBufferWriter<byte> text = new(4096 + input.OriginalHeaders.Length);
        await EnterAsync(text, message, input, cancellation);
        return true;
    }

    private static ReportAction ActionOf(ReportKind kind) => kind switch
    {
        ReportKind.Failure => ReportAction.Failed,
        ReportKind.Delay => ReportAction.Delayed,
        ReportKind.Relayed => ReportAction.Relayed,
        _ => ReportAction.Delivered,
    };

    /// <summary>The whole message when the sender asks for it (RET=FULL), if it can be returned and is not too large (RFC 3461 §6.2).</summary>
    private async ValueTask<ReturnedMessage> ChooseReturnAsync(QueuedMessage message, CancellationToken cancellation)
    {
        // What may go over TLS alone is not sent back by ways that nobody knows (RFC 8689 §5).
        if (message.Envelope.Parameters is not { Return: ReturnContent.Full, RequireTls: false } || message.Envelope.Body == BodyEncoding.BinaryMime || message.Size > returnSize)
        {
            return ReturnedMessage.Headers;
        }

        try
        {
            using BodyReader body = queue.OpenBody(message);
            while (true)
            {
                ReadOnlyMemory<byte> piece = await body.ReadAsync(cancellation);
                if (piece.IsEmpty)
                {
                    return ReturnedMessage.SevenBit;
                }

                if (!System.Text.Ascii.IsValid(piece.Span))
                {
                    return ReturnedMessage.EightBit;
                }
            }
        }
        catch (RecordUnreadableException error) when (!error.IsUnserved)
        {
            HeaderUnreadable(logger, error, message.Id);
            return ReturnedMessage.Headers;
        }
    }

    private static ReportedRecipient[] Describe(QueuedMessage message, IReadOnlyList<(int Recipient, DeliveryOutcome Outcome)> recipients, DateTimeOffset now)
    {
        ReportedRecipient[] described = new ReportedRecipient[recipients.Count];
        for (int i = 0; i < described.Length; i++)
        {
            (int recipient, DeliveryOutcome outcome) = recipients[i];
            RecipientState state = message.GetRecipient(recipient);

            // The state of a failure at a peer does not count the attempt that failed yet; expiry and delay are no attempts.
            bool attempted = outcome.Status != DeliveryStatus.Deferred && outcome.Stage is not (DeliveryStage.Expiry or DeliveryStage.Operator);
            int attempts = state.Attempts + (attempted ? 1 : 0);
            described[i] = new ReportedRecipient(
                message.Envelope.Recipients[recipient], outcome, attempted ? now : null, attempts, message.Envelope.Parameters?.Of(recipient)?.OriginalRecipient);
        }

        return described;
    }

    private async ValueTask EnterAsync(ArrayBufferWriter<byte> text, QueuedMessage message, DeliveryReportInput input, CancellationToken cancellation)
    {
        using IncomingMessage incoming = intake.Begin();
        if (input.Returned == ReturnedMessage.Headers)
        {
            DeliveryReport.Compose(text, input);
            await incoming.WriteAsync(text.WrittenMemory, cancellation);
        }
        else
        {
            await WriteWithMessageAsync(incoming, text, message, input, cancellation);
        }

        Envelope envelope = new()
        {
            Id = input.ReportId,
            Sender = null,
            Recipients = [input.To],
            ReceivedAt = input.Date,
            Body = input.IsEightBit ? BodyEncoding.EightBitMime : BodyEncoding.SevenBit,
            SmtpUtf8 = input.NeedsSmtpUtf8,
        };
        (SmtpReply? refusal, _) = await intake.CommitAsync(incoming, envelope, ReadOnlyMemory<byte>.Empty);
        if (refusal is not null)
        {
            throw Unavailable(refusal);
        }
    }

    private async ValueTask WriteWithMessageAsync(
        IncomingMessage incoming, ArrayBufferWriter<byte> text, QueuedMessage message, DeliveryReportInput input, CancellationToken cancellation)
    {
        // Nobody who wrote the message could guess it: there is no need to look for it there.
        string boundary = "=_" + System.Security.Cryptography.RandomNumberGenerator.GetHexString(32);
        DeliveryReport.Begin(text, input, boundary);
        await incoming.WriteAsync(text.WrittenMemory, cancellation);
        using (BodyReader body = queue.OpenBody(message))
        {
            while (await body.ReadAsync(cancellation) is { IsEmpty: false } piece)
            {
                await incoming.WriteAsync(piece, cancellation);
            }
        }

        text.ResetWrittenCount();
        DeliveryReport.End(text, boundary);
        await incoming.WriteAsync(text.WrittenMemory, cancellation);
    }

    /// <summary>The message up to its empty line, at most <see cref="DeliveryReport.MaxHeaders"/> octets; empty when it cannot be read.</summary>
    private async ValueTask<ReadOnlyMemory<byte>> ReadHeaderAsync(QueuedMessage message, CancellationToken cancellation)
    {
        ArrayBufferWriter<byte> header = new(4096);
        try
        {
            using BodyReader body = queue.OpenBody(message);
            while (header.WrittenCount < DeliveryReport.MaxHeaders)
            {
                ReadOnlyMemory<byte> piece = await body.ReadAsync(cancellation);
                if (piece.IsEmpty)
                {
                    break;
                }

                int seen = Math.Max(0, header.WrittenCount - 3);
                int room = DeliveryReport.MaxHeaders - header.WrittenCount;
                header.Write(piece.Span[..Math.Min(room, piece.Length)]);
                int end = header.WrittenSpan[seen..].IndexOf("\r\n\r\n"u8);
                if (end >= 0)
                {
                    return header.WrittenMemory[..(seen + end + 2)];
                }
            }
        }
        catch (RecordUnreadableException error) when (!error.IsUnserved)
        {
            HeaderUnreadable(logger, error, message.Id);
        }

        return header.WrittenMemory;
    }

    private static LogUnavailableException Unavailable(SmtpReply refusal) =>
        new($"The report is not taken: {refusal}", refusal.Code == 452 ? LogCondition.LowSpace : LogCondition.Failing);

    [LoggerMessage(1, LogLevel.Warning, "The header of {Id} cannot be read; its report goes without it.")]
    private static partial void HeaderUnreadable(ILogger logger, Exception error, MessageId id);
}
