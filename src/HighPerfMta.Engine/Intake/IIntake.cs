using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Intake;

/// <summary>
/// The only door into the queue: reception and reports enter here. Checks capacity, makes the id, commits, writes the accepted event,
/// and hands the message to delivery (through the queue's announcement).
/// </summary>
public interface IIntake
{
    /// <summary>Null when mail can be taken; otherwise the refusal: 452 4.3.1 for low space, 451 4.3.0 for a failing log.</summary>
    SmtpReply? Refusal { get; }

    MessageId NextId();

    IncomingMessage Begin();

    /// <summary>Makes the message durable and queued. Null and the queued message, or the refusal to answer instead of 250.</summary>
    ValueTask<(SmtpReply? Refusal, QueuedMessage? Message)> CommitAsync(IncomingMessage incoming, Envelope envelope, ReadOnlyMemory<byte> prependedHeaders);
}
