using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>A log always has a segment, and a record is durable only with the name of the segment that it is in.</summary>
public class SegmentNameTests
{
    private const string Folder = "/data/log";
    private readonly FaultyDisk _disk = new();

    [Fact]
    public async Task A_log_whose_records_end_with_their_segment_keeps_it_when_none_of_them_is_needed()
    {
        List<Written> last;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            last = (await FillExactlyAsync(log, 2 * LogBed.SegmentSize)).FindAll(static w => w.Ref.Address >= LogBed.SegmentSize);
            Task deleting = Leaves(LogBed.Segment(0));
            log.TruncateBefore(log.TailAddress);
            await deleting.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        }

        Assert.Contains(LogBed.Segment(1), _disk.AllFiles());
        Assert.DoesNotContain(LogBed.Segment(2), _disk.AllFiles());
        await AssertOpensAsync(_disk.PowerCut(1), last);
        await AssertOpensAsync(_disk, last);
    }

    [Fact]
    public async Task What_was_kept_for_want_of_another_segment_goes_with_the_next_record()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        await FillExactlyAsync(log, 2 * LogBed.SegmentSize);
        Task first = Leaves(LogBed.Segment(0));
        log.TruncateBefore(log.TailAddress);
        await first.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Task second = Leaves(LogBed.Segment(1));
        Written next = await log.AppendDurablyAsync(1000, 100);
        await second.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.Equal(2 * LogBed.SegmentSize, log.BeginAddress);
        await AssertOpensAsync(_disk.PowerCut(3), [next]);
    }

    [Fact]
    public async Task A_log_that_begins_where_no_segment_is_opens_and_does_so_after_a_power_cut_at_any_operation()
    {
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            await FillExactlyAsync(log, LogBed.SegmentSize);
        }

        Superblock superblock = Superblock.Read(_disk, $"{Folder}/{Superblock.FileName}", out _)!;
        using (CommitSlots slots = CommitSlots.Open(_disk, LogBed.Slots, superblock.Salt))
        {
            slots.Write(new CommitPoint(LogBed.SegmentSize, LogBed.SegmentSize));
            slots.Write(new CommitPoint(LogBed.SegmentSize, LogBed.SegmentSize));
        }

        List<FaultyDisk> cuts = CutAtEachOperation();
        Written next;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            next = await log.AppendDurablyAsync(1000, 100);
        }

        _disk.Before = null;
        Assert.Equal(LogBed.SegmentSize, next.Ref.Address & -LogBed.SegmentSize);
        await AssertOpensAsync(_disk, [next]);
        await AssertAllOpenAsync(cuts, []);
    }

    [Fact]
    public async Task No_record_is_durable_while_the_name_of_its_segment_is_not()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        await FillExactlyAsync(log, LogBed.SegmentSize);
        Written next;
        Task waiting;
        using (UnsyncedName name = new(_disk, LogBed.Segment(1)))
        {
            next = await log.AppendAsync(1000, 100);
            waiting = log.WaitDurableAsync(next.Ref).AsTask();
            await name.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            Assert.Contains(LogBed.Segment(1), _disk.AllFiles());
            Assert.False(waiting.IsCompleted);
            Assert.Equal(LogBed.SegmentSize, log.DurableAddress);
        }

        await waiting.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.True(_disk.IsDurable(LogBed.Segment(1), 0, RecordHeader.Footprint(100)));
    }

    [Theory]
    [InlineData(DiskException.InputOutput)]
    [InlineData(DiskException.NoSpace)]
    public async Task A_segment_whose_name_could_not_be_synced_holds_nothing_that_was_acknowledged(int errno)
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> good = await FillExactlyAsync(log, LogBed.SegmentSize);
        using (DiskFault fault = _disk.Fail(DiskOperations.SyncDirectory, errno, Folder))
        {
            Written lost = await log.AppendAsync(1000, 100);
            await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(lost.Ref).AsTask().WaitAsync(LogBed.Patience));
            await fault.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            await AssertOpensAtAnyStateAsync(good);
        }

        await log.BecomesAsync(LogCondition.Healthy);
        good.Add(await log.AppendDurablyAsync(1001, 100));
        await AssertOpensAtAnyStateAsync(good);
    }

    [Theory]
    [InlineData(Folder, DiskException.InputOutput)]
    [InlineData(Folder, 22)]
    [InlineData("/data", DiskException.NoSpace)]
    [InlineData("", DiskException.InputOutput)]
    public async Task A_name_that_a_killed_process_left_unsynced_is_synced_before_anything_is_acknowledged(string directory, int errno)
    {
        FaultyDisk killed;
        List<Written> good;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            good = await FillExactlyAsync(log, LogBed.SegmentSize);
            using UnsyncedName name = new(_disk, LogBed.Segment(1));
            _ = await log.AppendAsync(1000, 100);
            log.CommitSoon();
            await name.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            killed = _disk.Crash();
        }

        Assert.Contains(LogBed.Segment(1), killed.AllFiles());
        DiskFault fault = killed.Fail(DiskOperations.SyncDirectory, errno, directory);
        await using FasterRecordLog again = LogBed.Open(killed);
        Assert.Equal(good, again.Replayed());
        Assert.Equal(LogCondition.Failing, again.Condition);
        await Assert.ThrowsAsync<LogUnavailableException>(() => again.AppendAsync(1001, 100));
        Assert.Equal(new byte[LogBed.SegmentSize], killed.Contents(LogBed.Segment(1)));
        fault.Dispose();
        await again.BecomesAsync(LogCondition.Healthy);
        Written next = await again.AppendDurablyAsync(1002, 100);
        Assert.True(killed.IsDurable(LogBed.Segment(1), next.Ref.Address - LogBed.SegmentSize, RecordHeader.Footprint(100)));
    }

    [Theory]
    [InlineData(13)]
    [InlineData(22)]
    public async Task Above_the_data_directory_it_need_not_be_possible_to_sync(int errno)
    {
        await LogBed.Open(_disk).DisposeAsync();
        // The first two syncs are of the log's folder and of the data directory.
        DiskFault fault = _disk.Fail(DiskOperations.SyncDirectory, errno, after: 2);
        await using FasterRecordLog log = LogBed.Open(_disk);
        Assert.True(fault.Struck.IsCompleted);
        Assert.NotEqual(LogCondition.Failing, log.Condition);
        fault.Dispose();
        await log.BecomesAsync(LogCondition.Healthy);
        await log.AppendDurablyAsync(1, 100);
    }

    [Fact]
    public async Task A_run_that_resumes_behind_a_segment_that_stays_empty_opens_after_the_end_of_the_process_at_any_operation()
    {
        List<FaultyDisk> cuts;
        List<Written> good;
        Written after;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            good = await FillExactlyAsync(log, LogBed.SegmentSize);
            DiskFault stuck = _disk.Block(DiskOperations.Rename, SegmentStock.SparePrefix);
            Written lost = await log.AppendAsync(1000, 100, RecordType.Completed);
            log.CommitSoon();
            await stuck.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            while (log.TailAddress < 2 * LogBed.SegmentSize)
            {
                lost = await log.AppendAsync(1001, 8000, RecordType.Completed);
            }

            cuts = CutAtEachOperation();
            using (DiskFault fails = _disk.Fail(DiskOperations.Rename, DiskException.InputOutput, SegmentStock.SparePrefix))
            {
                stuck.Dispose();
                await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(lost.Ref).AsTask().WaitAsync(LogBed.Patience));
            }

            await log.BecomesAsync(LogCondition.Healthy);
            after = await log.AppendDurablyAsync(1002, 100);
            _disk.Before = null;
        }

        Assert.True(after.Ref.Address > 2 * LogBed.SegmentSize);
        await AssertOpensAsync(_disk, [.. good, after]);
        Assert.True(cuts.Count > 10);
        await AssertAllOpenAsync(cuts, good);
    }

    [Fact]
    public async Task What_cannot_be_deleted_when_the_log_opens_does_not_keep_it_from_opening()
    {
        FaultyDisk killed;
        List<Written> kept;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            List<Written> written = await log.FillAsync(3 * LogBed.SegmentSize);
            kept = written.FindAll(static w => w.Ref.Address > 2 * LogBed.SegmentSize);
            using DiskFault deleting = _disk.Block(DiskOperations.Delete | DiskOperations.Rename, "seg.");
            log.TruncateBefore(kept[0].Ref.Address);
            await deleting.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            killed = _disk.Crash();
        }

        using (DiskFault fault = killed.Fail(DiskOperations.Delete, DiskException.InputOutput, "seg."))
        {
            await AssertOpensAsync(killed, kept);
            Assert.Contains(LogBed.Segment(0), killed.AllFiles());
        }

        await AssertOpensAsync(killed, kept);
        Assert.DoesNotContain(LogBed.Segment(1), killed.AllFiles());
    }

    /// <summary>Appends records of which the last one ends at the address exactly; all of them are durable.</summary>
    private static async Task<List<Written>> FillExactlyAsync(FasterRecordLog log, long end)
    {
        List<Written> all = [];
        for (ulong id = 1; log.TailAddress < end; id++)
        {
            int left = LogBed.PageSize - (int)(log.TailAddress % LogBed.PageSize);
            all.Add(await log.AppendAsync(id, (left > LogBed.PageSize / 2 ? LogBed.PageSize / 4 : left) - RecordHeader.Overhead));
        }

        await log.WaitDurableAsync(all[^1].Ref).AsTask().WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.Equal(end, log.TailAddress);
        Assert.Equal(end, log.DurableAddress);
        return all;
    }

    /// <summary>Ends when the log gives up the segment.</summary>
    private Task Leaves(string path)
    {
        TaskCompletionSource asked = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _disk.Before = (operation, file) =>
        {
            if (operation is DiskOperations.Delete or DiskOperations.Rename && file == path)
            {
                asked.TrySetResult();
            }
        };
        return asked.Task;
    }

    /// <summary>From when the segment has its name on no sync of a directory is done before this is disposed.</summary>
    private sealed class UnsyncedName : IDisposable
    {
        private readonly FaultyDisk _disk;
        private readonly ManualResetEventSlim _released = new();
        private readonly TaskCompletionSource _struck = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public UnsyncedName(FaultyDisk disk, string segment)
        {
            _disk = disk;
            disk.Before = (operation, _) =>
            {
                if (operation == DiskOperations.SyncDirectory && disk.AllFiles().Contains(segment))
                {
                    _struck.TrySetResult();
                    _released.Wait();
                }
            };
        }

        /// <summary>Completes when the segment has its name.</summary>
        public Task Struck => _struck.Task;

        public void Dispose()
        {
            _disk.Before = null;
            _released.Set();
        }
    }

    private List<FaultyDisk> CutAtEachOperation()
    {
        List<FaultyDisk> cuts = [];
        _disk.Before = (operation, _) =>
        {
            if (operation != DiskOperations.Read)
            {
                lock (cuts)
                {
                    cuts.Add(_disk.Crash());
                    cuts.Add(_disk.PowerCut(cuts.Count));
                    cuts.Add(_disk.PowerCut(cuts.Count));
                }
            }
        };
        return cuts;
    }

    private static async Task AssertAllOpenAsync(List<FaultyDisk> disks, List<Written> expected)
    {
        foreach (FaultyDisk disk in disks)
        {
            await using FasterRecordLog log = LogBed.Open(disk);
            Assert.Empty(log.Damage);
            Assert.Equal(expected, log.Replayed().Take(expected.Count));
            await log.AppendDurablyAsync(2000, 100);
        }
    }

    private async Task AssertOpensAtAnyStateAsync(List<Written> expected)
    {
        for (int seed = 0; seed < 20; seed++)
        {
            await AssertOpensAsync(_disk.PowerCut(seed), expected);
        }
    }

    private static async Task AssertOpensAsync(FaultyDisk disk, List<Written> expected)
    {
        await using FasterRecordLog log = LogBed.Open(disk);
        Assert.Empty(log.Damage);
        Assert.Equal(expected, log.Replayed());
        Assert.Equal(LogCondition.Healthy, log.Condition);
    }
}
