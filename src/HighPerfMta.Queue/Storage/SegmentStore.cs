using System.Collections.Concurrent;
using System.Globalization;
using System.Numerics;

namespace HighPerfMta.Queue.Storage;

/// <summary>
/// The segment files of one log. A segment is found by address (address / segment size); a missing one is an error, never created by a read.
/// Open files are kept in a bounded cache.
/// </summary>
/// <param name="disk">The disk.</param>
/// <param name="directory">Where the files are.</param>
/// <param name="segmentSize">Bytes of a segment.</param>
/// <param name="mode"><see cref="DiskFileMode.ReadExisting"/>: the segments are only read.</param>
internal sealed class SegmentStore(IDisk disk, string directory, long segmentSize, DiskFileMode mode = DiskFileMode.OpenExisting) : IDisposable
{
    /// <summary>What the name of a segment's file begins with; its number follows, with ten digits.</summary>
    public const string Prefix = "seg.";
    private const int MaxOpenFiles = 256;

    private readonly ConcurrentDictionary<int, SegmentFile> _open = new();
    private readonly ConcurrentQueue<int> _openOrder = new();
    private readonly SortedSet<int> _segments = [];
    private readonly HashSet<int> _zeroed = [];

    // Closed by the cache while somebody was at them: he may still be.
    private readonly HashSet<int> _lingering = [];
    private readonly Lock _gate = new();

    public long SegmentSize => segmentSize;

    public int Bits { get; } = BitOperations.Log2((ulong)segmentSize);

    public string Directory => directory;

    /// <summary>Number of the last segment; -1 if there is none.</summary>
    public int Last
    {
        get
        {
            lock (_gate)
            {
                return _segments.Count == 0 ? -1 : _segments.Max;
            }
        }
    }

    /// <summary>Number of the first segment; -1 if there is none.</summary>
    public int First
    {
        get
        {
            lock (_gate)
            {
                return _segments.Count == 0 ? -1 : _segments.Min;
            }
        }
    }

    /// <summary>Reads the directory. Only before anything else.</summary>
    public void Load()
    {
        foreach (string name in disk.List(directory))
        {
            if (name.StartsWith(Prefix, StringComparison.Ordinal)
                && int.TryParse(name.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int segment))
            {
                _segments.Add(segment);
            }
        }
    }

    public bool Contains(int segment)
    {
        lock (_gate)
        {
            return _segments.Contains(segment);
        }
    }

