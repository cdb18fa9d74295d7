using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>Writes of several pages that were not finished: no later record is believed that builds on an earlier one that is not there.</summary>
public class UnfinishedWriteTests
{
    private readonly FaultyDisk _disk = new();

    [Fact]
    public async Task What_a_failed_write_left_is_erased_from_its_end_on()
    {
        List<FaultyDisk> killed = [];
        List<Written> good;
        List<Written> lost;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            DiskFault stuck = _disk.Block(DiskOperations.Write, SegmentStore.Prefix);
            (good, lost) = await AppendPagesAsync(log, stuck, static random => random.Next(300, 3000));
            using DiskFault fault = _disk.Fail(DiskOperations.Flush, DiskException.InputOutput, SegmentStore.Prefix, after: 1);
            Task erasing = KillAtEachOperation(killed, firstFlush: 2, lastFlush: 5);
            stuck.Dispose();
            await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(lost[^1].Ref).AsTask().WaitAsync(LogBed.Patience));
            await erasing.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        }

        Assert.All(killed, static d => Assert.Contains(LogBed.Segment(1), d.AllFiles()));
        Assert.True(killed.Count > 3);
        foreach (FaultyDisk disk in killed)
        {
            await using FasterRecordLog log = LogBed.Open(disk);
            Assert.Empty(log.Damage);
            List<Written> replayed = log.Replayed();
            Assert.Equal(good.Concat(lost).Take(replayed.Count), replayed);
            Assert.True(replayed.Count >= good.Count);
        }
    }

    [Fact]
    public async Task A_record_at_the_end_of_a_page_that_never_arrived_is_known_to_be_unfinished_from_then_on()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        DiskFault stuck = _disk.Block(DiskOperations.Write, SegmentStore.Prefix);
        (List<Written> good, List<Written> lost) = await AppendPagesAsync(log, stuck, static random => random.Next(20, random.Next(2) == 0 ? 100 : 2000));
        using DiskFault flush = _disk.Block(DiskOperations.Flush, SegmentStore.Prefix, after: 1);
        stuck.Dispose();
        await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        int missing = 0;
        for (int seed = 0; seed < 100; seed++)
        {
            FaultyDisk cut = _disk.PowerCut(seed);
            List<Written> holes;
            await using (FasterRecordLog next = LogBed.Open(cut))
            {
                List<Written> replayed = next.Replayed();
                Assert.Empty(next.Damage);
                Assert.Equal(good, replayed.Take(good.Count));
                holes = [.. lost.TakeWhile(w => w != replayed[^1]).Except(replayed)];
                missing += holes.Count;
                AssertUnfinished(next, holes, seed);
                Assert.DoesNotContain(replayed, w => next.IsUnfinished(w.Ref.Address));
            }

            await using FasterRecordLog later = LogBed.Open(cut);
            Assert.Empty(later.Damage);
            AssertUnfinished(later, holes, seed);
        }

        Assert.True(missing > 100);
    }

    [Fact]
    public async Task What_a_killed_process_wrote_and_did_not_flush_is_flushed_before_anything_else_is_written()
    {
        FaultyDisk killed;
        List<Written> all;
        Written last;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            all = await log.FillAsync(LogBed.SegmentSize - LogBed.PageSize);
            using DiskFault flush = _disk.Block(DiskOperations.Flush, SegmentStore.Prefix);
            last = await log.AppendAsync(1000, 3000);
            log.CommitSoon();
            await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            killed = _disk.Crash();
        }

        int length = RecordHeader.Footprint(last.Ref.Length);
        Assert.False(killed.IsDurable(LogBed.Segment(0), last.Ref.Address, length));
        DiskFault fault = killed.Fail(DiskOperations.Flush, DiskException.InputOutput, LogBed.Segment(0));
        await using FasterRecordLog next = LogBed.Open(killed);
        Assert.Equal(last, next.Replayed()[^1]);
        Assert.Equal(LogCondition.Failing, next.Condition);
        Assert.DoesNotContain(LogBed.Segment(1), killed.AllFiles());
        fault.Dispose();
        await next.BecomesAsync(LogCondition.Healthy);
        Assert.True(killed.IsDurable(LogBed.Segment(0), last.Ref.Address, length));
        Written later = await next.AppendDurablyAsync(1001, 100);
        Assert.True(later.Ref.Address > LogBed.SegmentSize);

        // However often the first run failed before it could write: what was read then is still there, and counts.
        await using FasterRecordLog again = LogBed.Open(killed.Crash());
        Assert.Empty(again.Damage);
        Assert.Equal([.. all, last, later], again.Replayed());
        Assert.False(again.IsUnfinished(last.Ref.Address));
    }

    /// <summary>One record that is being written, then records on several pages of two segments that wait for it.</summary>
    private static async Task<(List<Written> Good, List<Written> Lost)> AppendPagesAsync(FasterRecordLog log, DiskFault stuck, Func<Random, int> length)
    {
        Random random = new(5);
        Written first = await log.AppendAsync(1, 500, RecordType.Completed);
        log.CommitSoon();
        await stuck.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        List<Written> lost = [];
        for (ulong id = 2; log.TailAddress < LogBed.SegmentSize + (LogBed.PageSize * 3 / 2); id++)
        {
            lost.Add(await log.AppendAsync(id, length(random), RecordType.Completed));
        }

        log.CommitSoon();
        return ([first], lost);
    }

    /// <summary>Notes what a killed process would leave before each operation on segments from one of their flushes to another; completes then.</summary>
    private Task KillAtEachOperation(List<FaultyDisk> killed, int firstFlush, int lastFlush)
    {
        TaskCompletionSource reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int flushes = 0;
        _disk.Before = (operation, path) =>
        {
            if (operation == DiskOperations.Read || !path.Contains(SegmentStore.Prefix, StringComparison.Ordinal))
            {
                return;
            }

            flushes += operation == DiskOperations.Flush ? 1 : 0;
            if (flushes >= firstFlush && flushes <= lastFlush)
            {
                killed.Add(_disk.Crash());
            }

            if (flushes == lastFlush)
            {
                reached.TrySetResult();
            }
        };
        return reached.Task;
    }

    private static void AssertUnfinished(FasterRecordLog log, List<Written> holes, int seed)
    {
        foreach (Written hole in holes)
        {
            Assert.True(log.IsUnfinished(hole.Ref.Address), $"seed {seed}: {hole} is not there, and nobody knows");
        }
    }
}
