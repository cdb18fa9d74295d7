using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.TestKit;

/// <summary>
/// A record log in memory. Commits at once unless <see cref="HoldCommits"/>; fails, recovers and crashes where a test says so, with the
/// consequences that <see cref="IRecordLog"/> promises.
/// </summary>
public sealed class MemoryRecordLog : IRecordLog
{
    private const int Header = 32;
    private const string Folder = "/log";
    private const ulong Salt = 42;
    private readonly SortedDictionary<long, Record> _records = [];
    private readonly List<(long Address, TaskCompletionSource Done)> _waiters = [];
    private readonly HashSet<long> _lost = [];
    private readonly HashSet<long> _unreadable = [];
    private readonly Lock _gate = new();
    private FaultyDisk _disk = new();
    private int _checkpointing;
    private long _tail = 64;
    private long _truncateTo = 64;

    public MemoryRecordLog() => _disk.CreateDirectory(Folder);

    public bool HoldCommits { get; set; }

    /// <summary>Appends of these types throw as a log does that has no space left even for them.</summary>
    public Func<RecordType, bool>? RefuseAppend { get; set; }

    public int MaxPayload { get; init; } = 1 << 20;

    public long BeginAddress { get; private set; } = 64;

    public long TailAddress
    {
        get
        {
            lock (_gate)
            {
                return _tail;
            }
        }
    }

    public long DurableAddress { get; private set; } = 64;

    public LogCondition Condition { get; private set; }

    public TimeSpan CommitTime { get; set; }

    public Action<TimeSpan>? Flushed { get; set; }

    public long FreeBytes { get; set; } = long.MaxValue;

    public event Action<LogCondition>? ConditionChanged;

    public IReadOnlyList<DamagedRange> Damage { get; set; } = [];

    /// <summary>Where checkpoints are written.</summary>
    public FaultyDisk CheckpointDisk => _disk;

    public long ReplayEnd => DurableAddress;

    public bool IsUnfinished(long address) => false;

    public CheckpointReader? Checkpoint => CheckpointReader.Open(_disk, Folder, Salt, out _) is { } found && found.Address >= BeginAddress ? found : null;

    public CheckpointWriter BeginCheckpoint(long address)
    {
        if (Interlocked.Exchange(ref _checkpointing, 1) != 0)
        {
            throw new InvalidOperationException("A checkpoint is being written already.");
        }

        return new CheckpointWriter(_disk, Folder, Salt, address, () => _checkpointing = 0);
    }

    public void Scan(long from, long to, RecordVisitor visitor, CancellationToken cancellation = default)
    {
        KeyValuePair<long, Record>[] records;
        lock (_gate)
        {
            records = [.. _records.Where(r => r.Key >= from && r.Key < to)];
        }

        foreach ((long address, Record record) in records)
        {
            visitor(new ScannedRecord(new RecordRef(address, record.Payload.Length), record.Type, record.MessageId, record.Payload));
        }
    }

    public ValueTask<StoredRecord> ReadAsync(long address, CancellationToken cancellation = default)
    {
        lock (_gate)
        {
            if (address >= DurableAddress || _unreadable.Contains(address) || !_records.TryGetValue(address, out Record? found))
            {
                throw new RecordUnreadableException($"no such record at {address}");
            }

            byte[] buffer = System.Buffers.ArrayPool<byte>.Shared.Rent(found.Payload.Length);
            found.Payload.CopyTo(buffer, 0);
            return new ValueTask<StoredRecord>(new StoredRecord(found.Type, found.MessageId, new RecordRef(address, found.Payload.Length), buffer));
        }
    }

    public int CommitsAskedFor { get; private set; }

    public bool Disposed { get; private set; }

    /// <summary>Types of the records that are there, in log order.</summary>
    public IReadOnlyList<RecordType> Types
    {
        get
        {
            lock (_gate)
            {
                return [.. _records.Values.Select(static r => r.Type)];
            }
        }
    }

    public ValueTask<RecordRef> AppendAsync(RecordType type, ulong messageId, ReadOnlyMemory<byte> payload, CancellationToken cancellation = default)
    {
        lock (_gate)
        {
            if (Condition is LogCondition.Failing or LogCondition.Closed || RefuseAppend?.Invoke(type) == true)
            {
                throw new LogUnavailableException("told to refuse", Condition);
            }

            ArgumentOutOfRangeException.ThrowIfZero(payload.Length);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(payload.Length, MaxPayload);
            RecordRef reference = new(_tail, payload.Length);
            _records[_tail] = new Record(type, messageId, payload.ToArray());
            _tail += (Header + payload.Length + 3) & ~3;
            return new ValueTask<RecordRef>(reference);
        }
    }