    public string PathOf(int segment) => Path.Combine(directory, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{segment:D10}"));

    /// <summary>Says that the segment's file is now in place under its name, and that this name is on stable storage: from now on records go there.</summary>
    /// <param name="segment">Its number.</param>
    /// <param name="isZeroed">It holds nothing but zeros.</param>
    public void Add(int segment, bool isZeroed)
    {
        lock (_gate)
        {
            _segments.Add(segment);
            if (isZeroed)
            {
                _zeroed.Add(segment);
            }
        }
    }

    /// <summary>Whether something else than zeros and records may be in the segment: what it held under an earlier number.</summary>
    public bool MayHoldOld(int segment)
    {
        lock (_gate)
        {
            return _segments.Contains(segment) && !_zeroed.Contains(segment);
        }
    }

    /// <summary>Length of the segment's file, bytes; -1 if it is missing.</summary>
    public long LengthOf(int segment)
    {
        try
        {
            return Contains(segment) ? LengthOfFile(segment) : -1;
        }
        catch (DiskException e) when (e.Errno == DiskException.NotFound)
        {
            return -1;
        }
    }

    private long LengthOfFile(int segment)
    {
        try
        {
            return Open(segment).Length;
        }
        catch (ObjectDisposedException)
        {
            // As below.
            return Open(segment).Length;
        }
    }

    /// <summary>Reads within one segment; returns the bytes read, fewer than asked only where the file ends.</summary>
    public int Read(long address, Span<byte> buffer)
    {
        int segment = (int)(address >> Bits);
        long offset = address & (segmentSize - 1);
        try
        {
            return Open(segment).Read(offset, buffer);
        }
        catch (ObjectDisposedException)
        {
            // The cache closed the file between look-up and read.
            return Open(segment).Read(offset, buffer);
        }
    }

    /// <summary>As <see cref="Read"/>, but only what the system has in memory; false when the disk has to be asked.</summary>
    public bool TryRead(long address, Span<byte> buffer)
    {
        try
        {
            return _open.TryGetValue((int)(address >> Bits), out SegmentFile? file) && file.TryRead(address & (segmentSize - 1), buffer);
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
    }

    public IDiskFile Open(int segment)
    {
        if (_open.TryGetValue(segment, out SegmentFile? file))
        {
            return file;
        }

        // Outside the lock: a disk that does not answer must not hold up those who write to other segments.
        SegmentFile opened = new(disk.Open(PathOf(segment), mode));
        SegmentFile? kept = Keep(segment, opened);
        if (kept != opened)
        {
            opened.Dispose();
        }

        return kept ?? throw new DiskException("open", PathOf(segment), DiskException.NotFound);
    }

    /// <summary>The file that the cache has of the segment from now on; null: the segment was given up meanwhile.</summary>
    private SegmentFile? Keep(int segment, SegmentFile opened)
    {
        lock (_gate)
        {
            if (_segments.Count > 0 && segment < _segments.Min)
            {
                return null;
            }

            if (_open.TryGetValue(segment, out SegmentFile? file))
            {
                return file;
            }

            _open[segment] = opened;
            _openOrder.Enqueue(segment);
            // The last two are being written to: closing one would fail the write.
            while (_openOrder.Count > MaxOpenFiles && _openOrder.TryDequeue(out int oldest))
            {
                if (oldest >= _segments.Max - 1)
                {
                    _openOrder.Enqueue(oldest);
                }
                else
                {
                    Close(oldest);
                }
            }

            return opened;
        }
    }

    /// <summary>
    /// Overwrites a stretch with zeros, the last page first, each on stable storage before the one below it is begun. Wherever it ends early, what is left is as if less had been written: no record
    /// is there without those before it that it builds on. Missing segments have nothing to erase.
    /// </summary>
    /// <param name="from">First address.</param>
    /// <param name="to">Behind the last one.</param>
    /// <param name="pageSize">Bytes of a page: a power of two, at most a segment.</param>
    public void Erase(long from, long to, int pageSize)
    {
        byte[] zeros = new byte[Math.Min(pageSize, 64 << 10)];
        while (from < to)
        {
            long start = Math.Max(from, (to - 1) & -(long)pageSize);
            int segment = (int)(start >> Bits);
            if (Contains(segment))
            {
                IDiskFile file = Open(segment);
                long end = Math.Min(to, ((long)segment << Bits) + file.Length);
                for (long at = start; at < end; at += zeros.Length)
                {
                    file.Write(at & (segmentSize - 1), zeros.AsSpan(0, (int)Math.Min(zeros.Length, end - at)));
                }

                file.Flush();
            }

            to = start;
        }
    }

    /// <summary>Waits until every segment that holds a part of the stretch is on stable storage.</summary>
    public void Flush(long from, long to)
    {
        for (int segment = (int)(from >> Bits); segment <= (int)(to >> Bits); segment++)
        {
            if (Contains(segment))
            {
                Open(segment).Flush();
            }
        }
    }

    /// <summary>Makes a segment that stays empty: full size, reads as zeros, takes no room. Nothing is written to it, unless the process is killed before the first record behind it: then the next run may go on here.</summary>
    public void CreateHole(int segment)
    {
        string filling = Path.Combine(directory, SegmentStock.FillingPrefix + "hole");
        disk.Delete(filling);
        using (IDiskFile file = disk.Open(filling, DiskFileMode.CreateNew))
        {
            file.SetLength(segmentSize);
            file.Flush();
        }

        // Never under its name before it has its size: after a crash a short segment is damage.
        disk.Rename(filling, PathOf(segment));
        disk.SyncDirectory(directory);
        Add(segment, isZeroed: true);
    }

    /// <summary>The first segment, if it is below the given one and not the last there is: a log without any does not open. -1 otherwise.</summary>
    public int FirstBelow(int segment)
    {
        lock (_gate)
        {
            return _segments.Count > 1 && _segments.Min < segment ? _segments.Min : -1;
        }
    }

    /// <summary>Deletes every segment below the given one, but never the last there is.</summary>
    public void DeleteBelow(int segment)
    {
        while (FirstBelow(segment) is >= 0 and int first)
        {
            Delete(first);
        }
    }

    /// <summary>Deletes the first segment.</summary>
    public void Delete(int first)
    {
        disk.Delete(PathOf(first));
        _ = Forget(first);
    }

    /// <summary>Gives the file of the first segment, which nobody needs any more, another name. False: somebody may still be reading in it, so that it must not be overwritten.</summary>
    public bool Release(int first, string path)
    {
        disk.Rename(PathOf(first), path);
        return Forget(first);
    }

    private bool Forget(int first)
    {
        SegmentFile? file;
        bool lingers;
        lock (_gate)
        {
            _segments.Remove(first);
            _zeroed.Remove(first);
            _ = _open.TryRemove(first, out file);
            lingers = _lingering.Remove(first);
        }

        // Who closes a deleted file last frees what it took of the disk, which takes milliseconds: never under the lock that commits need.
        return (file is null || file.Close()) && !lingers;
    }

    public void Dispose()
    {
        foreach (SegmentFile file in _open.Values)
        {
            file.Dispose();
        }

        _open.Clear();
    }

    private void Close(int segment)
    {
        if (_open.TryRemove(segment, out SegmentFile? file) && !file.Close())
        {
            _lingering.Add(segment);
        }
    }
}
