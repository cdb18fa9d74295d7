using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// The record log on FasterLog. FASTER gives the append engine (lock-free enqueue, pages, flush order); every byte on disk, every check of
/// it, and every promise about it is made here and in <see cref="Storage"/>.
/// </summary>
public sealed partial class FasterRecordLog : IRecordLog
{
    private const long MaxBuffer = 16L << 20;

    private readonly QueueOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly IDisk _disk;
    private readonly Background _background;
    private readonly LogFiles _files;
    private readonly WaiterPool _waiters = new();
    private readonly EngineSetup _setup;
    private readonly SegmentStore _store;
    private readonly SegmentReader _reader;
    private readonly DiskReaders _diskReaders;
    private readonly SegmentStock _stock;
    private readonly int _pageSize;
    private readonly long _replayEnd;
    private LogEngine _engine;
    private volatile LostRange[] _lost = [];
    private bool _appended;

    private FasterRecordLog(QueueOptions options, TimeProvider time, ILogger logger, IDisk disk, LogFiles files, Background background)
    {
        _options = options;
        _time = time;
        _logger = logger;
        _disk = disk;
        _background = background;
        _files = files;
        _store = files.Store;
        _pageSize = files.Superblock.PageSize;
        _reader = new SegmentReader(_store, files.Superblock);
        _diskReaders = new DiskReaders(_reader.Read, () => DurableAddress, time, logger, background);
        _replayEnd = files.Scan.Tail;
        Damage = files.Scan.Damage.ConvertAll(static f => f.Range);
        _begin = files.Begin;
        _truncateTo = files.Begin;
        // A record may go to the next page, and one page beyond it is asked for (CapacityFor): where a page is a whole segment, that is one segment more.
        int ready = Math.Max(2, options.ReadySegments) + (int)(_pageSize / _store.SegmentSize);
        _stock = new SegmentStock(disk, _store, ready, options.DiskLowWater, Wake, logger, AppendedEnd, time, background, keepsOld: files.Superblock.BindsAddresses);
        _setup = new EngineSetup(
            _store, _stock, files.Slots, _pageSize, MemoryFor(options.Memory, _pageSize), new RecordSeeds(files.Superblock), options.Sync, time, background)
        {
            Failed = OnEngineFailed,
            Advanced = OnAdvanced,
            Flushed = took => Flushed?.Invoke(took),
        };
        _engine = null!;
        _keeper = background.NewLoop("hpmta-log-keeper", Keep);
    }

    public int MaxPayload => SegmentReader.MaxPayloadOf(_pageSize);

    public long BeginAddress => Volatile.Read(ref _begin);

    public long TailAddress => IsFailing ? DurableAddress : Engine.Tail;

    public long DurableAddress => Engine.Durable;

    public TimeSpan CommitTime => Engine.CommitTime;

    public Action<TimeSpan>? Flushed { get; set; }

    public long FreeBytes => _stock.FreeBytes;

    public IReadOnlyList<DamagedRange> Damage { get; }

    private LogEngine Engine => Volatile.Read(ref _engine);

    /// <summary>
    /// Opens the log in <c>log</c> below the data directory, or makes one if there is none, and verifies every record in it. A disk that takes no
    /// writes does not stop an existing log from opening: its condition is then Failing, and reads work.
    /// </summary>
    /// <param name="options">Where and how.</param>
    /// <param name="time">The clock of time-outs and retries.</param>
    /// <param name="logger">Where trouble is told; may be null.</param>
    /// <param name="disk">The disk; the operating system's if null.</param>
    /// <param name="background">Where its loops run; threads of their own if null.</param>
    /// <exception cref="LogOpenException">Somebody else has it open, it is of another format, or its files do not fit together.</exception>
    public static FasterRecordLog Open(QueueOptions options, TimeProvider time, ILogger? logger = null, IDisk? disk = null, Background? background = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(time);
        logger ??= Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;
        disk ??= new OsDisk();
        background ??= Background.Threads;
        LogFiles files = LogFiles.Open(options, disk, logger, background);
        var log = new FasterRecordLog(options, time, logger, disk, files, background);
        try
        {
            log.Start();
            return log;
        }
        catch (DiskException e)
        {
            log._stock.Dispose();
            files.Dispose();
            throw new LogOpenException(
                $"The log in {options.DataDirectory} cannot be opened: {e.Message}", "Check the disk, its free space and the directory's permissions.", e);
        }
    }

    public ValueTask<RecordRef> AppendAsync(RecordType type, ulong messageId, ReadOnlyMemory<byte> payload, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(payload.Length, MaxPayload, nameof(payload));
        if (type == 0 || type == RecordHeader.Resumed)
        {
            throw new ArgumentOutOfRangeException(nameof(type));
        }

        LogEngine engine = Engine;
        if (!IsFailing && HasRoom(engine, type, payload.Length) && engine.TryAppend(type, messageId, payload.Span, out long address))
        {
            MarkAppended();
            // A run that failed meanwhile has dropped the record.
            return engine.HasFailed
                ? ValueTask.FromException<RecordRef>(Unavailable(engine))
                : new ValueTask<RecordRef>(new RecordRef(address, payload.Length));
        }

        return AppendSlowAsync(type, messageId, payload, cancellation);
    }

