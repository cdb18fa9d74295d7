using System.Runtime.CompilerServices;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Intake;

/// <summary>The door into the queue: a failing or full log becomes a refusal, and a message that became durable has an event for each recipient.</summary>
public sealed partial class IntakeRoom(IMailQueue queue, IEventLog events, TimeProvider time, ILogger logger, PressureGauge? pressure = null) : IIntake
{
    public SmtpReply? Refusal => RefusalFor(queue.Condition) ?? pressure?.Refusal;

    public MessageId NextId() => queue.NextId();

    public IncomingMessage Begin() => queue.Begin();

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    public async ValueTask<(SmtpReply? Refusal, QueuedMessage? Message)> CommitAsync(
        IncomingMessage incoming, Envelope envelope, ReadOnlyMemory<byte> prependedHeaders)
    {
        if (pressure is not null && envelope.ClientAddress is not null)
        {
            await pressure.SlowAsync();
        }

        QueuedMessage message;
        try
        {
            message = await incoming.CommitAsync(envelope, prependedHeaders);
        }
        catch (LogUnavailableException e)
        {
            NotAccepted(logger, envelope.Id, e.Message);
            return (RefusalFor(e.Condition) ?? Replies.LocalError, null);
        }

        return (null, message);
    }

    private static SmtpReply? RefusalFor(LogCondition condition) => condition switch
    {
        LogCondition.Healthy => null,
        LogCondition.LowSpace => Replies.InsufficientStorage,
        _ => Replies.LocalError,
    };

    /// <summary>Writes what became durable to the event log. Belongs before delivery learns of the message (<see cref="IMailQueue.Announce"/>): its events come after these.</summary>
    public void Accepted(QueuedMessage message)
    {
        ArgumentNullException.ThrowIfNull(message);
        Envelope envelope = message.Envelope;
        string sender = envelope.Sender?.ToString() ?? "";
        string? source = envelope.ClientAddress?.ToString();
        DateTimeOffset now = time.GetUtcNow();
        EnvelopeParameters? parameters = envelope.Parameters;
        for (int i = 0; i < envelope.Recipients.Length; i++)
        {
            events.Write(new MailEvent
            {
                Time = now,
                Kind = MailEventKind.Accepted,
                Id = envelope.Id,
                Sender = sender,
                Recipient = envelope.Recipients[i].ToString(),
                Source = source,
                Tls = envelope.Tls,
                User = envelope.User,
                Submitter = envelope.Submitter,
                Forwarded = envelope.Forwarded,
                Parameters = parameters,
                RecipientParameters = parameters?.Of(i),
                Size = message.Size,
            });
        }
    }

    [LoggerMessage(1, LogLevel.Warning, "Message {Id} was not accepted: {Reason}")]
    private static partial void NotAccepted(ILogger logger, MessageId id, string reason);
}
