using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>One recipient's change of state after an attempt or an operator's command.</summary>
public readonly record struct RecipientUpdate(int Index, RecipientState State);

/// <summary>
/// The durable queue. A message exists from the moment <see cref="IncomingMessage.CommitAsync"/> returned until its last recipient is final.
/// Contract: after the commit kill -9, power failure or a full disk lose nothing; a recipient gets the message at least once, and twice only
/// if the process died between the peer's 250 and the next commit.
/// </summary>
/// <remarks>
/// What is queued is a table of jobs (<see cref="Jobs"/>), each with one owner who alone may load, update, split and steer it. A
/// <see cref="QueuedMessage"/> is what its owner works with: one job with envelope, recipients and states, read from the log when it is wanted.
/// </remarks>
public interface IMailQueue : IAsyncDisposable
{
    /// <summary>Whether new mail can be taken now; anything but Healthy means 452 4.3.1 (LowSpace) or 451 4.3.0.</summary>
    LogCondition Condition { get; }

    /// <summary>Messages queued now.</summary>
    int Count { get; }

    /// <summary>What is queued: one job for each message × site. Read by anyone, field by field; changed by owners and the queue.</summary>
    JobTable Jobs { get; }

    /// <summary>The names that jobs refer to.</summary>
    JobNames Names { get; }

    /// <summary>True while jobs from before the start are still being read.</summary>
    bool Loading { get; }

    /// <summary>False while so many changes wait for a failing log that no further attempt should begin: their outcome could not be written down.</summary>
    bool MayAttempt { get; }

    /// <summary>True while it is the disk as a whole that fails, to be written or to be read: a message that cannot be read then is not to blame.</summary>
    bool DiskFails => Condition == LogCondition.Failing;

    /// <summary>Reads of records that wait for their turn at the disk.</summary>
    int ReadsWaiting => 0;

    /// <summary>
    /// Set once before <see cref="Start"/>: called for each message that became durable, with its one job, whose owner the receiver becomes.
    /// Called on the committing session's thread; must not block or throw; the receiver bounds its own work.
    /// </summary>
    Action<QueuedMessage>? Announce { get; set; }

    /// <summary>
    /// Set once before <see cref="Start"/>: called with the slot of each job from before the start, whose owner the receiver becomes. In no order, on a background thread; must not block or throw.
    /// </summary>
    Action<int>? Restored { get; set; }

    /// <summary>Set once before <see cref="Start"/>: told of each flush of the log to stable storage how long it took, on the thread that commits; must not block or throw.</summary>
    Action<TimeSpan>? Flushed { get; set; }

    /// <summary>Lets new messages through and begins to read the jobs from before the start.</summary>
    void Start();

    /// <summary>Begins a message; it is nothing until committed. Dispose it when done, committed or not.</summary>
    IncomingMessage Begin();

    MessageId NextId();

    /// <summary>The slots of a message's jobs; none when it is not queued. A scan over the table.</summary>
    IReadOnlyList<int> FindJobs(MessageId id);

    /// <summary>
    /// For the job's owner: its message, from memory while it is fresh, else from the log. Done with it, the owner lets it go; a job
    /// that was not tried after all he may <see cref="Keep"/>.
    /// </summary>
    /// <exception cref="RecordUnreadableException">A record of the message is damaged: set the job aside (<see cref="SteerAsync"/> with hold and a reason).</exception>
    ValueTask<QueuedMessage> LoadAsync(int slot, CancellationToken cancellation = default);

    /// <summary>For the job's owner: keeps the message in memory for the next <see cref="LoadAsync"/>, if there is room.</summary>
    void Keep(QueuedMessage message);

    /// <summary>For anyone: a job's message as it is now, to be looked at and read, never updated; null when the slot has no job of that message any more.</summary>
    /// <exception cref="RecordUnreadableException">A record of the message is damaged.</exception>
    ValueTask<QueuedMessage?> PeekAsync(int slot, MessageId id, CancellationToken cancellation = default);

    /// <summary>
    /// For the job's owner: applies the updates at once and appends one record with the states of the job's open recipients. Returns when the record is in the log's
    /// memory; it is durable with the next commit, which this asks for. If the log is failing the record is kept and appended after recovery (delivery goes on).
    /// A job whose last recipient became final leaves the queue: <see cref="QueuedMessage.Slot"/> is 0 then. An update made from an older state than the present one is reconciled with it:
    /// what is final stays final (only a delivery overrides), a hold outlives a deferral, attempts and delay notices are not forgotten.
    /// </summary>
    ValueTask UpdateAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates);

    /// <summary>As <see cref="UpdateAsync"/>, and returns only when the change is durable: for operators' commands.</summary>
    /// <exception cref="LogUnavailableException">The change is in memory only and will be appended when the log recovers.</exception>
    ValueTask UpdateDurablyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates);

    /// <summary>
    /// For the job's owner: makes a job of each group of open recipients (indexes into the envelope, ascending; together all that are open). The first group stays in the job,
    /// the others get slots of their own, whose owner the caller is: their place is the job's, they have no site. Returns them in the order of the groups, the first being <paramref name="message"/> itself.
    /// </summary>
    /// <exception cref="LogUnavailableException">Nothing was split.</exception>
    ValueTask<QueuedMessage[]> SplitAsync(QueuedMessage message, IReadOnlyList<int[]> groups);

    /// <summary>
    /// For the jobs' owner: changes whole jobs without reading them and appends one record for all. Jobs to which it does not apply are left alone; dropped jobs are gone from the table. Jobs that are with somebody else for the moment
    /// (in flight) are written down as well and change when <see cref="SteerAsync"/> is called for them again after their return: give them in <paramref name="lent"/>, with
    /// their ids, as they may be finished, and their slots another's, at any moment: what is gone is passed over.
    /// </summary>
    /// <returns>The record, for <see cref="WaitDurableAsync"/>; of length 0 when nothing changed.</returns>
    /// <exception cref="LogUnavailableException">Nothing was changed.</exception>
    ValueTask<RecordRef> SteerAsync(ReadOnlyMemory<int> slots, Steering steering, ReadOnlyMemory<JobRef> lent = default);

    /// <summary>Completes when a record is on stable storage.</summary>
    /// <exception cref="LogUnavailableException">It is not and will not be.</exception>
    ValueTask WaitDurableAsync(RecordRef record);

    /// <summary>Opens the message's bytes for reading from the start. Many readers may read one message.</summary>
    BodyReader OpenBody(QueuedMessage message);

    /// <summary>How the queue stands in memory and on the disk.</summary>
    QueueStatistics Statistics => QueueStatistics.None;

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

    /// <summary>Whoever awaits <see cref="CommitAsync"/> does little before he waits again or leaves the thread: he may go on on the one that commits (<see cref="Async.CommitThread"/>).</summary>
    public bool GoesOnInline { get; set; }

    /// <summary>
    /// About how many octets are to come, when that is known: the memory for them need not grow then. Only what the sender has shown to send: it costs memory before they are here.
    /// </summary>
    public long ExpectedLength { get; set; }

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

    /// <summary>The whole message if it is one piece in memory, valid until dispose; else empty.</summary>
    public virtual ReadOnlyMemory<byte> Whole => default;

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}
