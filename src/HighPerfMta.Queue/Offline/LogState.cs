using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue.Offline;

/// <summary>What the scans of a log come to: its end, its damage, and what a crash left of writes that were never acknowledged.</summary>
/// <param name="Tail">End of the last intact record.</param>
/// <param name="Durable">Address below which everything is known to have been on stable storage.</param>
/// <param name="Damage">Damaged ranges, by address.</param>
/// <param name="Unfinished">Ranges between records that a crash left unfinished.</param>
/// <param name="Torn">The same behind the last record; empty when its ends are equal.</param>
internal sealed record LogState(long Tail, long Durable, IReadOnlyList<Finding> Damage, IReadOnlyList<Finding> Unfinished, AddressRange Torn)
{
    /// <param name="log">A log whose queue has been loaded.</param>
    /// <param name="files">Its files.</param>
    /// <param name="checkpointDurable">What the checkpoint knows to have been durable; 0 without one.</param>
    public static LogState Of(OfflineLog log, OfflineFiles files, long checkpointDurable)
    {
        // The first scan goes to the end of the log, whatever it began at; another one is of what lies before it.
        ScanResult tail = log.Scans[0];
        long durable = Math.Max(Math.Max(tail.DurableMark, files.Extent.Durable), checkpointDurable);
        (long trimFrom, List<Finding> unfinished) = CrashRemains.TakeFrom(tail, durable, files.Superblock.PageSize);
        CrashRemains.AddMissingTail(tail, durable, files.Superblock.PageSize);
        List<Finding> damage = [.. log.Scans.SelectMany(static s => s.Damage).OrderBy(static f => f.From)];
        return new LogState(tail.Tail, durable, damage, unfinished, new AddressRange(trimFrom, Math.Max(trimFrom, tail.DataEnd)));
    }
}
