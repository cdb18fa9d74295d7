using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>How many octets of a data directory are what.</summary>
public sealed record SpoolSizes
{
    /// <summary>Segments that hold a part of the log.</summary>
    public int Segments { get; init; }

    /// <summary>Octets of one segment.</summary>
    public long SegmentBytes { get; init; }

    /// <summary>Octets of one page.</summary>
    public int PageBytes { get; init; }

    /// <summary>Segments that wait for their turn.</summary>
    public int Spares { get; init; }

    /// <summary>First address that is still kept.</summary>
    public long Begin { get; init; }

    /// <summary>End of the last record.</summary>
    public long Tail { get; init; }

    /// <summary>Octets from the one to the other.</summary>
    public long LogBytes => Tail - Begin;

    /// <summary>Octets of them that queued messages need, at least.</summary>
    public long LiveBytes { get; init; }

    /// <summary>The others: compaction begins when there are more of them than live ones, and a segment besides.</summary>
    public long DeadBytes => Math.Max(0, LogBytes - LiveBytes);

    /// <summary>Log address that the checkpoint stands for; 0 when there is none that can be used.</summary>
    public long CheckpointAddress { get; init; }

    /// <summary>Octets of the log that a start reads.</summary>
    public long BehindCheckpoint => Tail - Math.Max(Begin, CheckpointAddress);

    internal static SpoolSizes Of(OfflineFiles files, LogState state, long live, long checkpoint)
    {
        IReadOnlyList<string> names = files.Directory.List();
        return new SpoolSizes
        {
            Segments = names.Count(static n => n.StartsWith(SegmentStore.Prefix, StringComparison.Ordinal)),
            SegmentBytes = files.Superblock.SegmentSize,
            PageBytes = files.Superblock.PageSize,
            Spares = names.Count(static n => n.StartsWith(SegmentStock.SparePrefix, StringComparison.Ordinal)),
            Begin = files.Extent.Begin,
            Tail = state.Tail,
            LiveBytes = live,
            CheckpointAddress = checkpoint,
        };
    }
}
