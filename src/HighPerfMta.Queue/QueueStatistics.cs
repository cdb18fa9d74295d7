namespace HighPerfMta.Queue;

/// <summary>How the queue stands: in memory and on the disk.</summary>
/// <param name="Messages">Queued messages.</param>
/// <param name="Jobs">Jobs of them.</param>
/// <param name="IndexBytes">Resident bytes of the table of jobs.</param>
/// <param name="LogBytes">Bytes from the head of the log to its tail.</param>
/// <param name="LiveBytes">Bytes of it that are needed, at least.</param>
/// <param name="CompactedBytes">Octets of messages moved to the tail since the start.</param>
/// <param name="CompactedMessages">Messages moved since the start.</param>
/// <param name="Checkpoints">Checkpoints written since the start.</param>
/// <param name="CheckpointAddress">Log address of the newest checkpoint; 0 without one.</param>
/// <param name="UnwrittenStates">Jobs whose state waits for a failing log.</param>
/// <param name="CommitTime">How long a commit takes now.</param>
/// <param name="FreeBytes">Free bytes of the disk, as last looked at.</param>
public sealed record QueueStatistics(
    int Messages, int Jobs, long IndexBytes, long LogBytes, long LiveBytes, long CompactedBytes, long CompactedMessages, int Checkpoints, long CheckpointAddress, int UnwrittenStates, TimeSpan CommitTime, long FreeBytes)
{
    /// <summary>Of a queue that has neither log nor jobs.</summary>
    public static QueueStatistics None { get; } = new(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, TimeSpan.Zero, long.MaxValue);
}
