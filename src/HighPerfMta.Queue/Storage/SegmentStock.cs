using System.Globalization;
using HighPerfMta.Queue.Async;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Storage;

/// <summary>
/// Makes zero-filled, synced segment files ahead of need, on a loop of its own, and hands them out by renaming. Old segments are never used again:
/// stale bytes after a tail could be taken for records. Real zeros, not fallocate: then a commit changes no file-system metadata and costs one flush.
/// </summary>
internal sealed class SegmentStock : IDisposable
{
    public const string SparePrefix = "spare.";
    public const string FillingPrefix = "filling.";
    private const int FillBlock = 256 << 10;

    // Filling takes a fifth of the disk at most as long as it is not needed sooner: commits have the rest.
    private const int Rests = 4;
    private static readonly TimeSpan ShortestRest = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan LongestRest = TimeSpan.FromMilliseconds(50);

    private static readonly byte[] Zeros = new byte[64 << 10];

    private readonly IDisk _disk;
    private readonly SegmentStore _store;
    private readonly int _target;
    private readonly long _lowWater;
    private readonly ILogger _logger;
    private readonly Func<long> _tail;
    private readonly TimeProvider _time;
    private readonly Background _background;
    private readonly Action _changed;
    private readonly object _gate = new();
    private readonly Queue<string> _spares = new();
    private readonly BackgroundLoop _loop;
    private bool _work = true;
    private bool _stopping;
    private bool _lowSpace;
    private long _counter;
    private long _capacityEnd;
    private long _free = long.MaxValue;

    /// <param name="disk">The disk.</param>
    /// <param name="store">The segments the spares become.</param>
    /// <param name="target">Spares to keep ready while there is room; at least 2: the last one is the reserve of the records that end messages.</param>
    /// <param name="lowWater">Free bytes to leave on the disk.</param>
    /// <param name="changed">Called on any thread when the capacity or <see cref="LowSpace"/> changed; must not block.</param>
    /// <param name="logger">Where failures to make a segment are told.</param>
    /// <param name="tail">Address up to which records were put into log memory. Called on any thread.</param>
    /// <param name="time">For how long a piece takes the disk.</param>
    /// <param name="background">Where the loop runs.</param>
    public SegmentStock(IDisk disk, SegmentStore store, int target, long lowWater, Action changed, ILogger logger, Func<long> tail, TimeProvider time, Background background)
    {
        _disk = disk;
        _store = store;
        _target = Math.Max(2, target);
        _lowWater = lowWater;
        _changed = changed;
        _logger = logger;
        _tail = tail;
        _time = time;
        _background = background;
        _loop = background.NewLoop("hpmta-log-stock", Turn);
    }

    /// <summary>Free disk is below the low water mark, or no segment could be made: refuse new mail.</summary>
    public bool LowSpace => Volatile.Read(ref _lowSpace);

    /// <summary>Free bytes of the disk when they were last looked at; <see cref="long.MaxValue"/> before that.</summary>
    public long FreeBytes => Volatile.Read(ref _free);

    /// <summary>First address for which there is neither a segment nor a spare.</summary>
    public long CapacityEnd => Volatile.Read(ref _capacityEnd);

