using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>The files of a log that is only read: nothing is trimmed, deleted or mended.</summary>
internal sealed class OfflineFiles : IDisposable
{
    private OfflineFiles(OfflineDirectory directory, Superblock superblock, SegmentStore store)
    {
        Directory = directory;
        Superblock = superblock;
        Store = store;
        Reader = new SegmentReader(store, superblock);
    }

    public OfflineDirectory Directory { get; }

    public Superblock Superblock { get; }

    public SegmentStore Store { get; }

    public SegmentReader Reader { get; }

    public LogExtent Extent { get; private set; }

    /// <summary>The newest commit slot; null if neither is intact.</summary>
    public CommitPoint? Point { get; private set; }

    /// <summary>Commit slots that are intact: 0 to 2.</summary>
    public int IntactSlots { get; private set; }

    /// <summary>Why the file with the commit slots cannot be read; null when it can.</summary>
    public string? SlotsProblem { get; private set; }

    /// <exception cref="LogOpenException">There is no superblock or segment that this program understands.</exception>
    public static OfflineFiles Open(OfflineDirectory directory)
    {
        try
        {
            (Superblock superblock, SegmentStore store) = LogFiles.Find(directory.Disk, directory.Folder, DiskFileMode.ReadExisting);
            OfflineFiles files = new(directory, superblock, store);
            files.ReadSlots();
            files.Extent = LogExtent.Of(store, files.Point, superblock.PageSize);
            return files;
        }
        catch (DiskException e)
        {
            throw new LogOpenException($"The log in {directory.Root} cannot be opened: {e.Message}", "Check the disk and the directory's permissions.", e);
        }
    }

    /// <summary>The checkpoint; null with the reason if there is none (then without one) or it cannot be used.</summary>
    public CheckpointReader? OpenCheckpoint(out string? problem)
    {
        CheckpointReader? checkpoint = CheckpointReader.Open(Directory.Disk, Directory.Folder, Superblock.Salt, out problem);
        if (checkpoint is null || Extent.Fits(checkpoint))
        {
            return checkpoint;
        }

        problem = LogExtent.OtherTime;
        checkpoint.Dispose();
        return null;
    }

    /// <summary>The file that holds an address.</summary>
    public string FileOf(long address) => Store.PathOf((int)(address >> Store.Bits));

    /// <summary>Where in that file it is, octets.</summary>
    public long OffsetOf(long address) => address & (Store.SegmentSize - 1);

    public void Dispose() => Store.Dispose();

    private void ReadSlots()
    {
        try
        {
            using CommitSlots slots = CommitSlots.Open(Directory.Disk, Path.Combine(Directory.Folder, CommitSlots.FileName), Superblock.Salt, DiskFileMode.ReadExisting);
            Point = slots.Latest;
            IntactSlots = slots.Intact;
        }
        catch (DiskException e)
        {
            SlotsProblem = e.Message;
        }
    }
}
