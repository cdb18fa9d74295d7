using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>The kinds of record in the log. Values are on disk: never reuse one.</summary>
public enum RecordType : byte
{
    /// <summary>A piece of a message too large for its Accepted record.</summary>
    BodyChunk = 1,

    /// <summary>Envelope, prepended headers, and the body or the addresses of its chunks. Makes a message exist.</summary>
    Accepted = 2,

    /// <summary>State of recipients after a failed attempt: attempt count, due time, last reply.</summary>
    Deferred = 3,

    /// <summary>Recipients that need nothing more: delivered, failed or dropped.</summary>
    Completed = 4,

    /// <summary>Held, released or rescheduled by an operator.</summary>
    Steered = 5,

    /// <summary>The recipients of a job that was split off, with their states.</summary>
    Routed = 6,

    /// <summary>An Accepted record that compaction moved to the tail.</summary>
    Copied = 7,

    /// <summary>What an operator did to whole jobs of many messages; its message id is 0.</summary>
    SteeredMany = 8,
}

/// <summary>
/// Where a record is: its log address (rising, never reused) and the length of its payload in bytes. An address and a length
/// stay valid until the log is truncated past them.
/// </summary>
public readonly record struct RecordRef(long Address, int Length);

/// <summary>What a scan hands out; <see cref="Payload"/> is valid only during the callback.</summary>
public readonly ref struct ScannedRecord(RecordRef reference, RecordType type, ulong messageId, ReadOnlySpan<byte> payload)
{
    public RecordRef Ref { get; } = reference;

    public RecordType Type { get; } = type;

    public ulong MessageId { get; } = messageId;

    public ReadOnlySpan<byte> Payload { get; } = payload;
}

public delegate void RecordVisitor(scoped in ScannedRecord record);

/// <summary>How well the log is. Everything but <see cref="Healthy"/> refuses new mail; reads go on in every state but Closed.</summary>
public enum LogCondition
{
    Healthy,

    /// <summary>Too little free disk or no segment ready: refuse new mail with 452 4.3.1.</summary>
    LowSpace,

    /// <summary>A write failed. The log re-opens itself when the disk is well: refuse with 451 4.3.0.</summary>
    Failing,

    Closed,
}

/// <summary>A stretch of the log that could not be read at start; nothing in it was deleted.</summary>
public sealed record DamagedRange(long FromAddress, long ToAddress, string Reason);

/// <summary>The log cannot take or make durable a record now. The record must be treated as not written.</summary>
public sealed class LogUnavailableException(string message, LogCondition condition, Exception? inner = null)
    : IOException(message, inner)
{
    public LogCondition Condition { get; } = condition;
}

/// <summary>
/// An append-only log of typed, checksummed records on stable storage. The seam behind which the append engine stands.
/// All members are safe for concurrent use unless they say otherwise.
/// </summary>
public interface IRecordLog : IAsyncDisposable
{
    /// <summary>Largest payload of one record, bytes.</summary>
    int MaxPayload { get; }

    /// <summary>First address that is still kept.</summary>
    long BeginAddress { get; }

    /// <summary>Where the next record will go.</summary>
    long TailAddress { get; }

    /// <summary>Every record below this address is on stable storage.</summary>
    long DurableAddress { get; }

    LogCondition Condition { get; }

    /// <summary>How long a commit takes now.</summary>
    TimeSpan CommitTime { get; }

    /// <summary>Told of each flush of records to stable storage how long it took. Set before the first append; called on the log's own thread; must not block or throw.</summary>
    Action<TimeSpan>? Flushed { get; set; }

    /// <summary>Free bytes of the disk, as last looked at.</summary>
    long FreeBytes { get; }

    /// <summary>
    /// Called once for each change of <see cref="Condition"/>, on the log's own thread; must not block.
    /// When it becomes <see cref="LogCondition.Healthy"/> again after <see cref="LogCondition.Failing"/>, every record whose durability wait
    /// failed, or that was appended and not yet durable, is gone and will never be replayed: the owner appends again what it still needs.
    /// </summary>
    event Action<LogCondition>? ConditionChanged;

    /// <summary>Damaged ranges found when the log was opened.</summary>
    IReadOnlyList<DamagedRange> Damage { get; }

    /// <summary>
    /// Appends a record to memory; it is durable after <see cref="WaitDurableAsync"/>. Completes synchronously unless log memory is full,
    /// then waits for the disk (bounded by the log's write time-out).
    /// </summary>
    /// <exception cref="LogUnavailableException">The record was not appended.</exception>
    ValueTask<RecordRef> AppendAsync(RecordType type, ulong messageId, ReadOnlyMemory<byte> payload, CancellationToken cancellation = default);

