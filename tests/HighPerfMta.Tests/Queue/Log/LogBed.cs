using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>A record as it was written or replayed.</summary>
internal sealed record Written(RecordRef Ref, RecordType Type, ulong Id, byte[] Payload)
{
    public bool Equals(Written? other) =>
        other is not null && other.Ref == Ref && other.Type == Type && other.Id == Id && other.Payload.AsSpan().SequenceEqual(Payload);

    public override int GetHashCode() => HashCode.Combine(Ref, Type, Id);

    public override string ToString() => $"{Type} {Id} at {Ref.Address} ({Ref.Length})";
}

/// <summary>A log with small pages and segments on a disk in memory.</summary>
internal static class LogBed
{
    public const string Root = "/data";
    public const int PageSize = 16 << 10;
    public const int SegmentSize = 64 << 10;

    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public static string Segment(int number) => $"{Root}/log/seg.{number:D10}";

    public static string Slots => $"{Root}/log/{CommitSlots.FileName}";

    public static QueueOptions Options(string root = Root) => new()
    {
        DataDirectory = root,
        Memory = 16 * PageSize,
        DiskLowWater = 0,
        SegmentSize = SegmentSize,
        PageSize = PageSize,
        WriteTimeout = TimeSpan.FromHours(1),
        ReopenInterval = TimeSpan.FromMilliseconds(5),
    };

    public static FasterRecordLog Open(FaultyDisk disk, TimeProvider? time = null) => Open(disk, Options(), time);

    public static FasterRecordLog Open(FaultyDisk disk, QueueOptions options, TimeProvider? time = null) =>
        FasterRecordLog.Open(options, time ?? TimeProvider.System, null, disk);

    /// <summary>A payload that tells its id and length.</summary>
    public static byte[] Payload(ulong id, int length)
    {
        byte[] payload = new byte[length];
        new Random((int)id).NextBytes(payload);
        return payload;
    }

    public static async Task<Written> AppendAsync(this FasterRecordLog log, ulong id, int length, RecordType type = RecordType.Accepted)
    {
        byte[] payload = Payload(id, length);
        RecordRef reference = await log.AppendAsync(type, id, payload, TestContext.Current.CancellationToken);
        return new Written(reference, type, id, payload);
    }

    public static async Task<Written> AppendDurablyAsync(this FasterRecordLog log, ulong id, int length, RecordType type = RecordType.Accepted)
    {
        Written written = await log.AppendAsync(id, length, type);
        await log.WaitDurableAsync(written.Ref).AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);
        return written;
    }

    /// <summary>Appends records until they reach beyond so many bytes from the start; the last one is durable.</summary>
    public static async Task<List<Written>> FillAsync(this FasterRecordLog log, long until, int length = 1000)
    {
        var all = new List<Written>();
        for (ulong id = 1; log.TailAddress < until; id++)
        {
            all.Add(await log.AppendAsync(id, length));
        }

        await log.WaitDurableAsync(all[^1].Ref).AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);
        return all;
    }

    public static async Task<byte[]> ReadAsync(this FasterRecordLog log, Written written)
    {
        byte[] payload = new byte[written.Ref.Length];
        await log.ReadAsync(written.Ref, written.Type, written.Id, payload, 0, TestContext.Current.CancellationToken).AsTask()
            .WaitAsync(Patience, TestContext.Current.CancellationToken);
        return payload;
    }

    public static List<Written> Replayed(this FasterRecordLog log)
    {
        var records = new List<Written>();
        log.Replay(
            (scoped in ScannedRecord r) => records.Add(new Written(r.Ref, r.Type, r.MessageId, r.Payload.ToArray())),
            TestContext.Current.CancellationToken);
        return records;
    }

    /// <summary>Completes when the log is in the condition.</summary>
    public static async Task BecomesAsync(this FasterRecordLog log, LogCondition condition)
    {
        var reached = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        void Look(LogCondition now)
        {
            if (now == condition)
            {
                reached.TrySetResult();
            }
        }

        log.ConditionChanged += Look;
        Look(log.Condition);
        await reached.Task.WaitAsync(Patience, TestContext.Current.CancellationToken);
        log.ConditionChanged -= Look;
    }
}
