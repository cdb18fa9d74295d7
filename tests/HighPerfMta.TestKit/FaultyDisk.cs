using HighPerfMta.Queue.Storage;

namespace HighPerfMta.TestKit;

/// <summary>What a <see cref="DiskFault"/> can hit.</summary>
[Flags]
public enum DiskOperations
{
    Open = 1,
    Read = 2,
    Write = 4,
    Flush = 8,
    SetLength = 16,
    SyncDirectory = 32,
    Rename = 64,
    Delete = 128,
    WriteBack = 256,

    /// <summary>Everything that changes what is on the disk.</summary>
    Changes = Write | Flush | SetLength | SyncDirectory | Rename | Delete | WriteBack,
}

/// <summary>
/// A disk in memory that knows what would survive a power failure: contents since the last flush of their file and names since the last sync of their directory
/// do not, or only in part. Faults are set by the test. <see cref="PowerCut"/> and <see cref="Crash"/> give what the next process finds as a disk of its own, so
/// that threads of the "dead" process cannot write to it.
/// </summary>
public sealed partial class FaultyDisk : IDisk
{
    private readonly Lock _gate = new();
    private readonly HashSet<string> _locks = [];
    private readonly List<DiskFault> _faults = [];
    private readonly Folder _root;
    private long _flushes;
    private long _writes;

    public FaultyDisk()
        : this(new Folder())
    {
    }

    private FaultyDisk(Folder root) => _root = root;

    /// <summary>Bytes that files may still grow by: beyond it writes fail with ENOSPC, as on a full file system. Overwriting needs none.</summary>
    public long Free { get; set; } = 1L << 40;

    /// <summary>Called before every operation that can fail, on the thread that does it.</summary>
    public Action<DiskOperations, string>? Before { get; set; }

    /// <summary>Which reads of a file, by path and offset, find nothing in the system's memory and have to ask the disk; those that a fault hits do always. Null: no others.</summary>
    public Func<string, long, bool>? OutOfMemory { get; set; }

    /// <summary>Flushes of files that were done.</summary>
    public long Flushes => Volatile.Read(ref _flushes);

    /// <summary>Writes that were done.</summary>
    public long Writes => Volatile.Read(ref _writes);

    /// <summary>Makes operations on files whose path contains <paramref name="path"/> fail until the fault is disposed.</summary>
    /// <param name="operations">What is hit.</param>
    /// <param name="errno">5 (EIO), 28 (ENOSPC), …</param>
    /// <param name="path">A part of the path; empty: every file.</param>
    /// <param name="after">So many operations still succeed.</param>
    public DiskFault Fail(DiskOperations operations, int errno, string path = "", int after = 0) =>
        Add(new DiskFault(this, operations, errno, path, after, blocks: false));

    /// <summary>Makes operations never return until the fault is disposed.</summary>
    public DiskFault Block(DiskOperations operations, string path = "", int after = 0) =>
        Add(new DiskFault(this, operations, 0, path, after, blocks: true));

    /// <summary>
    /// What is there after the power failed: of each unflushed write any octets, of each unsynced directory any of its states since. The same seed gives
    /// the same result for the same history.
    /// </summary>
    public FaultyDisk PowerCut(int seed)
    {
        var random = new Random(seed);
        lock (_gate)
        {
            return new FaultyDisk(_root.AfterPowerCut(random, []));
        }
    }

    /// <summary>What is there after the process was killed: all it wrote, flushed or not; what was not can still be lost.</summary>
    public FaultyDisk Crash()
    {
        lock (_gate)
        {
            return new FaultyDisk(_root.Copy([]));
        }
    }

    /// <summary>Paths of all files.</summary>
    public IReadOnlyList<string> AllFiles()
    {
        lock (_gate)
        {
            return [.. _root.Files("")];
        }
    }

    /// <summary>Changes the contents of a file as rot would, durably.</summary>
    public void Corrupt(string path, Func<byte[], byte[]> change)
    {
        lock (_gate)
        {
            FileNode file = FindFile(path) ?? throw new FileNotFoundException(path);
            file.Replace(change(file.Contents()));
        }
    }