    /// <summary>
    /// Completes when the record and everything before it is on stable storage. Waking asks the committer for a group commit.
    /// The wait cannot be cancelled: only the commit's result says whether the record exists.
    /// </summary>
    /// <param name="record">The record.</param>
    /// <param name="inline">What the caller does next is short and does not block: it may run on the thread that commits (<see cref="Async.CommitThread"/>).</param>
    /// <exception cref="LogUnavailableException">The commit failed: the record is not durable and will not be.</exception>
    ValueTask WaitDurableAsync(RecordRef record, bool inline = false);

    /// <summary>Asks for a commit soon (within a few milliseconds) without waiting for it: outcome records ride on it.</summary>
    void CommitSoon();

    /// <summary>
    /// True while the disk as a whole seems not to read: a read hangs and no other is answered, or it refused several records in a row and nothing was written meanwhile. That a record cannot be read says
    /// nothing about the record then.
    /// </summary>
    bool ReadsFail => false;

    /// <summary>Reads that wait for their turn at the disk.</summary>
    int ReadsWaiting => 0;

    /// <summary>
    /// Reads and verifies one durable record; <paramref name="destination"/> must hold its payload. A read that has to ask the disk waits for its turn, within a limit in all and one for each
    /// <paramref name="share"/>, and for the disk, together within a limit of time.
    /// </summary>
    /// <exception cref="RecordUnreadableException">The bytes on disk are not that record (torn, flipped, missing segment, EIO), or did not come in time.</exception>
    ValueTask ReadAsync(RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, int share, CancellationToken cancellation = default);

    /// <summary>Reads and verifies the durable record at an address, whatever it is; in turn, as the other.</summary>
    /// <exception cref="RecordUnreadableException">There is no intact record at the address (torn, flipped, truncated, missing segment, EIO), or it did not come in time.</exception>
    ValueTask<StoredRecord> ReadAsync(long address, int share, CancellationToken cancellation = default) => ReadAsync(address, cancellation);

    /// <summary>For the start and for housekeeping: the same on the caller's thread, however long it takes.</summary>
    /// <exception cref="RecordUnreadableException">There is no intact record at the address (torn, flipped, truncated, missing segment, EIO).</exception>
    ValueTask<StoredRecord> ReadAsync(long address, CancellationToken cancellation = default);

    /// <summary>Where the records that were found when the log was opened end.</summary>
    long ReplayEnd { get; }

    /// <summary>
    /// Whether an address was found to lie where a crash or a failure left a write unfinished. Nothing from there on was acknowledged then in the run that wrote it: a record that refers to what should be there belongs to
    /// something that never came to be.
    /// </summary>
    bool IsUnfinished(long address);

    /// <summary>The checkpoint that was found when the log was opened; null if there is none that can be used. The caller disposes it.</summary>
    CheckpointReader? Checkpoint { get; }

    /// <summary>Begins a checkpoint of what the log holds below an address; one at a time.</summary>
    /// <exception cref="DiskException">It cannot be written; the old one stays.</exception>
    CheckpointWriter BeginCheckpoint(long address);

    /// <summary>
    /// Visits every readable record from one address to another in log order, at any time: what is there must be durable. Records that begin before <paramref name="from"/> are left out.
    /// </summary>
    void Scan(long from, long to, RecordVisitor visitor, CancellationToken cancellation = default);

    /// <summary>Visits every readable record in log order, from <see cref="BeginAddress"/> to the durable tail found at start. Only before the first append.</summary>
    void Replay(RecordVisitor visitor, CancellationToken cancellation = default);

    /// <summary>Records below the address are needed no more; whole segments below it are deleted at the next commit.</summary>
    void TruncateBefore(long address);
}

/// <summary>A durable record could not be read back; its message must be set aside, nothing deleted.</summary>
public sealed class RecordUnreadableException(string message, Exception? inner = null) : IOException(message, inner)
{
    /// <summary>The disk refused the read, or did not answer in time, and nothing is known of the record: it may be whole, and readable the next time.</summary>
    public bool IsRefusedByDisk => IsUnserved || InnerException is DiskException or TimeoutException;

    /// <summary>The disk was not even asked: the read did not get its turn in time. That says nothing of the record at all.</summary>
    public bool IsUnserved { get; init; }
}
