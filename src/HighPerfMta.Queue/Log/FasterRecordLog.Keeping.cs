using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// The keeper: a thread of its own that tells changes of condition, starts a new run after a failure, and gives up what was truncated. Whatever
/// may block on the disk and is not a commit happens here.
/// </summary>
public sealed partial class FasterRecordLog
{
    private const int MaxLostRanges = 1024;

    /// <summary>How long old segments are kept when the log does not grow: mail by the minute finds them.</summary>
    private static readonly TimeSpan KeptFor = TimeSpan.FromMinutes(1);

    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(10);

    private readonly object _keeperGate = new();
    private readonly BackgroundLoop _keeper;
    private ITimer? _watchdog;
    private ITimer? _ticker;
    private TaskCompletionSource? _capacity;
    private LogCondition _told = LogCondition.Healthy;
    private long _begin;
    private long _truncateTo;
    private long _truncateBarrier;
    private long _nextStart;
    private long _slotWriteStarted;
    private long _previousTail;
    private LogEngine? _lastProven;
    private LogEngine? _left;
    private int _closed;
    private bool _failing;
    private bool _keeperWork;
    private bool _retryDue;
    private Slack? _slack;
    private long _tickedTail;
    private long _stillSince;
    private bool _keeperStopping;

    public event Action<LogCondition>? ConditionChanged;

    public LogCondition Condition =>
        IsClosed ? LogCondition.Closed : IsFailing ? LogCondition.Failing : _stock.LowSpace ? LogCondition.LowSpace : LogCondition.Healthy;

    // The run's own word too: those who wait for it hear of its failure before the log does.
    private bool IsFailing => Volatile.Read(ref _failing) || Volatile.Read(ref _engine) is { HasFailed: true };

    private bool IsClosed => Volatile.Read(ref _closed) != 0;

    public void TruncateBefore(long address)
    {
        long tail = TailAddress;
        lock (_keeperGate)
        {
            if (address <= _truncateTo)
            {
                return;
            }

            // What made the records needless (completions, copies) may not be durable yet: it is at most at the tail of now.
            _truncateTo = Math.Min(address, tail);
            _truncateBarrier = tail;
        }

        Wake();
    }