    public void Flip(string path, long offset, byte mask = 0x40) => Corrupt(path, octets =>
    {
        octets[offset] ^= mask;
        return octets;
    });

    public byte[] Contents(string path)
    {
        lock (_gate)
        {
            return FindFile(path)?.Contents() ?? throw new FileNotFoundException(path);
        }
    }

    /// <summary>Whether no power failure can change these octets any more: they were flushed, and so was the file's name.</summary>
    public bool IsDurable(string path, long offset, int length)
    {
        lock (_gate)
        {
            (Folder folder, string name) = Locate(path);
            return folder.IsSynced(name) && folder.Find(name) is FileNode file && file.IsDurable(offset, length);
        }
    }

    /// <summary>Removes a file as an accident would, durably.</summary>
    public void Remove(string path)
    {
        lock (_gate)
        {
            (Folder folder, string name) = Locate(path);
            folder.Remove(name);
            folder.Sync();
        }
    }

    internal void Remove(DiskFault fault)
    {
        lock (_gate)
        {
            _faults.Remove(fault);
        }
    }

    private bool IsOutOfMemory(string path, long offset)
    {
        lock (_gate)
        {
            return _faults.Exists(f => f.Concerns(DiskOperations.Read, path)) || OutOfMemory?.Invoke(path, offset) == true;
        }
    }

    private DiskFault Add(DiskFault fault)
    {
        lock (_gate)
        {
            _faults.Add(fault);
        }

        return fault;
    }

    // Outside the lock: a blocked operation must not hold up the others.
    private void Meet(DiskOperations operation, string path)
    {
        Before?.Invoke(operation, path);
        while (true)
        {
            DiskFault? hit;
            lock (_gate)
            {
                hit = _faults.Find(f => f.Hits(operation, path));
            }

            if (hit is null)
            {
                return;
            }

            // One that was held up meets the faults that came meanwhile.
            hit.Strike(operation, path);
        }
    }

    private (Folder Folder, string Name) Locate(string path)
    {
        string[] parts = path.Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries);
        Folder folder = _root;
        foreach (string part in parts.AsSpan(0, parts.Length - 1))
        {
            folder = folder.Find(part) as Folder ?? throw new DiskException("open", path, DiskException.NotFound);
        }

        return (folder, parts[^1]);
    }

    private Folder FindFolder(string path)
    {
        if (path == Path.GetPathRoot(path))
        {
            return _root;
        }

        (Folder folder, string name) = Locate(path);
        return folder.Find(name) as Folder ?? throw new DiskException("open", path, DiskException.NotFound);
    }

    private FileNode? FindFile(string path)
    {
        (Folder folder, string name) = Locate(path);
        return folder.Find(name) as FileNode;
    }
}

/// <summary>A fault of a <see cref="FaultyDisk"/>; disposing it mends the disk.</summary>
public sealed class DiskFault : IDisposable
{
    private readonly FaultyDisk _disk;
    private readonly DiskOperations _operations;
    private readonly int _errno;
    private readonly string _path;
    private readonly bool _blocks;
    private readonly ManualResetEventSlim _released = new();
    private readonly TaskCompletionSource _struck = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _spared;

    internal DiskFault(FaultyDisk disk, DiskOperations operations, int errno, string path, int after, bool blocks)
    {
        _disk = disk;
        _operations = operations;
        _errno = errno;
        _path = path;
        _spared = after;
        _blocks = blocks;
    }

    /// <summary>Completes when the fault hit for the first time.</summary>
    public Task Struck => _struck.Task;

    public void Dispose()
    {
        _disk.Remove(this);
        _released.Set();
    }

    // Under the disk's lock.
    internal bool Hits(DiskOperations operation, string path) => Concerns(operation, path) && _spared-- <= 0;

    internal bool Concerns(DiskOperations operation, string path) => (_operations & operation) != 0 && path.Contains(_path, StringComparison.Ordinal);

    internal void Strike(DiskOperations operation, string path)
    {
        _struck.TrySetResult();
        if (!_blocks)
        {
            throw new DiskException(operation.ToString(), path, _errno);
        }

        _released.Wait();
    }
}
