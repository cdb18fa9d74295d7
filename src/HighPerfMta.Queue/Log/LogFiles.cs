using System.Numerics;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// The files of a log, locked, checked and scanned: what must be right before anything may be appended.
/// </summary>
internal sealed class LogFiles : IDisposable
{
    /// <summary>The log's folder in the data directory.</summary>
    public const string LogFolder = "log";

    /// <summary>A log that is being made.</summary>
    public const string NewFolder = "log.new";

    /// <summary>What the one process that has the data directory open holds a lock on.</summary>
    public const string LockFile = "lock";

    private readonly IDisk _disk;
    private readonly IDisposable _lock;
    private readonly Stack<string> _unsynced;
    private readonly List<AddressRange> _unsettled = [];

    private LogFiles(IDisk disk, IDisposable directoryLock, Stack<string> unsynced, Superblock superblock, SegmentStore store, CommitSlots slots)
    {
        _disk = disk;
        _lock = directoryLock;
        _unsynced = unsynced;
        Superblock = superblock;
        Store = store;
        Slots = slots;
    }

    public Superblock Superblock { get; }

    public SegmentStore Store { get; }

    public CommitSlots Slots { get; }

    /// <summary>First address that is still kept.</summary>
    public long Begin { get; private set; }

    /// <summary>Address below which every record is known to have been durable.</summary>
    public long Durable { get; private set; }

    /// <summary>First address the next run may use: no record of an earlier run is at or after it.</summary>
    public long NextStart { get; private set; }

    public ScanResult Scan { get; private set; } = new();

    /// <summary>Where <see cref="Scan"/> began: at the log's head, or at its checkpoint.</summary>
    public long ScannedFrom { get; private set; }

    /// <summary>Ranges that the last run left unfinished between records: nothing in them was acknowledged, as far as the log knows.</summary>
    public List<AddressRange> Unfinished { get; } = [];

    private long _flushTo;

    private CheckpointReader? _checkpoint;

    /// <summary>The checkpoint that the scan began at, once; its taker disposes it.</summary>
    public CheckpointReader? TakeCheckpoint() => Interlocked.Exchange(ref _checkpoint, null);

