using System.Buffers;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>
/// A log that is only read. What the queue appends while it loads (the states of jobs that a crash left between two parts of a split, ends that have to be said again) is kept in memory at
/// addresses behind the log and read back from there, so that what comes of the load is what a server's start would come to. Not for concurrent use.
/// </summary>
/// <param name="files">The files; they stay the caller's.</param>
/// <param name="useCheckpoint">False: the queue reads the log from its beginning.</param>
/// <param name="witness">Sees every record that a scan visits, before the scan's own visitor.</param>
internal sealed class OfflineLog(OfflineFiles files, bool useCheckpoint, RecordVisitor? witness = null) : IRecordLog
{
    private const int ReadOnlyFileSystem = 30;

    private readonly Dictionary<long, (RecordType Type, ulong Id, byte[] Payload)> _appended = [];
    private readonly long _memoryFrom = files.Extent.End + LogScanner.FirstAddress;
    private long _tail = files.Extent.End + LogScanner.FirstAddress;
    private List<AddressRange>? _unfinished;

    /// <summary>What the scans found, in their order.</summary>
    public List<ScanResult> Scans { get; } = [];

    /// <summary>Why there is a checkpoint that is not used; null otherwise.</summary>
    public string? CheckpointProblem { get; private set; }

    public int MaxPayload => SegmentReader.MaxPayloadOf(files.Superblock.PageSize);

    public long BeginAddress => files.Extent.Begin;

    public long TailAddress => _tail;

    public long DurableAddress => _tail;

    public LogCondition Condition => LogCondition.Healthy;

    public TimeSpan CommitTime => TimeSpan.Zero;

    /// <summary>Never called: nothing is written.</summary>
    public Action<TimeSpan>? Flushed { get; set; }

    public long FreeBytes => long.MaxValue;

    public IReadOnlyList<DamagedRange> Damage => [];

    public long ReplayEnd => files.Extent.End;

    public CheckpointReader? Checkpoint
    {
        get
        {
            if (!useCheckpoint)
            {
                return null;
            }

            CheckpointReader? checkpoint = files.OpenCheckpoint(out string? problem);
            CheckpointProblem = problem;
            return checkpoint;
        }
    }

    public event Action<LogCondition>? ConditionChanged
    {
        add { }
        remove { }
    }

    public ValueTask<RecordRef> AppendAsync(RecordType type, ulong messageId, ReadOnlyMemory<byte> payload, CancellationToken cancellation = default)
    {
        RecordRef record = new(_tail, payload.Length);
        _appended.Add(_tail, (type, messageId, payload.ToArray()));
        _tail += RecordHeader.Footprint(payload.Length);
        return new ValueTask<RecordRef>(record);
    }

    public ValueTask WaitDurableAsync(RecordRef record, bool inline = false) => default;

    public void CommitSoon()
    {
    }

    public ValueTask ReadAsync(RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, int share, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        if (record.Address < _memoryFrom)
        {
            files.Reader.Read(record, expectedType, expectedMessageId, destination.Span);
            return default;
        }

        (RecordType type, ulong id, byte[] payload) = Appended(record.Address);
        if (type != expectedType || id != expectedMessageId || payload.Length != record.Length)
        {
            throw new RecordUnreadableException($"another record is at address {record.Address}");
        }

        payload.CopyTo(destination);
        return default;
    }

    public ValueTask<StoredRecord> ReadAsync(long address, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        if (address < _memoryFrom)
        {
            return new ValueTask<StoredRecord>(files.Reader.Read(address));
        }

        (RecordType type, ulong id, byte[] payload) = Appended(address);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(Math.Max(1, payload.Length));
        payload.CopyTo(buffer, 0);
        return new ValueTask<StoredRecord>(new StoredRecord(type, id, new RecordRef(address, payload.Length), buffer));
    }

    /// <summary>Always fails: there is nothing to write to.</summary>
    public CheckpointWriter BeginCheckpoint(long address) =>
        throw new DiskException("open", Path.Combine(files.Directory.Folder, CheckpointFile.NewFileName), ReadOnlyFileSystem);

    public void Scan(long from, long to, RecordVisitor visitor, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(visitor);
        RecordVisitor both = visitor;
        if (witness is not null)
        {
            both = (scoped in ScannedRecord record) =>
            {
                witness(record);
                visitor(record);
            };
        }

        Scans.Add(new LogScanner(files.Store, files.Superblock).Scan(from, to, both, cancellation));
    }

    public bool IsUnfinished(long address) => (_unfinished ??= FindUnfinished()).Exists(r => r.Contains(address));

    /// <summary>Looks through all of the log: only a message in chunks asks.</summary>
    private List<AddressRange> FindUnfinished()
    {
        using CheckpointReader? checkpoint = files.OpenCheckpoint(out _);
        ScanResult scan = new LogScanner(files.Store, files.Superblock).Scan(BeginAddress, ReplayEnd, null, CancellationToken.None);
        long durable = Math.Max(Math.Max(scan.DurableMark, files.Extent.Durable), checkpoint?.Durable ?? 0);
        List<AddressRange> found = [.. scan.Unfinished, .. scan.Skipped];
        found.AddRange(CrashRemains.GapsIn(scan, durable));
        found.AddRange(CrashRemains.TakeFrom(scan, durable, files.Superblock.PageSize).Unfinished.Select(static f => new AddressRange(f.From, f.To)));
        return found;
    }

    public void Replay(RecordVisitor visitor, CancellationToken cancellation = default) => Scan(BeginAddress, ReplayEnd, visitor, cancellation);

    public void TruncateBefore(long address)
    {
    }

    public ValueTask DisposeAsync() => default;

    private (RecordType Type, ulong Id, byte[] Payload) Appended(long address) =>
        _appended.TryGetValue(address, out (RecordType, ulong, byte[]) found) ? found : throw new RecordUnreadableException($"no record at address {address}");
}
