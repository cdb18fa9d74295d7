using System.Runtime.InteropServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Housekeeping;

/// <summary>
/// Writes the table with the log address that it stands for, now and then, so that a start reads that and the log's tail only. The table changes while it is
/// written: every change from the address on is in the log and is made again at start, and every change below it is whole before the writing begins.
/// </summary>
internal sealed partial class Checkpointer(MailQueue queue)
{
    private static readonly TimeSpan SettleLimit = TimeSpan.FromSeconds(60);

    private readonly byte[] _block = GC.AllocateUninitializedArray<byte>(JobTable.ChunkJobs * Job.Bytes);
    private long _last;

    /// <summary>Checkpoints written since the start.</summary>
    public int Written { get; private set; }

    /// <summary>The log address of the newest checkpoint; 0 if there is none.</summary>
    public long Address => Volatile.Read(ref _last);

    /// <summary>There is one already, from before the start.</summary>
    public void Found(long address) => Volatile.Write(ref _last, address);

    /// <summary>The log grew by a segment, or by half the table's size if that is more: a start reads no more of the log than that.</summary>
    public bool IsDue() => queue.Log.TailAddress - Math.Max(Address, queue.Log.BeginAddress) >= Math.Max(queue.Options.SegmentSize, queue.Jobs.ResidentBytes / 2);

    /// <summary>Writes one, unless the log is not well or the disk refuses: then the old one stays, and the next start reads more of the log.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        if (queue.Condition is not (LogCondition.Healthy or LogCondition.LowSpace) || queue.Ledger.Dirty > 0)
        {
            return;
        }

        try
        {
            long address = queue.Log.TailAddress;
            await queue.Changes.SettleAsync().WithinAsync(SettleLimit, queue.Time, cancellation);
            await WriteAsync(address, cancellation);
            Volatile.Write(ref _last, address);
            Written++;
        }
        catch (Exception e) when (e is DiskException or LogUnavailableException or TimeoutException)
        {
            NotWritten(queue.Logger, e.Message);
        }
    }

    private async Task WriteAsync(long address, CancellationToken cancellation)
    {
        int chunks = queue.Jobs.Chunks;
        using CheckpointWriter writer = queue.Log.BeginCheckpoint(address);
        WriteNames(writer);
        for (int i = 0; i < chunks; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            Copy(i);
            writer.AppendBlock(_block);
            // The committer and the couriers want the processor too.
            await Task.Yield();
        }

        // What the entries point to is on stable storage before they can be believed.
        long tail = queue.Log.TailAddress;
        queue.Log.CommitSoon();
        await queue.Log.WaitDurableAsync(new RecordRef(tail - RecordHeader.Footprint(0), 0));
        writer.Complete(tail);
    }

    private void WriteNames(CheckpointWriter writer)
    {
        RecordWriter names = new(64 << 10);
        try
        {
            CheckpointCodec.Write(ref names, queue.LastId, queue.Book);
            writer.AppendNames(names.Written.Span);
        }
        finally
        {
            names.Dispose();
        }
    }

    private void Copy(int chunk)
    {
        ReadOnlySpan<byte> jobs = MemoryMarshal.AsBytes(queue.Jobs.ReadChunk(chunk));
        if (jobs.IsEmpty)
        {
            _block.AsSpan().Clear();
        }
        else
        {
            jobs.CopyTo(_block);
        }
    }

    [LoggerMessage(20, LogLevel.Warning, "No checkpoint was written ({Reason}); the next start reads more of the log")]
    private static partial void NotWritten(ILogger logger, string reason);
}