    /// <summary>Takes over the spares of an earlier run and makes the first one if there is none; then goes on in the background.</summary>
    public void Start()
    {
        foreach (string name in _disk.List(_store.Directory))
        {
            string path = Path.Combine(_store.Directory, name);
            bool isSpare = name.StartsWith(SparePrefix, StringComparison.Ordinal);
            if (isSpare && IsWhole(path))
            {
                _spares.Enqueue(path);
            }
            else if (isSpare || name.StartsWith(FillingPrefix, StringComparison.Ordinal))
            {
                TryDelete(path);
            }

            if (isSpare && long.TryParse(name.AsSpan(SparePrefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out long number))
            {
                _counter = Math.Max(_counter, number);
            }
        }

        Refresh();
        while (WantsSpare(1) && TryMake())
        {
        }

        _loop.Start();
    }

    /// <summary>Looks at the free space again and fills what is missing.</summary>
    public void Poke()
    {
        lock (_gate)
        {
            _work = true;
        }

        _loop.Wake();
    }

    /// <summary>
    /// Puts a zeroed segment in place under its name, and returns when a power failure cannot take the name any more. Without a spare it is made now, by the caller.
    /// </summary>
    /// <exception cref="DiskException">There is no room for it, or the name may not be on stable storage: the store does not have it, and the next attempt replaces it.</exception>
    public void Provide(int segment)
    {
        string? spare;
        lock (_gate)
        {
            _ = _spares.TryDequeue(out spare);
        }

        spare ??= Fill();
        try
        {
            Place(spare, segment);
        }
        finally
        {
            Refresh();
        }

        Poke();
    }

    private void Place(string spare, int segment)
    {
        try
        {
            _disk.Rename(spare, _store.PathOf(segment));
        }
        catch (DiskException) when (_disk.FileExists(spare))
        {
            Keep(spare);
            throw;
        }

        _disk.SyncDirectory(_store.Directory);
        _store.Add(segment);
    }

    /// <summary>Sees that the segment exists or a spare is ready to become it; makes one if not.</summary>
    /// <exception cref="DiskException">There is no room for it.</exception>
    public void Ensure(int segment)
    {
        if (_store.Contains(segment) || ReadySpares() > 0)
        {
            return;
        }

        Keep(Fill());
    }

    private void Keep(string spare)
    {
        lock (_gate)
        {
            _spares.Enqueue(spare);
        }

        Refresh();
    }

    /// <summary>Asks the loop to end and waits for it at most so long.</summary>
    public bool Stop(TimeSpan limit)
    {
        lock (_gate)
        {
            _stopping = true;
        }

        _loop.Wake();
        return _loop.Join(limit);
    }

    public void Dispose() => _ = Stop(TimeSpan.FromSeconds(1));

    private TimeSpan? Turn(bool rested)
    {
        lock (_gate)
        {
            if (_stopping)
            {
                return null;
            }

            if (!_work)
            {
                return Timeout.InfiniteTimeSpan;
            }

            _work = false;
        }

        FillUp();
        return TimeSpan.Zero;
    }

    private void FillUp()
    {
        Refresh();
        bool stop = false;
        while (!stop)
        {
            // Below the low water mark one spare is still made: the records that end messages need it.
            stop = !WantsSpare(HasRoom(out _) ? _target : 1) || !TryMake() || Volatile.Read(ref _stopping);
            bool roomy = HasRoom(out bool low);
            // While there is room, a burst that outruns the zeroing waits for it; refusing mail would not make it faster.
            SetLowSpace(low || (!roomy && ReadySpares() < 2));
        }
    }

    private bool WantsSpare(int target) => ReadySpares() < target;

    private int ReadySpares()
    {
        lock (_gate)
        {
            return _spares.Count;
        }
    }

    private bool HasRoom(out bool low)
    {
        try
        {
            long free = _disk.FreeSpace(_store.Directory);
            Volatile.Write(ref _free, free);
            low = free < _lowWater;
            return free - _store.SegmentSize >= _lowWater;
        }
        catch (DiskException)
        {
            low = true;
            return false;
        }
    }

    private bool TryMake()
    {
        try
        {
            string? spare = Fill(LeaveTurns);
            if (spare is not null)
            {
                Keep(spare);
            }

            return spare is not null;
        }
        catch (DiskException e)
        {
            _logger.LogWarning("No new log segment could be made: {Cause}", e.Message);
            SetLowSpace(true);
            return false;
        }
    }

    private string Fill() => Fill(static (_, _) => true)!;

    /// <param name="goesOn">Called after each piece but the last with the octets filled so far and how long the piece took; false ends it.</param>
    /// <returns>The path of the spare; null: it was ended.</returns>
    private string? Fill(Func<long, TimeSpan, bool> goesOn)
    {
        string number = Interlocked.Increment(ref _counter).ToString("D10", CultureInfo.InvariantCulture);
        string filling = Path.Combine(_store.Directory, FillingPrefix + number);
        string spare = Path.Combine(_store.Directory, SparePrefix + number);
        try
        {
            if (!WriteZeros(filling, goesOn))
            {
                TryDelete(filling);
                return null;
            }

            _disk.Rename(filling, spare);
            _disk.SyncDirectory(_store.Directory);
            return spare;
        }
        catch (DiskException)
        {
            TryDelete(filling);
            // It has this name when only the sync failed.
            TryDelete(spare);
            throw;
        }
    }

    private bool WriteZeros(string path, Func<long, TimeSpan, bool> goesOn)
    {
        using IDiskFile file = _disk.Open(path, DiskFileMode.CreateNew);
        int step = (int)Math.Min(Zeros.Length, _store.SegmentSize);
        long started = _time.GetTimestamp();
        for (long offset = 0; offset < _store.SegmentSize; offset += step)
        {
            file.Write(offset, Zeros.AsSpan(0, step));
            long end = offset + step;
            if (end == _store.SegmentSize)
            {
                file.Flush();
            }
            else if (end % FillBlock == 0)
            {
                // Flushed piece by piece: one flush of a whole segment would hold up the commits that run beside it.
                file.Flush();
                if (!goesOn(end, _time.GetElapsedTime(started)))
                {
                    return false;
                }

                started = _time.GetTimestamp();
            }
        }

        return true;
    }

    /// <summary>
    /// Between two pieces of a spare that nobody waits for yet. A flush beside another takes several times as long: commits get the disk for themselves as long as filling is well ahead of the mail that
    /// will need the segment.
    /// </summary>
    private bool LeaveTurns(long filled, TimeSpan took)
    {
        if (Volatile.Read(ref _stopping))
        {
            return false;
        }

        _ = HasRoom(out bool low);
        if (low)
        {
            SetLowSpace(true);
        }

        // Of the segment that mail may fill until it needs this one: the last spare is not for mail.
        long used = _tail() - (CapacityEnd - (2 * _store.SegmentSize));
        if (!LowSpace && filled >= 2 * used)
        {
            TimeSpan rest = Rests * took;
            _background.Pause(rest < ShortestRest ? ShortestRest : rest > LongestRest ? LongestRest : rest);
        }

        return true;
    }

    private bool IsWhole(string path)
    {
        using IDiskFile file = _disk.Open(path, DiskFileMode.OpenExisting);
        return file.Length == _store.SegmentSize;
    }

    private void TryDelete(string path)
    {
        try
        {
            _disk.Delete(path);
        }
        catch (DiskException e)
        {
            _logger.LogWarning("A partly filled log segment could not be deleted: {Cause}", e.Message);
        }
    }

    private void SetLowSpace(bool value)
    {
        if (Volatile.Read(ref _lowSpace) != value)
        {
            Volatile.Write(ref _lowSpace, value);
            _changed();
        }
    }

    private void Refresh()
    {
        lock (_gate)
        {
            long end = ((long)_store.Last + 1 + _spares.Count) << _store.Bits;
            if (end == _capacityEnd)
            {
                return;
            }

            Volatile.Write(ref _capacityEnd, end);
        }

        _changed();
    }
}
