using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Queue.Offline;

/// <summary>How the queue of a stopped server is read.</summary>
public enum OfflineSource
{
    /// <summary>As a server's start does: the checkpoint and the log behind it; the whole log where there is no checkpoint that can be used.</summary>
    Checkpoint,

    /// <summary>Every record of the log, the checkpoint is left aside.</summary>
    Log,
}

/// <summary>
/// The queue of a stopped server, loaded as a start would load it, without writing anything. Memory: 64 bytes a job in the table, the names that jobs share, and while it loads the ids of the
/// messages in the part of the log that is read.
/// </summary>
public sealed class OfflineQueue : IAsyncDisposable
{
    private readonly OfflineLog _log;
    private readonly MailQueue _queue;
    private OfflineFiles? _owned;

    private OfflineQueue(OfflineLog log, MailQueue queue)
    {
        _log = log;
        _queue = queue;
    }

    /// <summary>The queue; everything in it is at rest, and the caller owns all jobs. Nothing that is changed in it outlives it.</summary>
    public IMailQueue Queue => _queue;

    /// <summary>Ranges of the log that are damaged, as far as it was read, and messages and records that cannot be understood.</summary>
    public IReadOnlyList<DamagedRange> Damage { get; private set; } = [];

    /// <summary>How many octets are where.</summary>
    public SpoolSizes Sizes { get; private set; } = new();

    /// <summary>Why the checkpoint is not used; null when it is, when there is none, or when it is not wanted.</summary>
    public string? CheckpointProblem => _log.CheckpointProblem;

    internal MailQueue MailQueue => _queue;

    internal LogState State { get; private set; } = null!;

    /// <summary>Reads the queue.</summary>
    /// <param name="directory">The data directory; it stays the caller's.</param>
    /// <param name="source">From what.</param>
    /// <param name="time">The clock.</param>
    /// <param name="tally">Counts the records that are read; may be null.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="LogOpenException">The log is not one that this program understands.</exception>
    public static async Task<OfflineQueue> OpenAsync(
        OfflineDirectory directory, OfflineSource source, TimeProvider time, RecordTally? tally = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(directory);
        OfflineFiles files = OfflineFiles.Open(directory);
        try
        {
            OfflineQueue opened = await OpenAsync(files, source, time, tally is null ? null : tally.Visit, cancellation);
            opened._owned = files;
            return opened;
        }
        catch
        {
            files.Dispose();
            throw;
        }
    }

    /// <summary>As the other, on files that stay the caller's.</summary>
    internal static async Task<OfflineQueue> OpenAsync(OfflineFiles files, OfflineSource source, TimeProvider time, RecordVisitor? witness, CancellationToken cancellation)
    {
        OfflineLog log = new(files, source == OfflineSource.Checkpoint, witness);
        QueueOptions options = new()
        {
            DataDirectory = files.Directory.Root,
            SegmentSize = files.Superblock.SegmentSize,
            PageSize = files.Superblock.PageSize,
            HotBodies = 0,
        };
        MailQueue queue = MailQueue.Open(log, options, time, NullLogger.Instance);
        await queue.LoadAllAsync(cancellation);
        long checkpointDurable = CheckpointOf(files, out long checkpoint);
        OfflineQueue opened = new(log, queue) { State = LogState.Of(log, files, checkpointDurable) };
        opened.Damage = [.. opened.State.Damage.Select(static f => f.Range), .. queue.Damage];
        opened.Sizes = SpoolSizes.Of(files, opened.State, queue.Statistics.LiveBytes, checkpoint);
        return opened;
    }

    /// <summary>
    /// A job's message by its Accepted record alone, for a job whose state cannot be read: all recipients of the envelope, whatever became of them.
    /// </summary>
    /// <exception cref="RecordUnreadableException">That record cannot be read either.</exception>
    public async ValueTask<QueuedMessage> ReadEnvelopeAsync(int slot, CancellationToken cancellation = default)
    {
        Index.Job job = _queue.Jobs[slot];
        using StoredRecord stored = await _log.ReadAsync(job.Accepted, cancellation);
        Records.AcceptedRecord accepted = JobReader.ReadAccepted(stored, job);
        QueuedMessage message = JobReader.Make(job, accepted.Envelope, JobReader.BodyOf(stored, accepted), null);
        message.Slot = slot;
        return message;
    }

    public async ValueTask DisposeAsync()
    {
        await _queue.DisposeAsync();
        _owned?.Dispose();
    }

    private static long CheckpointOf(OfflineFiles files, out long address)
    {
        using CheckpointReader? checkpoint = files.OpenCheckpoint(out _);
        address = checkpoint?.Address ?? 0;
        return checkpoint?.Durable ?? 0;
    }
}
