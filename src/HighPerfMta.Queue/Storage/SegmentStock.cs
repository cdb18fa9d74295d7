using System.Globalization;
using HighPerfMta.Queue.Async;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Storage;

/// <summary>
/// Makes zero-filled, synced segment files ahead of need, on a loop of its own, and hands them out by renaming. A needless segment becomes a spare as it is; in a log whose records do not tell their address,
/// where stale bytes after a tail could be taken for records, it is overwritten with zeros from end to end before. Deleting it and making a new file instead would hold up commits for some ten milliseconds,
/// while the file system frees and assigns the room, and write everything twice.
/// Real zeros, not fallocate: then a commit changes no file-system metadata and costs one flush.
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

    // A needless segment is waited for while the mail in a segment lasts so many times as long as zeroing one, and where the last spare was one that is used as it is.
    private const int Slowness = 8;

    // Segments are given back as unevenly as mail is delivered. So many are kept beyond the spares until they are needed, or until the log rests.
    private const int MostKept = 4;

    private static readonly byte[] Zeros = new byte[64 << 10];

    private readonly IDisk _disk;
    private readonly SegmentStore _store;
    private readonly int _target;
    private readonly long _lowWater;
    private readonly ILogger _logger;
    private readonly Func<long> _tail;
    private readonly TimeProvider _time;
    private readonly Background _background;
    private readonly bool _keepsOld;
    private readonly Action _changed;
    private readonly object _gate = new();
    private readonly Queue<Spare> _spares = new();
    private readonly Queue<string> _old = new();
    private readonly BackgroundLoop _loop;
    private bool _work = true;
    private bool _stopping;
    private bool _rests;
    private bool _keptLast;
    private bool _lowSpace;
    private long _counter;
    private long _capacityEnd;
    private long _free = long.MaxValue;
    private int _filling;
    private long _fillTime;
    private long _provided;
    private long _waitUntil;
    private long _wanted;
    private long _pokeAt = long.MaxValue;

    /// <param name="disk">The disk.</param>
    /// <param name="store">The segments the spares become.</param>
    /// <param name="target">Spares to keep ready while there is room; at least 2: the last one is the reserve of the records that end messages.</param>
    /// <param name="lowWater">Free bytes to leave on the disk.</param>
    /// <param name="changed">Called on any thread when the capacity or <see cref="LowSpace"/> changed; must not block.</param>
    /// <param name="logger">Where failures to make a segment are told.</param>
    /// <param name="tail">Address up to which records were put into log memory. Called on any thread.</param>
    /// <param name="time">For how long a piece takes the disk.</param>
    /// <param name="background">Where the loop runs.</param>
    /// <param name="keepsOld">A spare may hold what it held as a segment.</param>
    public SegmentStock(
        IDisk disk, SegmentStore store, int target, long lowWater, Action changed, ILogger logger, Func<long> tail, TimeProvider time, Background background, bool keepsOld = false)
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
        _keepsOld = keepsOld;
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
                _spares.Enqueue(new Spare(path, !_keepsOld));
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
        while (ReadySpares() < 1 && TryMake())
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

    /// <summary>Says that no records come: what is kept beyond the spares is given back to the file system.</summary>
    public void Rest()
    {
        lock (_gate)
        {
            if (_old.Count == 0)
            {
                return;
            }

            _rests = true;
            _work = true;
        }

        _loop.Wake();
    }

    /// <summary>
    /// Puts a spare in place as the segment under its name, and returns when a power failure cannot take the name any more. Without a spare it is made now, by the caller.
    /// </summary>
    /// <exception cref="DiskException">There is no room for it, or the name may not be on stable storage: the store does not have it, and the next attempt replaces it.</exception>
    public void Provide(int segment)
    {
        Spare spare;
        lock (_gate)
        {
            _ = _spares.TryDequeue(out spare);
        }

        try
        {
            Place(spare.Path is null ? Fill() : spare, segment);
        }
        finally
        {
            Refresh();
        }

        AwaitOld(segment);
        Poke();
    }

    /// <summary>Says how far records were written. Called by the one thread that writes them, at each commit.</summary>
    public void Reached(long address)
    {
        if (address >= Volatile.Read(ref _pokeAt))
        {
            // Not left to the tail: who appended what was written may not have moved it yet.
            Volatile.Write(ref _pokeAt, long.MaxValue);
            Volatile.Write(ref _waitUntil, 0);
            Poke();
        }
    }

    /// <summary>Says that somebody waits until <see cref="CapacityEnd"/> is at the address: no old segment is waited for then.</summary>
    public void Want(long end)
    {
        lock (_gate)
        {
            if (end <= _wanted)
            {
                return;
            }

            _wanted = end;
        }

        Poke();
    }

    /// <summary>Takes all segments below the given one from the log, but never its last: they are used again where spares are missing, and deleted otherwise.</summary>
    /// <returns>How many.</returns>
    /// <exception cref="DiskException">One could not be deleted; it is still there.</exception>
    public int TakeBack(int segment)
    {
        int count = 0;
        while (_store.FirstBelow(segment) is >= 0 and int first)
        {
            if (!WantsOld() || !IsWhole(first) || !TryReuse(first))
            {
                _store.Delete(first);
            }

            count++;
        }

        return count;
    }

    private bool TryReuse(int first)
    {
        string old = PathOf(FillingPrefix, Interlocked.Increment(ref _counter));
        bool isFree;
        try
        {
            isFree = _store.Release(first, old);
        }
        catch (DiskException e)
        {
            _logger.LogDebug("A needless log segment could not be renamed: {Cause}", e.Message);
            return false;
        }

        if (isFree)
        {
            KeepOld(old);
        }
        else
        {
            TryDelete(old);
        }

        return true;
    }

    // The segment before the one that begins now will be needless soon, most often: where mail is slow enough a new file is made only when half of this one is used.
    private void AwaitOld(int segment)
    {
        long now = Math.Max(1, _time.GetTimestamp());
        bool isSlow = _provided != 0 && (Volatile.Read(ref _keptLast) || (_fillTime != 0 && _time.GetElapsedTime(_provided, now).Ticks >= Slowness * Volatile.Read(ref _fillTime)));
        _provided = now;
        long until = isSlow ? ((long)segment << _store.Bits) + (_store.SegmentSize / 2) : 0;
        Volatile.Write(ref _waitUntil, until);
        Volatile.Write(ref _pokeAt, isSlow ? until : long.MaxValue);
    }

    private bool AwaitsOld()
    {
        lock (_gate)
        {
            return _old.Count == 0 && _spares.Count > 0 && _wanted <= _capacityEnd && _tail() < Volatile.Read(ref _waitUntil);
        }
    }

    private bool WantsOld()
    {
        lock (_gate)
        {
            bool mayKeep = _keepsOld && FreeBytes - _store.SegmentSize >= _lowWater;
            return !_stopping && !LowSpace && _spares.Count + _old.Count + _filling < _target + (mayKeep ? MostKept : 0);
        }
    }

    private bool IsWhole(int segment)
    {
        try
        {
            return _store.LengthOf(segment) == _store.SegmentSize && !(_keepsOld && _store.Open(segment).IsSparse);
        }
        catch (DiskException)
        {
            return false;
        }
    }

    private void KeepOld(string path)
    {
        lock (_gate)
        {
            _old.Enqueue(path);
        }

        Poke();
    }

    private bool DropOld()
    {
        bool had = false;
        while (TakeOld() is { } path)
        {
            had = true;
            TryDelete(path);
        }

        return had;
    }

    private string? TakeOld()
    {
        lock (_gate)
        {
            return _old.TryDequeue(out string? path) ? path : null;
        }
    }

    private void Place(Spare spare, int segment)
    {
        try
        {
            _disk.Rename(spare.Path, _store.PathOf(segment));
        }
        catch (DiskException) when (_disk.FileExists(spare.Path))
        {
            Keep(spare);
            throw;
        }

        _disk.SyncDirectory(_store.Directory);
        _store.Add(segment, spare.IsZeroed);
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

    private void Keep(Spare spare)
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
            if (!_stopping && !_work)
            {
                return Timeout.InfiniteTimeSpan;
            }

            _work = false;
        }

        if (Volatile.Read(ref _stopping))
        {
            DropOld();
            return null;
        }

        FillUp();
        return TimeSpan.Zero;
    }

    private void FillUp()
    {
        Refresh();
        bool stop = false;
        bool rests = TakeRest();
        while (!stop)
        {
            // Below the low water mark one spare is still made: the records that end messages need it.
            stop = ReadySpares() >= (HasRoomForSpare() ? _target : 1) || AwaitsOld() || !TryMake() || Volatile.Read(ref _stopping);
            bool roomy = HasRoom(out bool low);
            if (low && ReadySpares() > 0 && DropOld())
            {
                roomy = HasRoom(out low);
            }

            // While there is room, a burst that outruns the zeroing waits for it; refusing mail would not make it faster.
            SetLowSpace(low || (!roomy && ReadySpares() < 2));
        }

        if (rests)
        {
            DropOld();
        }
    }

    private bool TakeRest()
    {
        lock (_gate)
        {
            bool rests = _rests;
            _rests = false;
            return rests;
        }
    }

    private bool HasRoomForSpare()
    {
        bool roomy = HasRoom(out bool low);
        lock (_gate)
        {
            return roomy || (!low && _old.Count > 0);
        }
    }

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
        Interlocked.Increment(ref _filling);
        try
        {
            Spare? spare = Fill(LeaveTurns);
            if (spare is not null)
            {
                Keep(spare.Value);
            }

            return spare is not null;
        }
        catch (DiskException e)
        {
            _logger.LogWarning("No new log segment could be made: {Cause}", e.Message);
            SetLowSpace(true);
            return false;
        }
        finally
        {
            Interlocked.Decrement(ref _filling);
        }
    }

    private Spare Fill() => Fill(static (_, _, _) => true)!.Value;

    /// <param name="goesOn">Called after each piece but the last with the tail of when it began, the octets filled so far and how long the piece took; false ends it.</param>
    /// <returns>The spare; null: it was ended.</returns>
    private Spare? Fill(Func<long, long, TimeSpan, bool> goesOn)
    {
        string? old = TakeOld();
        long number = Interlocked.Increment(ref _counter);
        string filling = old ?? PathOf(FillingPrefix, number);
        string spare = PathOf(SparePrefix, number);
        try
        {
            if (old is not null && _keepsOld)
            {
                // Its new name is on stable storage when it has that of a segment, before anything is written to it.
                _disk.Rename(filling, spare);
                Volatile.Write(ref _keptLast, true);
                return new Spare(spare, IsZeroed: false);
            }

            if (old is not null)
            {
                // Before the first zero: no power failure may bring it back under the name of a segment, empty, beside others that are older.
                _disk.SyncDirectory(_store.Directory);
            }

            if (!WriteZeros(filling, old is null ? DiskFileMode.CreateNew : DiskFileMode.OpenExisting, goesOn))
            {
                TryDelete(filling);
                return null;
            }

            _disk.Rename(filling, spare);
            _disk.SyncDirectory(_store.Directory);
            Volatile.Write(ref _keptLast, false);
            return new Spare(spare, IsZeroed: true);
        }
        catch (DiskException)
        {
            TryDelete(filling);
            // It has this name when only the sync failed.
            TryDelete(spare);
            throw;
        }
    }

    private string PathOf(string prefix, long number) => Path.Combine(_store.Directory, prefix + number.ToString("D10", CultureInfo.InvariantCulture));

    private bool WriteZeros(string path, DiskFileMode mode, Func<long, long, TimeSpan, bool> goesOn)
    {
        long tail = _tail();
        TimeSpan whole = TimeSpan.Zero;
        using IDiskFile file = _disk.Open(path, mode);
        int step = (int)Math.Min(Zeros.Length, _store.SegmentSize);
        long started = _time.GetTimestamp();
        for (long offset = 0; offset < _store.SegmentSize; offset += step)
        {
            file.Write(offset, Zeros.AsSpan(0, step));
            long end = offset + step;
            if (end == _store.SegmentSize)
            {
                file.Flush();
                whole += _time.GetElapsedTime(started);
            }
            else if (end % FillBlock == 0)
            {
                // Flushed piece by piece: one flush of a whole segment would hold up the commits that run beside it.
                file.Flush();
                TimeSpan took = _time.GetElapsedTime(started);
                whole += took;
                if (!goesOn(tail, end, took))
                {
                    return false;
                }

                started = _time.GetTimestamp();
            }
        }

        Volatile.Write(ref _fillTime, Math.Max(1, whole.Ticks));
        return true;
    }

    /// <summary>
    /// Between two pieces of a spare that nobody waits for yet. A flush beside another takes several times as long: commits get the disk for themselves as long as filling is twice as far as the mail on its
    /// way from where it was to where the segment is needed.
    /// </summary>
    private bool LeaveTurns(long tail, long filled, TimeSpan took)
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

        // The last spare is not for mail: this one is needed where mail has filled all but one.
        long way = CapacityEnd - _store.SegmentSize - tail;
        if (!LowSpace && way > 0 && (double)filled / _store.SegmentSize >= 2.0 * (_tail() - tail) / way)
        {
            TimeSpan rest = Rests * took;
            _background.Pause(rest < ShortestRest ? ShortestRest : rest > LongestRest ? LongestRest : rest);
        }

        return true;
    }

    private bool IsWhole(string path)
    {
        using IDiskFile file = _disk.Open(path, DiskFileMode.OpenExisting);
        return file.Length == _store.SegmentSize && !(_keepsOld && file.IsSparse);
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

    /// <summary>A file that waits to become a segment.</summary>
    /// <param name="Path">Its path.</param>
    /// <param name="IsZeroed">It is known to hold nothing but zeros.</param>
    private readonly record struct Spare(string Path, bool IsZeroed);
}
