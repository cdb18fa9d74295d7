using System.Buffers.Binary;
using System.Reflection;
using FASTER.core;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>What one run of the log needs from its owner.</summary>
internal sealed record EngineSetup(SegmentStore Store, SegmentStock Stock, CommitSlots Slots, int PageSize, long Memory, RecordSeeds Seeds, bool Sync, TimeProvider Time, Background Background)
{
    /// <summary>Something failed on the engine's thread; called there.</summary>
    public required Action<LogEngine, Exception> Failed { get; init; }

    /// <summary>The durable address moved; called on the engine's thread; must not block.</summary>
    public required Action<long> Advanced { get; init; }

    /// <summary>A flush took so long; called on the engine's thread; must not block.</summary>
    public required Action<TimeSpan> Flushed { get; init; }
}

/// <summary>
/// One run of FasterLog over the segments and the one thread that commits, writes and flushes for it. A run that failed is never used again: it is
/// left to the garbage collector (all its memory is managed) and another is started at a later address. FASTER is never disposed: an append
/// that is under way would write into pages that are gone.
/// </summary>
#pragma warning disable CA1001 // See above: FasterLog holds managed memory only.
internal sealed partial class LogEngine
#pragma warning restore CA1001
{
    private static readonly TimeSpan SoonDelay = TimeSpan.FromMilliseconds(3);
    private static readonly TimeSpan KickDelay = TimeSpan.FromMilliseconds(1);

    // With sync off this bounds what a power failure takes.
    private static readonly TimeSpan UnsyncedFlushInterval = TimeSpan.FromSeconds(1);

    private readonly EngineSetup _setup;
    private readonly FasterLog _log;
    private readonly LightEpoch _epoch;
    private readonly Func<long, bool, bool> _flushUntil;
    private readonly BackgroundLoop _loop;
    private readonly Func<int, long> _allocate;
    private readonly Func<long, long> _placeOf;
    private readonly object _gate = new();
    private readonly HashSet<int> _touched = [];
    private List<PageWrite> _queue = [];
    private List<PageWrite> _batch = [];
    private Exception? _failure;
    private long _durable;
    private long _wanted;
    private long _issued;
    private long _writtenEnd;
    private long _gapless;
    private long _tail;
    private readonly List<(long From, long To)> _ahead = [];
    private readonly CommitPace _pace = new();
    private long _operationStarted;
    private long _lastFlush;
    private long _lastCommit;
    private long _commitTime;
    private bool _soon;
    private bool _stopping;
    private bool _isKept;

    /// <param name="setup">Storage and call-backs.</param>
    /// <param name="start">First address of this run: a page start, or the first address of all.</param>
    /// <param name="durable">Address below which everything is durable already.</param>
    public LogEngine(EngineSetup setup, long start, long durable)
    {
        _setup = setup;
        _durable = durable;
        _issued = start;
        _wanted = start;
        _writtenEnd = start;
        _gapless = start;
        _tail = start;
        Start = start;
        _log = new FasterLog(new FasterLogSettings
        {
            LogDevice = new SegmentDevice(setup.Store.Directory, Enqueue),
            LogCommitManager = setup.Slots,
            PageSize = setup.PageSize,
            MemorySize = setup.Memory,
            SegmentSize = setup.Store.SegmentSize,
            LogChecksum = LogChecksumType.None,
            MutableFraction = 0,
            FastCommitMode = false,
            TryRecoverLatest = false,
            AutoCommit = false,
            TolerateDeviceFailure = false,
        });
        if (start != LogScanner.FirstAddress)
        {
            _log.Initialize(start, start);
        }

        _epoch = (LightEpoch)FieldOf(_log, "epoch");
        object allocator = FieldOf(_log, "allocator");
        _flushUntil = MethodOf<Func<long, bool, bool>>(allocator, "ShiftReadOnlyAddress");
        _allocate = MethodOf<Func<int, long>>(allocator, "TryAllocateRetryNow");
        _placeOf = MethodOf<Func<long, long>>(allocator, "GetPhysicalAddress");
        _loop = setup.Background.NewLoop("hpmta-log-commit", Turn);
        _loop.Start();
    }

    public long Start { get; }

    /// <summary>Everything below it is on stable storage. Stands still for ever once the run failed.</summary>
    public long Durable => Volatile.Read(ref _durable);

    /// <summary>
    /// End of the highest record that was appended. FASTER's own TailAddress must never be used: it is read in two halves (page, then offset), and between them
    /// the page may turn; flushing up to such an address marks records as written that come later.
    /// </summary>
    public long Tail => Volatile.Read(ref _tail);

    public bool HasFailed => Volatile.Read(ref _failure) is not null;

    public Exception? Failure => Volatile.Read(ref _failure);

    /// <summary>End of the highest write that was begun, whatever became of it.</summary>
    public long WrittenEnd => Volatile.Read(ref _writtenEnd);

    /// <summary>True when the thread has ended: no write of this run can still reach the disk.</summary>
    public bool HasExited => _loop.IsAtRest;

    /// <summary>When the disk operation under way began, by <see cref="TimeProvider.GetTimestamp"/>; 0 if none is.</summary>
    public long OperationStarted => Volatile.Read(ref _operationStarted);

    /// <summary>How long writing and flushing takes now: the mean of the last ones, or the one under way if that has taken longer.</summary>
    public TimeSpan CommitTime
    {
        get
        {
            long started = OperationStarted;
            TimeSpan mean = TimeSpan.FromTicks(Volatile.Read(ref _commitTime));
            TimeSpan underWay = started == 0 || HasFailed ? TimeSpan.Zero : _setup.Time.GetElapsedTime(started);
            return underWay > mean ? underWay : mean;
        }
    }

    /// <summary>Puts a record into log memory; false if memory is full until more has been written.</summary>
    public bool TryAppend(RecordType type, ulong messageId, ReadOnlySpan<byte> payload, out long address)
    {
        var header = new RecordHeader(type, messageId, Durable, payload.Length, Crc32C.Compute(_setup.Seeds.Payload, payload));
        try
        {
            if (!TryWrite(header, payload, out address))
            {
                return false;
            }
        }
        catch (Exception e)
        {
            // An exception inside FASTER leaves its epoch held: nothing could be committed any more.
            Fail(e);
            _setup.Failed(this, e);
            address = 0;
            return false;
        }

        RaiseTail(address + RecordHeader.Footprint(payload.Length));
        return true;
    }

    /// <summary>
    /// FASTER's own enqueue, but for the order: here the address is known before the header is written, as its sum takes the address in. What is between Resume and Suspend is not flushed.
    /// </summary>
    private unsafe bool TryWrite(in RecordHeader header, ReadOnlySpan<byte> payload, out long address)
    {
        int length = RecordHeader.Size + payload.Length;
        // Not suspended when something is thrown in between: nothing behind a record that is not whole may be written then.
        _epoch.Resume();
        address = _allocate(RecordHeader.Footprint(payload.Length));
        if (address != 0)
        {
            Span<byte> place = new((void*)_placeOf(address), RecordHeader.EntryHeaderSize + length);
            header.Write(place[RecordHeader.EntryHeaderSize..], _setup.Seeds.Header(address));
            payload.CopyTo(place[RecordHeader.Overhead..]);
            BinaryPrimitives.WriteInt32LittleEndian(place, length);
        }

        _epoch.Suspend();
        return address != 0;
    }

    private void RaiseTail(long end)
    {
        long tail = Volatile.Read(ref _tail);
        while (tail < end)
        {
            long seen = Interlocked.CompareExchange(ref _tail, end, tail);
            if (seen == tail)
            {
                return;
            }

            tail = seen;
        }
    }

    /// <summary>Commits what is there and ends the thread.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            _stopping = true;
        }

        _loop.Wake();
    }

    public bool Join(TimeSpan limit) => _loop.Join(limit);

    private void Enqueue(PageWrite write)
    {
        lock (_gate)
        {
            _queue.Add(write);
        }

        _loop.Wake();
    }

    private TimeSpan? Turn(bool rested)
    {
        _setup.Background.TakePlace(ref _isKept);
        try
        {
            if (!TakeWork(rested, out bool commit, out bool stopping))
            {
                return Rest();
            }

            if (commit)
            {
                LetGather();
                Commit();
            }
            else
            {
                Kick();
            }

            WriteQueued();
            long tail = Tail;
            if (stopping && Durable >= tail)
            {
                FlushTouched();
                EraseBehind(tail);
                return null;
            }
        }
        catch (Exception e)
        {
            if (Fail(e))
            {
                _setup.Failed(this, e);
            }
        }

        return Rest();
    }

    /// <summary>What a segment that is used again as it is holds behind the last record of a page goes: the next run begins with another page.</summary>
    private void EraseBehind(long tail)
    {
        long end = (tail + _setup.PageSize - 1) & -(long)_setup.PageSize;
        if (tail < end && _setup.Seeds.BindAddresses && _setup.Store.MayHoldOld((int)(tail >> _setup.Store.Bits)))
        {
            _setup.Store.Erase(tail, end, _setup.PageSize);
        }
    }

    /// <summary>
    /// Where records come fast, a short pause lets some share this commit. Otherwise nobody is waited for, and flushes are shared all the same: who is ready to run on a busy processor brings records for it.
    /// </summary>
    private void LetGather()
    {
        if (_pace.ShouldGather)
        {
            _setup.Background.Pause(CommitPace.Gathering);
        }
        else
        {
            _setup.Background.GiveWay();
        }
    }

    private bool TakeWork(bool rested, out bool commit, out bool stopping)
    {
        lock (_gate)
        {
            stopping = _stopping;
            commit = _stopping || (_soon && (rested || _queue.Count > 0)) || _wanted > _issued;
            if (_failure is not null || (!commit && !rested && _queue.Count == 0))
            {
                return false;
            }

            _soon &= !commit;
            return true;
        }
    }

    /// <summary>How long nothing has to be done if nobody asks; null when the run has failed.</summary>
    private TimeSpan? Rest()
    {
        lock (_gate)
        {
            bool overdue = _issued > Math.Max(_durable, Start);
            return _failure is not null ? null
                : _stopping || _queue.Count > 0 || _wanted > _issued ? TimeSpan.Zero
                : overdue ? KickDelay
                : _soon ? SoonDelay
                : _touched.Count > 0 ? UnsyncedFlushInterval : Timeout.InfiniteTimeSpan;
        }
    }

    // Does what may have been left undone of a flush that was asked for. FASTER leaves it to the last thread that leaves its epoch, and that one can overlook it (it looks for
    // work before its own leaving is seen); the next visitor would find it, but when everybody waits for this very flush nobody comes.
    private void Kick()
    {
        _epoch.Resume();
        _epoch.Suspend();
    }

    private void Commit()
    {
        long tail;
        lock (_gate)
        {
            // Under the lock: everyone who waits already has his record below it.
            tail = Tail;
            _issued = Math.Max(_issued, tail);
        }

        if (tail <= _log.FlushedUntilAddress)
        {
            return;
        }

        // The writes come to Enqueue, on this thread or on the one that leaves the epoch last.
        _epoch.Resume();
        try
        {
            _flushUntil(tail, false);
        }
        finally
        {
            _epoch.Suspend();
        }
    }

    /// <summary>
    /// What FASTER does not offer. The flush that its Commit begins with, and nothing else of it: Commit would go on to make metadata that nobody keeps, on other threads and
    /// with exceptions swallowed, at twice the processor time and 2 KiB a commit. And the two halves of an enqueue.
    /// </summary>
    private static T MethodOf<T>(object allocator, string name)
        where T : Delegate =>
        allocator.GetType().GetMethod(name)?.CreateDelegate<T>(allocator) ?? throw new MissingMethodException(allocator.GetType().Name, name);

    private static object FieldOf(FasterLog log, string name) =>
        typeof(FasterLog).GetField(name, BindingFlags.Instance | BindingFlags.NonPublic)?.GetValue(log)
        ?? throw new MissingFieldException(nameof(FasterLog), name);

    private void WriteQueued()
    {
        lock (_gate)
        {
            if (_queue.Count == 0 && _touched.Count == 0)
            {
                return;
            }

            (_queue, _batch) = (_batch, _queue);
        }

        long started = Math.Max(1, _setup.Time.GetTimestamp());
        Volatile.Write(ref _operationStarted, started);
        WriteBatch();
        Volatile.Write(ref _operationStarted, 0);
        _commitTime += (_setup.Time.GetElapsedTime(started).Ticks - _commitTime) / 8;
        if (HasFailed)
        {
            // Timed out meanwhile: everyone was told that it failed.
            _batch.Clear();
            return;
        }

        foreach (PageWrite write in _batch)
        {
            write.Callback(0, (uint)write.Length, write.Context);
        }

        _batch.Clear();
        CloseGaps();
        long flushed = _log.FlushedUntilAddress;
        if (flushed > _gapless)
        {
            // Never acknowledge what this thread has not written itself.
            throw new InvalidOperationException($"FASTER counts {flushed} as flushed, only {_gapless} is written without a gap");
        }

        Publish(flushed);
    }

    // Pages are written out of order when one fills while a write to the page before it is under way.
    private void CloseGaps()
    {
        for (int i = 0; i < _ahead.Count;)
        {
            if (_ahead[i].From <= _gapless)
            {
                _gapless = Math.Max(_gapless, _ahead[i].To);
                _ahead.RemoveAt(i);
                i = 0;
            }
            else
            {
                i++;
            }
        }
    }

    private unsafe void WriteBatch()
    {
        SegmentStore store = _setup.Store;
        foreach (PageWrite write in _batch)
        {
            int segment = (int)(write.Address >> store.Bits);
            if (!store.Contains(segment))
            {
                _setup.Stock.Provide(segment);
            }

            Volatile.Write(ref _writtenEnd, Math.Max(_writtenEnd, write.Address + write.Length));
            if (write.Address <= _gapless)
            {
                _gapless = Math.Max(_gapless, write.Address + write.Length);
            }
            else
            {
                _ahead.Add((write.Address, write.Address + write.Length));
            }
            store.Open(segment).Write(write.Address & (store.SegmentSize - 1), new ReadOnlySpan<byte>((void*)write.Source, write.Length));
            _touched.Add(segment);
        }

        _setup.Stock.Reached(_writtenEnd);
        if (_setup.Sync || _setup.Time.GetElapsedTime(_lastFlush) >= UnsyncedFlushInterval)
        {
            FlushTouched();
        }
    }

    private void FlushTouched()
    {
        foreach (int segment in _touched)
        {
            // With sync off it may have been truncated since.
            if (_setup.Store.Contains(segment))
            {
                long started = _setup.Time.GetTimestamp();
                _setup.Store.Open(segment).Flush();
                _setup.Flushed(_setup.Time.GetElapsedTime(started));
            }
        }

        _touched.Clear();
        _lastFlush = _setup.Time.GetTimestamp();
    }
}
