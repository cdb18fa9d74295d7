using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>The addresses that a log's files say it has.</summary>
/// <param name="Begin">First address that is still kept.</param>
/// <param name="End">Behind everything that can be in the segments or was durable.</param>
/// <param name="Durable">Address below which every record was durable, as the commit slots know it.</param>
internal readonly record struct LogExtent(long Begin, long End, long Durable)
{
    public const string NoSlots = "both commit slots were unreadable; the log begins at its first segment";
    public const string OtherTime = "it is of another time than the log";

    /// <param name="store">The segments, at least one.</param>
    /// <param name="point">The newest commit slot; null: without it the first segment there is says where the log begins.</param>
    /// <param name="pageSize">Bytes of a page.</param>
    public static LogExtent Of(SegmentStore store, CommitPoint? point, int pageSize)
    {
        long lowest = Math.Max(LogScanner.FirstAddress, (long)store.First << store.Bits);
        CommitPoint known = point ?? new CommitPoint(lowest, lowest);
        long durableEnd = (known.Durable + pageSize - 1) & -(long)pageSize;
        return new LogExtent(known.Begin, Math.Max(((long)store.Last + 1) << store.Bits, durableEnd), known.Durable);
    }

    /// <summary>Whether a checkpoint is of this log: the head has not moved past it, and the log has what was durable then.</summary>
    public bool Fits(CheckpointReader checkpoint) => checkpoint.Address >= Begin && checkpoint.Durable <= End;
}