    public ValueTask WaitDurableAsync(RecordRef record, bool inline = false)
    {
        // The engine first: a later one implies that its lost ranges are seen below.
        LogEngine engine = Engine;
        long until = record.Address + RecordHeader.Footprint(record.Length);
        foreach (LostRange range in _lost)
        {
            if (until > range.From && record.Address < range.To)
            {
                return ValueTask.FromException(new LogUnavailableException("the record was lost when the disk failed", LogCondition.Failing));
            }
        }

        if (!_options.Sync && !engine.HasFailed)
        {
            engine.CommitSoon();
            return default;
        }

        return engine.TryWait(until, _waiters, inline, out ValueTask task) ? task : ValueTask.FromException(Unavailable(engine));
    }

    public void CommitSoon() => Engine.CommitSoon();

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _closed, 1) == 0)
        {
            // Closing writes and waits for the disk: never on the caller's thread.
            await _background.Run(() =>
            {
                Close();
                return Task.CompletedTask;
            });
        }
    }

    private async ValueTask<RecordRef> AppendSlowAsync(
        RecordType type, ulong messageId, ReadOnlyMemory<byte> payload, CancellationToken cancellation)
    {
        long started = _time.GetTimestamp();
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            LogEngine engine = Engine;
            Task room = engine.RoomAsync();
            Task capacity = CapacityAsync();
            ThrowIfRefused(engine, type);
            bool fits = HasRoom(engine, type, payload.Length);
            if (fits && engine.TryAppend(type, messageId, payload.Span, out long address))
            {
                MarkAppended();
                return engine.HasFailed ? throw Unavailable(engine) : new RecordRef(address, payload.Length);
            }

            TimeSpan left = _options.WriteTimeout - _time.GetElapsedTime(started);
            if (left <= TimeSpan.Zero)
            {
                throw fits
                    ? new LogUnavailableException("log memory stayed full: the disk is too slow", LogCondition.Failing)
                    : new LogUnavailableException("no log segment became ready in time", LogCondition.LowSpace);
            }

            // Room comes from writing, and nobody else may be asking for it.
            engine.CommitSoon();
            if (!fits)
            {
                _stock.Want(CapacityFor(engine, type, payload.Length));
            }

            try
            {
                await (fits ? room : capacity).WithinAsync(left, _time, cancellation);
            }
            catch (TimeoutException)
            {
            }
        }
    }

    private void ThrowIfRefused(LogEngine engine, RecordType type)
    {
        if (IsFailing || engine.HasFailed)
        {
            throw Unavailable(engine);
        }

        if (_stock.LowSpace && !MayUseReserve(type))
        {
            throw new LogUnavailableException("free disk space is below the low water mark", LogCondition.LowSpace);
        }
    }

    /// <summary>
    /// Whether segments are ready for the record wherever it lands. The last ready segment is for the records that end or defer messages:
    /// they are what frees space.
    /// </summary>
    private bool HasRoom(LogEngine engine, RecordType type, int length) =>
        (MayUseReserve(type) || !_stock.LowSpace) && CapacityFor(engine, type, length) <= _stock.CapacityEnd;

    private long CapacityFor(LogEngine engine, RecordType type, int length) =>
        engine.Tail + RecordHeader.Footprint(length) + _pageSize + (MayUseReserve(type) ? 0 : _store.SegmentSize);

    /// <summary>For the stock, which begins before the first run of the log.</summary>
    private long AppendedEnd()
    {
        LogEngine? engine = Volatile.Read(ref _engine);
        return engine is null ? 0 : engine.Tail;
    }

    private static bool MayUseReserve(RecordType type) => type is not (RecordType.BodyChunk or RecordType.Accepted);

    // Written once: appenders on other processors keep their copy of the cache line.
    private void MarkAppended()
    {
        if (!_appended)
        {
            _appended = true;
        }
    }

    private LogUnavailableException Unavailable(LogEngine engine) => IsClosed
        ? new LogUnavailableException("the log is closed", LogCondition.Closed)
        : new LogUnavailableException("the log takes no records: " + (engine.Failure?.Message ?? "the disk failed"), LogCondition.Failing, engine.Failure);

    /// <summary>
    /// Pages are a write buffer only: whoever fills them waits for the disk anyway, and reads take other ways. More of them would be filled once, by
    /// any traffic, and never make the log faster.
    /// </summary>
    private static long MemoryFor(long configured, int pageSize)
    {
        long memory = 4L * pageSize;
        while (memory * 2 <= Math.Min(configured, MaxBuffer))
        {
            memory *= 2;
        }

        return memory;
    }

    /// <summary>Addresses that were handed out, or skipped, by a run that failed; nothing there will ever be durable.</summary>
    private readonly record struct LostRange(long From, long To);
}