    private void Start()
    {
        if (!_options.Sync)
        {
            _logger.LogWarning("sync is off: mail is acknowledged before it is on stable storage and WILL BE LOST when the power fails");
        }

        _stock.Start();
        _nextStart = _files.NextStart;
        _previousTail = _files.Scan.Tail;
        FillHole();
        _engine = new LogEngine(_setup, _nextStart, _files.Durable);
        Volatile.Write(ref _failing, true);
        TimeSpan watch = TimeSpan.FromTicks(Math.Max(TimeSpan.TicksPerMillisecond, _options.WriteTimeout.Ticks / 4));
        _watchdog = _time.CreateTimer(static log => ((FasterRecordLog)log!).WatchOperation(), this, watch, watch);
        if (!Prove(_engine, _previousTail))
        {
            TellFailure(_engine);
        }

        _told = Condition;
        _slack = new Slack(_options.ReopenInterval);
        _ticker = _time.CreateTimer(static log => ((FasterRecordLog)log!).Tick(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        TickSoon();
        _keeper.Start();
        Wake();
    }

    // Shows that the new run can really write and flush, and leaves the record that explains the skipped addresses before it.
    private bool Prove(LogEngine engine, long previousTail)
    {
        // In this order: while names or replayed records are not durable nothing may be written that builds on them, let alone acknowledged.
        if (!TrySecure(engine) || !TryWriteSlot(engine, BeginAddress))
        {
            return false;
        }

        byte[] payload = ResumedPayload.Write(previousTail, _files.Unfinished);
        if (!engine.TryAppend(RecordHeader.Resumed, 0, payload, out long address))
        {
            OnEngineFailed(engine, new IOException("the first record of the run could not be appended"));
            return false;
        }

        try
        {
            _background.Await(() => WaitAsync(engine, address + RecordHeader.Footprint(payload.Length)));
        }
        catch (LogUnavailableException)
        {
            return false;
        }

        _lastProven = engine;
        Volatile.Write(ref _failing, false);
        if (engine.HasFailed)
        {
            // It failed in between, and its cry came before the line above.
            Volatile.Write(ref _failing, true);
            return false;
        }

        return true;
    }

    private async Task WaitAsync(LogEngine engine, long until)
    {
        if (!engine.TryWait(until, _waiters, inline: false, out ValueTask durable))
        {
            throw Unavailable(engine);
        }

        await durable;
    }

    private bool TrySecure(LogEngine engine)
    {
        try
        {
            _files.Secure();
            return true;
        }
        catch (DiskException e)
        {
            OnEngineFailed(engine, e);
            return false;
        }
    }

    private bool TryWriteSlot(LogEngine engine, long begin)
    {
        Volatile.Write(ref _slotWriteStarted, Math.Max(1, _time.GetTimestamp()));
        try
        {
            _files.Slots.Write(new CommitPoint(begin, engine.Durable));
            return true;
        }
        catch (DiskException e)
        {
            OnEngineFailed(engine, e);
            return false;
        }
        finally
        {
            Volatile.Write(ref _slotWriteStarted, 0);
        }
    }

    private void OnEngineFailed(LogEngine engine, Exception cause)
    {
        _ = engine.Fail(cause);
        if (ReferenceEquals(engine, Volatile.Read(ref _engine)))
        {
            if (!Volatile.Read(ref _failing))
            {
                TellFailure(engine);
            }

            Volatile.Write(ref _failing, true);
            TickSoon();
        }

        Wake();
    }

    private void TellFailure(LogEngine engine) =>
        _logger.LogError("The log cannot be written: {Cause}. Mail is refused; trying again every {Interval}", engine.Failure?.Message, _options.ReopenInterval);

    private void WatchOperation()
    {
        LogEngine engine = Engine;
        if (!engine.HasFailed && (IsOverdue(engine.OperationStarted) || IsOverdue(Volatile.Read(ref _slotWriteStarted))))
        {
            OnEngineFailed(engine, new TimeoutException($"a write to the log did not complete within {_options.WriteTimeout}"));
        }
    }

    private bool IsOverdue(long started) => started != 0 && _time.GetElapsedTime(started) >= _options.WriteTimeout;

    private void OnAdvanced(long durable)
    {
        if (HasToTruncate)
        {
            Wake();
        }
    }

    private void Tick()
    {
        lock (_keeperGate)
        {
            _retryDue = true;
        }

        _stock.Poke();
        bool hasWork = IsFailing || HasToTruncate;
        if (hasWork)
        {
            Wake();
        }

        lock (_keeperGate)
        {
            // A log that does not grow takes no room: the disk is asked now and then only, for what others take of it.
            long tail = TailAddress;
            bool isStill = tail == _tickedTail && !hasWork && !IsFailing && !_stock.LowSpace;
            _tickedTail = tail;
            TimeSpan next = _slack!.Next(isStill);
            if (!isStill)
            {
                _stillSince = _time.GetTimestamp();
            }
            else if (_time.GetElapsedTime(_stillSince) >= KeptFor)
            {
                _stock.Rest();
            }

            _ticker!.Change(next, Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>After a failure the next attempt is not as far away as a log at rest lets it be.</summary>
    private void TickSoon()
    {
        lock (_keeperGate)
        {
            _ticker?.Change(_options.ReopenInterval, Timeout.InfiniteTimeSpan);
        }
    }

    private bool HasToTruncate => Volatile.Read(ref _truncateTo) >> _store.Bits > Volatile.Read(ref _begin) >> _store.Bits;

    private void Wake()
    {
        TaskCompletionSource? capacity;
        lock (_keeperGate)
        {
            capacity = _capacity;
            _capacity = null;
            _keeperWork = true;
        }

        _keeper.Wake();
        capacity?.TrySetResult();
    }

    /// <summary>Completes when the stock or the condition has changed.</summary>
    private Task CapacityAsync()
    {
        lock (_keeperGate)
        {
            _capacity ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return _capacity.Task;
        }
    }

    private TimeSpan? Keep(bool rested)
    {
        bool retry;
        lock (_keeperGate)
        {
            if (_keeperStopping)
            {
                return null;
            }

            if (!_keeperWork)
            {
                return Timeout.InfiniteTimeSpan;
            }

            _keeperWork = false;
            retry = _retryDue;
            _retryDue = false;
        }

        TellCondition();
        if (_told == LogCondition.Failing && retry)
        {
            // Only after the failure was told: its receivers must know of it before what was lost looks durable.
            TryResume();
            TellCondition();
        }

        Truncate();
        return TimeSpan.Zero;
    }

    private void TellCondition()
    {
        LogCondition now = Condition;
        if (now == _told)
        {
            return;
        }

        _told = now;
        TickSoon();
        _logger.LogInformation("The log is now {Condition}", now);
        try
        {
            ConditionChanged?.Invoke(now);
        }
        catch (Exception e)
        {
            _logger.LogError(e, "A receiver of the log's condition failed");
        }
    }

    /// <summary>Starts a new run after the failed one, if the disk takes writes again and nothing of the old one can still reach it.</summary>
    private void TryResume()
    {
        LogEngine old = Engine;
        if (!old.HasExited)
        {
            // A write that may still reach the disk could bring back a record that was reported as lost.
            return;
        }

        long durable = old.Durable;
        try
        {
            // First, as it is cheap: where no name can be made durable, zeroing a segment at each attempt would be for nothing.
            _disk.SyncDirectory(_store.Directory);
            // A run that never proved itself handed out no address: its place can be taken again. What is below is not its own: the records there may be known to be durable by nobody but those who read them.
            bool isProven = ReferenceEquals(old, _lastProven);
            long next = isProven ? EndOf(old) : _nextStart;
            _store.Erase(isProven ? durable : _nextStart, _files.Superblock.BindsAddresses ? Math.Max(old.WrittenEnd, next) : old.WrittenEnd, _pageSize);
            if (isProven && !ReferenceEquals(old, _left))
            {
                _left = old;
                _nextStart = next;
                _previousTail = durable;
                AddLost(new LostRange(durable, _nextStart));
            }

            FillHole();
            // A run costs memory: none is begun that has no segment to write to.
            _stock.Ensure((int)(_nextStart >> _store.Bits));
        }
        catch (DiskException e)
        {
            _logger.LogDebug("The log still cannot be written: {Cause}", e.Message);
            return;
        }

        var engine = new LogEngine(_setup, _nextStart, durable);
        Volatile.Write(ref _engine, engine);
        if (Prove(engine, _previousTail))
        {
            _logger.LogWarning("The log is written again, from address {Address}", _nextStart);
        }
    }

    /// <summary>Where the run after a failed one starts. Once it is settled it stays: segments that are made meanwhile would move it back, into what was told to be lost.</summary>
    private long EndOf(LogEngine failed) =>
        ReferenceEquals(failed, _left) ? _nextStart : _files.StartFrom((Math.Max(failed.Tail, failed.WrittenEnd) + _pageSize - 1) & -(long)_pageSize);

    private void AddLost(LostRange range)
    {
        LostRange[] known = _lost;
        int keep = Math.Min(known.Length, MaxLostRanges - 1);
        // Before the engine changes: whoever sees the new engine sees the range too.
        _lost = [.. known.AsSpan(known.Length - keep), range];

        // What was to make the truncated records needless may be among the lost ones.
        lock (_keeperGate)
        {
            _truncateTo = _begin;
        }
    }

    // Segments that lie wholly in skipped addresses exist, empty, so that a missing file is always damage.
    private void FillHole()
    {
        int next = (int)(_nextStart >> _store.Bits);
        for (int segment = _store.Last + 1; segment < next; segment++)
        {
            _store.CreateHole(segment);
        }
    }

    private void Truncate()
    {
        long target, barrier;
        lock (_keeperGate)
        {
            target = _truncateTo;
            barrier = _truncateBarrier;
        }

        if (target >> _store.Bits > _store.Last)
        {
            // Records that end with their segment: the one that the tail is in is made for the next record. Until then the log begins in the last that there is.
            target = (long)_store.Last << _store.Bits;
        }

        LogEngine engine = Engine;
        if (target >> _store.Bits <= _begin >> _store.Bits || IsFailing)
        {
            return;
        }

        if (engine.Durable < barrier)
        {
            engine.CommitSoon();
            return;
        }

        // The new begin is on stable storage before the first file goes, in both slots: with one of them damaged the other still knows it.
        if (!TryWriteSlot(engine, target) || !TryWriteSlot(engine, target))
        {
            return;
        }

        Volatile.Write(ref _begin, target);
        try
        {
            int count = _stock.TakeBack((int)(target >> _store.Bits));
            _logger.LogDebug("{Count} log segments below {Address} were given up", count, target);
        }
        catch (DiskException e)
        {
            _logger.LogWarning("A needless log segment could not be deleted: {Cause}", e.Message);
        }

        _stock.Poke();
    }

    private void Close()
    {
        Volatile.Write(ref _failing, true);
        lock (_keeperGate)
        {
            _keeperStopping = true;
        }

        _keeper.Wake();
        TimeSpan limit = _options.WriteTimeout < CloseLimit ? _options.WriteTimeout : CloseLimit;
        bool ended = _keeper.Join(limit);
        LogEngine engine = Engine;
        engine.Stop();
        ended &= engine.Join(limit);
        bool clean = ended && !engine.HasFailed;
        engine.Fail(new ObjectDisposedException(nameof(FasterRecordLog), "the log is closed"));
        if (clean)
        {
            _ = TryWriteSlot(engine, BeginAddress);
        }

        _watchdog?.Dispose();
        _ticker?.Dispose();
        ended &= _stock.Stop(limit);
        TellCondition();
        Wake();
        _diskReaders.Close(limit);
        if (ended)
        {
            _files.Dispose();
            return;
        }

        // A write is stuck in the disk. Until it has come back nobody else may open the log: the lock is given up only then.
        _logger.LogError("The log was closed while the disk was not answering; its lock is kept until it does");
        new Thread(() =>
        {
            _ = engine.Join(Timeout.InfiniteTimeSpan);
            _ = _keeper.Join(Timeout.InfiniteTimeSpan);
            _ = _stock.Stop(Timeout.InfiniteTimeSpan);
            _files.Dispose();
        })
        { IsBackground = true, Name = "hpmta-log-release" }.Start();
    }
}