    public static LogFiles Open(QueueOptions options, IDisk disk, ILogger logger, Background background)
    {
        string root = options.DataDirectory;
        IDisposable? directoryLock = null;
        LogFiles? files = null;
        try
        {
            disk.CreateDirectory(root);
            directoryLock = disk.TryLock(Path.Combine(root, LockFile)) ?? throw new LogOpenException(
                $"The data directory {root} is in use by another process", "Stop that process, or give this one another data directory.");
            string folder = Path.Combine(root, LogFolder);
            if (!disk.DirectoryExists(folder))
            {
                Create(options, disk, root, folder, background);
            }

            Stack<string> unsynced = SyncNames(disk, Path.GetFullPath(folder), logger);
            files = Load(directoryLock, unsynced, disk, folder);
            files.Examine(logger);
            return files;
        }
        catch (DiskException e)
        {
            files?.Dispose();
            directoryLock?.Dispose();
            throw new LogOpenException($"The log in {root} cannot be opened: {e.Message}", "Check the disk, its free space and the directory's permissions.", e);
        }
        catch
        {
            directoryLock?.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        TakeCheckpoint()?.Dispose();
        Slots.Dispose();
        Store.Dispose();
        _lock.Dispose();
    }

    /// <summary>
    /// Does what the disk refused at the opening: syncs of directories, and the settling of the tail. Until this returned, a power failure may take the log or a segment by its name, and records
    /// that were replayed.
    /// </summary>
    /// <exception cref="DiskException">It refuses again; the rest stays to be done.</exception>
    public void Secure()
    {
        while (_unsynced.TryPeek(out string? directory))
        {
            _disk.SyncDirectory(directory);
            _ = _unsynced.Pop();
        }

        SettleAll();
    }

    // A directory or segment whose name is not durable takes what is in it along. At each opening: a process that was killed may have made it and not synced it.
    private static Stack<string> SyncNames(IDisk disk, string folder, ILogger logger)
    {
        Stack<string> unsynced = new();
        string? root = Path.GetDirectoryName(folder);
        for (string? directory = folder; directory is not null; directory = Path.GetDirectoryName(directory))
        {
            try
            {
                disk.SyncDirectory(directory);
            }
            catch (DiskException e) when (directory == folder || directory == root || e.Errno == DiskException.InputOutput || e.IsFull)
            {
                logger.LogWarning("The names in a directory could not be synced: {Cause}. No mail is taken until they are", e.Message);
                unsynced.Push(directory);
            }
            catch (DiskException e)
            {
                // Above the data directory it may not be ours to open, or cannot be synced at all; then it got no name from us.
                logger.LogDebug("The names in a directory could not be synced: {Cause}", e.Message);
            }
        }

        return unsynced;
    }

    // Everything is made under another name and renamed as a whole, so that a log folder without its superblock or first segment never exists.
    private static void Create(QueueOptions options, IDisk disk, string root, string folder, Background background)
    {
        ValidateSizes(options);
        string building = Path.Combine(root, NewFolder);
        disk.DeleteDirectory(building);
        disk.CreateDirectory(building);
        var superblock = Superblock.Create(options.SegmentSize, options.PageSize, options.LogFormat);
        superblock.Write(disk, Path.Combine(building, Superblock.FileName));
        CommitSlots.Create(
            disk, Path.Combine(building, CommitSlots.FileName), superblock.Salt, new CommitPoint(LogScanner.FirstAddress, LogScanner.FirstAddress));
        using (var store = new SegmentStore(disk, building, options.SegmentSize))
        using (var stock = new SegmentStock(
            disk, store, options.ReadySegments, lowWater: 0, static () => { }, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance, static () => 0, TimeProvider.System, background))
        {
            stock.Provide(0);
        }

        disk.SyncDirectory(building);
        disk.Rename(building, folder);
        disk.SyncDirectory(root);
    }

    private static void ValidateSizes(QueueOptions options)
    {
        bool valid = BitOperations.IsPow2(options.PageSize) && BitOperations.IsPow2(options.SegmentSize)
            && options.PageSize >= 4096 && options.PageSize <= options.SegmentSize;
        if (!valid)
        {
            throw new LogOpenException(
                $"A log page of {options.PageSize} bytes in segments of {options.SegmentSize} bytes is not possible",
                "Both are powers of two, a page is at least 4096 bytes and at most a segment.");
        }
    }

    /// <summary>Finds superblock and segments.</summary>
    /// <exception cref="LogOpenException">There is none, or it is not one that this program understands.</exception>
    public static (Superblock Superblock, SegmentStore Store) Find(IDisk disk, string folder, DiskFileMode mode)
    {
        string path = Path.Combine(folder, Superblock.FileName);
        if (!disk.FileExists(path))
        {
            throw new LogOpenException(
                $"{folder} has no superblock", "Restore it from a backup; or, if there never was a log in it, move the directory away.");
        }

        Superblock superblock = Superblock.Read(disk, path, out string problem) ?? throw new LogOpenException(
            $"{path} cannot be used: {problem}", "Use the program version that wrote it, or restore it from a backup.");
        var store = new SegmentStore(disk, folder, superblock.SegmentSize, mode);
        store.Load();
        if (store.First < 0)
        {
            throw new LogOpenException(
                $"{folder} has a superblock but no segment: the mail in it is gone from here",
                "Restore the segment files, or move the directory away to begin an empty log.");
        }

        return (superblock, store);
    }

    private static LogFiles Load(IDisposable directoryLock, Stack<string> unsynced, IDisk disk, string folder)
    {
        (Superblock superblock, SegmentStore store) = Find(disk, folder, DiskFileMode.OpenExisting);
        string slotsPath = Path.Combine(folder, CommitSlots.FileName);
        if (!disk.FileExists(slotsPath))
        {
            CommitSlots.CreateEmpty(disk, slotsPath);
            disk.SyncDirectory(folder);
        }

        return new LogFiles(disk, directoryLock, unsynced, superblock, store, CommitSlots.Open(disk, slotsPath, superblock.Salt));
    }

    private void Examine(ILogger logger)
    {
        LogExtent extent = LogExtent.Of(Store, Slots.Latest, Superblock.PageSize);
        Begin = extent.Begin;
        DeleteNeedless(logger);
        FindCheckpoint(extent, logger);
        long from = _checkpoint?.Address ?? Begin;
        ScannedFrom = from;
        Scan = new LogScanner(Store, Superblock).Scan(from, extent.End, null, CancellationToken.None);
        CheckSegments(from);
        if (Slots.Latest is null)
        {
            Scan.Damage.Insert(0, new Finding(
                new DamagedRange(Begin, Begin, LogExtent.NoSlots), MayBeTorn: false));
        }

        Durable = Math.Max(Math.Max(Scan.DurableMark, extent.Durable), _checkpoint?.Durable ?? 0);
        long trimmed = Settle(logger);
        CrashRemains.AddMissingTail(Scan, Durable, Superblock.PageSize);
        foreach (Finding finding in Scan.Damage)
        {
            logger.LogError("Damage in the log from {From} to {To}: {Reason}; nothing was deleted", finding.From, finding.To, finding.Range.Reason);
        }

        if (trimmed > 0)
        {
            logger.LogInformation(
                "{Bytes} bytes behind the log's last record at {Tail} were overwritten with zeros: unfinished, unacknowledged writes, or what the segment held before", trimmed, Scan.Tail);
        }

        NextStart = FirstFreeAddress();
        SettleSkipped(logger);
    }

    // What a crash kept the last run from deleting. Nothing goes while names are not known to be on stable storage; the next truncation deletes it then.
    private void DeleteNeedless(ILogger logger)
    {
        if (_unsynced.Count > 0)
        {
            return;
        }

        try
        {
            Store.DeleteBelow((int)(Begin >> Store.Bits));
        }
        catch (DiskException e)
        {
            logger.LogWarning("A needless log segment could not be deleted: {Cause}", e.Message);
        }
    }

    /// <summary>A checkpoint spares the scan of everything below its address; one from before the log's head moved past it says too little.</summary>
    private void FindCheckpoint(LogExtent extent, ILogger logger)
    {
        _checkpoint = CheckpointReader.Open(_disk, Store.Directory, Superblock.Salt, out string? problem);
        if (_checkpoint is not null && !extent.Fits(_checkpoint))
        {
            problem = LogExtent.OtherTime;
            TakeCheckpoint()?.Dispose();
        }

        if (problem is not null)
        {
            logger.LogWarning("The checkpoint is not used: {Reason}; the whole log is read", problem);
        }
    }

    // Below the checkpoint nothing is read: that the files are there and whole is all that can be said of it.
    private void CheckSegments(long until)
    {
        for (int segment = (int)(Begin >> Store.Bits); segment < (int)(until >> Store.Bits); segment++)
        {
            long length = Store.LengthOf(segment);
            if (length < Store.SegmentSize)
            {
                long start = (long)segment << Store.Bits;
                string reason = length < 0 ? "the segment file is missing" : "the segment file is too short";
                Scan.Damage.Add(new Finding(new DamagedRange(start + Math.Max(0, length), start + Store.SegmentSize, reason), MayBeTorn: false));
            }
        }
    }

    /// <summary>
    /// Settles what a crash left of writes that were never acknowledged: damage above everything known to have been durable. After the last intact record
    /// it is overwritten with zeros, between records it is noted, so that neither is ever found again. What a killed process wrote and did not
    /// flush is flushed: everything that is replayed is durable from then on.
    /// </summary>
    /// <returns>The bytes that were overwritten.</returns>
    private long Settle(ILogger logger)
    {
        (long trimFrom, List<Finding> unfinished) = CrashRemains.TakeFrom(Scan, Durable, Superblock.PageSize);
        foreach (Finding finding in unfinished)
        {
            Unfinished.Add(new AddressRange(finding.From, finding.To));
            logger.LogWarning(
                "A write between {From} and {To} was not finished ({Reason}); nothing in it was acknowledged", finding.From, finding.To, finding.Range.Reason);
        }

        Unfinished.AddRange(CrashRemains.GapsIn(Scan, Durable));
        _flushTo = trimFrom;
        if (!TrySettle(new AddressRange(trimFrom, Scan.DataEnd), logger))
        {
            return 0;
        }

        long trimmed = Scan.DataEnd - trimFrom;
        Scan.DataEnd = trimFrom;
        return trimmed;
    }

    /// <summary>
    /// Pages between the last record and the next run that are not reported as damage, such as those before a page that cannot be read: what the segment held there before goes, or later starts could not
    /// tell it from records that were lost.
    /// </summary>
    private void SettleSkipped(ILogger logger)
    {
        if (!Superblock.BindsAddresses)
        {
            return;
        }

        long from = RoundUp(Math.Max(Scan.Tail, Scan.DataEnd));
        foreach (Finding finding in Scan.Damage.Where(f => f.To > from).OrderBy(static f => f.From).Append(new Finding(new DamagedRange(NextStart, NextStart, ""), MayBeTorn: false)))
        {
            if (finding.From > from)
            {
                _ = TrySettle(new AddressRange(from, finding.From), logger);
            }

            from = Math.Max(from, finding.To);
        }
    }

    // Otherwise the log opens to be read; it takes no records before this is done.
    private bool TrySettle(AddressRange range, ILogger logger)
    {
        _unsettled.Add(range);
        try
        {
            SettleAll();
            return true;
        }
        catch (DiskException e)
        {
            logger.LogError("The log's tail cannot be settled: {Cause}", e.Message);
            return false;
        }
    }

    private void SettleAll()
    {
        while (_unsettled.Count > 0)
        {
            Store.Erase(_unsettled[0].From, _unsettled[0].To, Superblock.PageSize);
            Store.Flush(Durable, _flushTo);
            _unsettled.RemoveAt(0);
        }
    }

    // A page that has a record is never written again, so nothing of an earlier run, intact or damaged, can be overwritten.
    private long FirstFreeAddress()
    {
        long used = Math.Max(Math.Max(Scan.Tail, Scan.DataEnd), Durable);
        foreach (Finding finding in Scan.Damage)
        {
            used = Math.Max(used, finding.To);
        }

        if (used <= LogScanner.FirstAddress)
        {
            return LogScanner.FirstAddress;
        }

        long start = RoundUp(used);
        long length = Store.LengthOf((int)(start >> Store.Bits));
        bool whole = length == Store.SegmentSize || length < 0;
        return whole ? StartFrom(start) : ((start >> Store.Bits) + 1) << Store.Bits;
    }

    /// <summary>
    /// Where a run may start that is to start at a page or behind it. A segment that does not exist yet may be one that is used again as it is: then a run does not start in its middle, or what it holds before
    /// that would have to be explained.
    /// </summary>
    public long StartFrom(long page)
    {
        bool startsSegment = (page & (Store.SegmentSize - 1)) == 0;
        return !Superblock.BindsAddresses || startsSegment || Store.Contains((int)(page >> Store.Bits)) ? page : ((page >> Store.Bits) + 1) << Store.Bits;
    }

    private long RoundUp(long address) => (address + Superblock.PageSize - 1) & -(long)Superblock.PageSize;
}
