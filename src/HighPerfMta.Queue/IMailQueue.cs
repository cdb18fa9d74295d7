using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>One recipient's change of state after an attempt or an operator's command.</summary>
public readonly record struct RecipientUpdate(int Index, RecipientState State);

/// <summary>
/// The durable queue. A message exists from the moment <see cref="IncomingMessage.CommitAsync"/> returned until its last recipient is final.
/// Contract: after the commit kill -9, power failure or a full disk lose nothing; a recipient gets the message at least once, and twice only
/// if the process died between the peer's 250 and the next commit.
/// </summary>
public interface IMailQueue : IAsyncDisposable
{
    /// <summary>Whether new mail can be taken now; anything but Healthy means 452 4.3.1 (LowSpace) or 451 4.3.0.</summary>
    LogCondition Condition { get; }

    /// <summary>Messages queued now.</summary>
    int Count { get; }

    /// <summary>
    /// Set once before <see cref="Start"/>: called for each message that became durable, and at start for each message found in the log.
    /// Called on the committing session's thread; must not block or throw; the receiver bounds its own work.
    /// </summary>
    Action<QueuedMessage>? Announce { get; set; }

    /// <summary>Replays nothing itself (the log was replayed when the queue was opened); announces every unfinished message, then lets new ones through.</summary>
    void Start();

    /// <summary>Begins a message; it is nothing until committed. Dispose it when done, committed or not.</summary>
    IncomingMessage Begin();

    MessageId NextId();

    QueuedMessage? Find(MessageId id);

    /// <summary>A moment's view of everything queued, in no order; safe against concurrent change.</summary>
    IEnumerable<QueuedMessage> Messages { get; }

    /// <summary>
    /// Applies the updates in memory at once and appends one record for them. Returns when the record is in the log's memory;
    /// it is durable with the next commit, which this asks for. If the log is failing the record is kept and appended after recovery (delivery goes on).
    /// A message whose last recipient became final leaves the queue. An update made from an older state than the present one is reconciled with it:
    /// what is final stays final (only a delivery overrides), a hold outlives a deferral, attempts and delay notices are not forgotten.
    /// </summary>
    ValueTask UpdateAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates);

    /// <summary>As <see cref="UpdateAsync"/>, and returns only when the change is durable: for operators' commands.</summary>
    /// <exception cref="LogUnavailableException">The change is in memory only and will be appended when the log recovers.</exception>
    ValueTask UpdateDurablyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates);

    /// <summary>Opens the message's bytes for reading from the start. Many readers may read one message.</summary>
    BodyReader OpenBody(QueuedMessage message);

    /// <summary>Set-aside messages and damaged ranges, for the operator.</summary>
    IReadOnlyList<DamagedRange> Damage { get; }
}

/// <summary>
/// A message being received. Bytes go to the log in chunks as they come, so memory is bounded by one chunk whatever the size; a small
/// message stays in one pooled buffer and goes into its Accepted record. Not for concurrent use.
/// </summary>
public abstract class IncomingMessage : IDisposable
{
    /// <summary>Octets written so far.</summary>
    public abstract long Length { get; }

    /// <summary>
    /// Room for message octets to be written in place (unstuffed, CRLF line ends), at least <paramref name="minimum"/> (at most 64 KiB), followed by
    /// <see cref="Advance"/>. Completes synchronously unless a full chunk has to wait for log memory.
    /// </summary>
    /// <exception cref="LogUnavailableException">The message cannot be stored; drop it and answer 452 or 451.</exception>
    public abstract ValueTask<Memory<byte>> GetMemoryAsync(int minimum, CancellationToken cancellation = default);

    /// <summary>Says how many octets of the last memory were filled.</summary>
    public abstract void Advance(int count);

    /// <summary>Appends message octets (unstuffed, CRLF line ends). Completes synchronously unless a chunk has to wait for log memory.</summary>
    /// <exception cref="LogUnavailableException">The message cannot be stored; drop it and answer 452 or 451.</exception>
    public abstract ValueTask WriteAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation = default);

    /// <summary>
    /// Appends the Accepted record and waits until it is on stable storage; then the message is queued and announced.
    /// </summary>
    /// <param name="envelope">The envelope; its id from <see cref="IMailQueue.NextId"/>.</param>
    /// <param name="prependedHeaders">Whole header lines with CRLF that go before the message (Received).</param>
    /// <exception cref="LogUnavailableException">The message is not accepted: never answer 250.</exception>
    public abstract ValueTask<QueuedMessage> CommitAsync(Envelope envelope, ReadOnlyMemory<byte> prependedHeaders);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>Reads a message's bytes piece by piece: from memory while hot, else from the log. Not for concurrent use; dispose to give buffers back.</summary>
public abstract class BodyReader : IDisposable
{
    /// <summary>The next piece, valid until the next call or dispose; empty at the end. Pieces may end anywhere, also within a line.</summary>
    /// <exception cref="RecordUnreadableException">The message is damaged on disk: set it aside.</exception>
    public abstract ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancellation = default);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}