    public ValueTask WaitDurableAsync(RecordRef record, bool inline = false)
    {
        Task wait;
        lock (_gate)
        {
            // One that was durable and then truncated was durable all the same.
            bool lost = record.Length != 0 && _lost.Contains(record.Address);
            if (record.Address < DurableAddress && !lost)
            {
                return default;
            }

            if (Condition is LogCondition.Failing or LogCondition.Closed || lost)
            {
                throw new LogUnavailableException("the record is gone", LogCondition.Failing);
            }

            TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiters.Add((record.Address, done));
            wait = done.Task;
        }

        CommitSoon();
        return new ValueTask(wait);
    }

    public void CommitSoon()
    {
        CommitsAskedFor++;
        if (!HoldCommits)
        {
            Commit();
        }
    }

    /// <summary>Makes everything that was appended durable.</summary>
    public void Commit()
    {
        lock (_gate)
        {
            if (Condition is LogCondition.Failing or LogCondition.Closed)
            {
                return;
            }

            DurableAddress = _tail;
            BeginAddress = _truncateTo;
            foreach (long address in _records.Keys.TakeWhile(a => a < BeginAddress).ToArray())
            {
                _records.Remove(address);
            }

            _waiters.ForEach(static w => w.Done.SetResult());
            _waiters.Clear();
        }
    }

    /// <summary>A write fails: what is not durable is gone.</summary>
    public void Fail()
    {
        (long, TaskCompletionSource Done)[] waiters;
        lock (_gate)
        {
            Condition = LogCondition.Failing;
            foreach (long address in _records.Keys.Where(a => a >= DurableAddress).ToArray())
            {
                _records.Remove(address);
                _lost.Add(address);
            }

            waiters = [.. _waiters];
            _waiters.Clear();
        }

        ConditionChanged?.Invoke(LogCondition.Failing);
        foreach ((_, TaskCompletionSource done) in waiters)
        {
            done.SetException(new LogUnavailableException("told to fail", LogCondition.Failing));
        }
    }

    /// <summary>The log is well again. What it lost stays lost; its addresses are not used again.</summary>
    public void Recover()
    {
        lock (_gate)
        {
            _tail = (_tail + 4096) & ~4095L;
            DurableAddress = _tail;
            Condition = LogCondition.Healthy;
        }

        ConditionChanged?.Invoke(LogCondition.Healthy);
    }

    public void SetLowSpace(bool low)
    {
        Condition = low ? LogCondition.LowSpace : LogCondition.Healthy;
        ConditionChanged?.Invoke(Condition);
    }

    public void MakeUnreadable(RecordRef record) => _unreadable.Add(record.Address);

    /// <summary>What a new process finds: the durable records.</summary>
    public MemoryRecordLog Crash()
    {
        lock (_gate)
        {
            MemoryRecordLog after = new() { MaxPayload = MaxPayload, BeginAddress = BeginAddress, _truncateTo = BeginAddress, _disk = _disk };
            foreach ((long address, Record record) in _records.Where(r => r.Key < DurableAddress))
            {
                after._records[address] = record;
            }

            after._tail = (_tail + 4096) & ~4095L;
            after.DurableAddress = after._tail;
            return after;
        }
    }

    /// <summary>Puts a record into the log as another program might have written it.</summary>
    public async Task<RecordRef> PlantAsync(RecordType type, ulong messageId, byte[] payload)
    {
        RecordRef planted = await AppendAsync(type, messageId, payload);
        Commit();
        return planted;
    }

    public ValueTask ReadAsync(
        RecordRef record, RecordType expectedType, ulong expectedMessageId, Memory<byte> destination, int share, CancellationToken cancellation = default)
    {
        lock (_gate)
        {
            bool good = record.Address < DurableAddress && !_unreadable.Contains(record.Address) && _records.TryGetValue(record.Address, out Record? found)
                && found.Type == expectedType && found.MessageId == expectedMessageId && found.Payload.Length == record.Length;
            if (!good)
            {
                throw new RecordUnreadableException($"no such record at {record.Address}");
            }

            _records[record.Address].Payload.CopyTo(destination);
            return default;
        }
    }

    public void Replay(RecordVisitor visitor, CancellationToken cancellation = default) => Scan(BeginAddress, TailAddress, visitor, cancellation);

    public void TruncateBefore(long address)
    {
        lock (_gate)
        {
            _truncateTo = Math.Max(_truncateTo, address);
        }
    }

    public ValueTask DisposeAsync()
    {
        Disposed = true;
        Condition = LogCondition.Closed;
        return default;
    }

    private sealed record Record(RecordType Type, ulong MessageId, byte[] Payload);
}
