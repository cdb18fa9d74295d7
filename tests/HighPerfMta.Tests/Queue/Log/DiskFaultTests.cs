using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>Full disks, failing disks, stuck disks: nothing is acknowledged falsely, everybody who waits is told, and the log comes back by itself.</summary>
public class DiskFaultTests
{
    private const int Eio = DiskException.InputOutput;
    private const int Enospc = DiskException.NoSpace;
    private readonly FaultyDisk _disk = new();

    [Theory]
    [InlineData(DiskOperations.Write, Enospc)]
    [InlineData(DiskOperations.Write, Eio)]
    [InlineData(DiskOperations.Flush, Eio)]
    [InlineData(DiskOperations.Flush, Enospc)]
    public async Task A_failing_data_write_fails_all_who_wait_and_the_log_comes_back_without_restart(DiskOperations operation, int errno)
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> good = await log.FillAsync(20_000);
        var lost = new List<Written>();
        DiskFault stuck = _disk.Block(operation, "seg.");
        for (ulong id = 100; id < 110; id++)
        {
            lost.Add(await log.AppendAsync(id, 3000));
        }

        using (DiskFault fault = _disk.Fail(operation, errno, "seg."))
        {
            stuck.Dispose();
            foreach (Written record in lost)
            {
                var failed = await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(record.Ref).AsTask().WaitAsync(LogBed.Patience));
                Assert.Equal(LogCondition.Failing, failed.Condition);
                Assert.Equal(errno, Assert.IsType<DiskException>(failed.InnerException).Errno);
            }

            await log.BecomesAsync(LogCondition.Failing);
            Assert.Equal(LogCondition.Failing, (await Assert.ThrowsAsync<LogUnavailableException>(() => log.AppendAsync(1, 10))).Condition);
            Assert.Equal(good[^1].Ref.Address + RecordHeader.Footprint(1000), log.DurableAddress);
            Assert.Equal(good[3].Payload, await log.ReadAsync(good[3]));
        }

        await log.BecomesAsync(LogCondition.Healthy);
        Written after = await log.AppendDurablyAsync(200, 3000);
        Assert.Equal(after.Payload, await log.ReadAsync(after));
        foreach (Written record in lost)
        {
            await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(record.Ref).AsTask());
            await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(record));
        }

        await AssertReplayAsync(_disk.PowerCut(7), [.. good, after]);
        await AssertReplayAsync(_disk.Crash(), [.. good, after]);
    }

    [Theory]
    [InlineData(DiskOperations.Write, Enospc)]
    [InlineData(DiskOperations.Write, Eio)]
    [InlineData(DiskOperations.Flush, Eio)]
    public async Task A_failing_write_of_the_commit_slots_is_never_swallowed(DiskOperations operation, int errno)
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> written = await log.FillAsync(3 * LogBed.SegmentSize);
        using (DiskFault fault = _disk.Fail(operation, errno, CommitSlots.FileName))
        {
            log.TruncateBefore(written[^1].Ref.Address);
            await log.BecomesAsync(LogCondition.Failing);
            // Stock FASTER deletes what the failed metadata would have stood for.
            Assert.Contains(LogBed.Segment(0), _disk.AllFiles());
            // With the flush failing, the new begin may or may not have reached the disk: it was asked for, so both are right.
            bool reached = operation == DiskOperations.Flush;
            await AssertReplayAsync(_disk.Crash(), reached ? [written[^1]] : written);
        }

        await log.BecomesAsync(LogCondition.Healthy);
        Written after = await log.AppendDurablyAsync(500, 100);
        await AssertReplayAsync(_disk.PowerCut(2), [.. written, after]);
    }

    [Fact]
    public async Task On_a_disk_filled_by_others_commits_go_on_into_the_stock_and_then_new_mail_is_refused_but_outcomes_go_through()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        var good = new List<Written> { await log.AppendDurablyAsync(1, 1000) };
        _disk.Free = 0;
        LogUnavailableException? refused = null;
        for (ulong id = 2; refused is null; id++)
        {
            try
            {
                good.Add(await log.AppendDurablyAsync(id, 4000));
            }
            catch (LogUnavailableException e)
            {
                refused = e;
            }

            Assert.True(id < 1000, "a full disk was never noticed");
        }

        Assert.Equal(LogCondition.LowSpace, refused.Condition);
        Assert.Equal(LogCondition.LowSpace, log.Condition);
        for (ulong id = 1000; id < 1200; id++)
        {
            good.Add(await log.AppendDurablyAsync(id, 60, id % 2 == 0 ? RecordType.Completed : RecordType.Deferred));
        }

        await AssertReplayAsync(_disk.PowerCut(5), good);

        _disk.Free = 1L << 40;
        await log.BecomesAsync(LogCondition.Healthy);
        good.Add(await log.AppendDurablyAsync(2000, 4000));
        await AssertReplayAsync(_disk.PowerCut(6), good);
    }

    [Fact]
    public async Task When_even_the_reserve_is_used_up_outcomes_wait_for_room()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        var good = new List<Written> { await log.AppendDurablyAsync(1, 1000) };
        _disk.Free = 0;
        Task<Written>? waiting = null;
        for (ulong id = 2; waiting is null; id++)
        {
            Task<Written> append = log.AppendAsync(id, 4000, RecordType.Completed);
            if (!append.IsCompleted)
            {
                waiting = append;
                break;
            }

            good.Add(await append);
            await log.WaitDurableAsync(good[^1].Ref);
            Assert.True(id < 1000, "a full disk was never noticed");
        }

        Assert.Equal(LogCondition.LowSpace, log.Condition);
        await AssertReplayAsync(_disk.Crash(), good);
        _disk.Free = 1L << 40;
        good.Add(await waiting.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken));
        await log.WaitDurableAsync(good[^1].Ref);
        await log.BecomesAsync(LogCondition.Healthy);
        await AssertReplayAsync(_disk.PowerCut(6), good);
    }

    [Fact]
    public async Task Free_space_below_the_low_water_mark_refuses_new_mail_only()
    {
        _disk.Free = 100L << 20;
        await using FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { DiskLowWater = 10 << 20 });
        await log.BecomesAsync(LogCondition.Healthy);
        _disk.Free = 9 << 20;
        await log.BecomesAsync(LogCondition.LowSpace);
        Assert.Equal(LogCondition.LowSpace, (await Assert.ThrowsAsync<LogUnavailableException>(() => log.AppendAsync(1, 10))).Condition);
        await log.AppendDurablyAsync(2, 10, RecordType.Completed);
        _disk.Free = 100L << 20;
        await log.BecomesAsync(LogCondition.Healthy);
        await log.AppendDurablyAsync(3, 10);
    }

    [Fact]
    public async Task How_long_a_flush_took_is_told()
    {
        FakeTimeProvider time = new();
        await using FasterRecordLog log = LogBed.Open(_disk, time);
        await log.AppendDurablyAsync(1, 1000);
        List<TimeSpan> told = [];
        log.Flushed = told.Add;
        Written slow;
        using (DiskFault fault = _disk.Block(DiskOperations.Flush, "seg."))
        {
            slow = await log.AppendAsync(2, 1000);
            _ = log.WaitDurableAsync(slow.Ref).AsTask();
            await fault.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            time.Advance(TimeSpan.FromMilliseconds(7));
        }

        await log.WaitDurableAsync(slow.Ref).AsTask().WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.Equal([TimeSpan.FromMilliseconds(7)], told);
    }

    [Fact]
    public async Task A_write_that_never_returns_fails_after_its_time_and_nothing_is_written_beside_it()
    {
        var time = new FakeTimeProvider();
        FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { WriteTimeout = TimeSpan.FromSeconds(30) }, time);
        List<Written> good = await log.FillAsync(5000);
        Written stuck;
        using (DiskFault fault = _disk.Block(DiskOperations.Write, "seg."))
        {
            stuck = await log.AppendAsync(100, 1000);
            Task waiting = log.WaitDurableAsync(stuck.Ref).AsTask();
            await fault.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            Task noticed = log.BecomesAsync(LogCondition.Failing);
            time.Advance(TimeSpan.FromSeconds(29));
            Assert.False(waiting.IsCompleted);
            time.Advance(TimeSpan.FromSeconds(30));
            var failed = await Assert.ThrowsAsync<LogUnavailableException>(() => waiting.WaitAsync(LogBed.Patience));
            Assert.IsType<TimeoutException>(failed.InnerException);
            await noticed;
            long writes = _disk.Writes;
            time.Advance(TimeSpan.FromSeconds(10));
            Assert.Equal(LogCondition.Failing, log.Condition);
            Assert.Equal(writes, _disk.Writes);
            Assert.Equal(good[0].Payload, await log.ReadAsync(good[0]));
        }

        // The stuck write has come back and reached the disk: it is erased before anything else is written.
        await time.PassUntilAsync(log.BecomesAsync(LogCondition.Healthy), TimeSpan.FromMilliseconds(5));
        Written after = await log.AppendDurablyAsync(200, 100);
        await log.DisposeAsync();
        await AssertReplayAsync(_disk, [.. good, after]);
    }

    [Fact]
    public async Task Closing_while_a_write_is_stuck_keeps_the_lock_until_it_comes_back()
    {
        FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { WriteTimeout = TimeSpan.FromMilliseconds(50) });
        Written good = await log.AppendDurablyAsync(1, 1000);
        using (DiskFault fault = _disk.Block(DiskOperations.Write, "seg."))
        {
            Written stuck = await log.AppendAsync(2, 1000);
            await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(stuck.Ref).AsTask().WaitAsync(LogBed.Patience));
            await log.DisposeAsync().AsTask().WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            Assert.Throws<LogOpenException>(() => LogBed.Open(_disk));
        }

        FasterRecordLog again = await OpenWhenReleasedAsync();
        await using (again)
        {
            Assert.Contains(good, again.Replayed());
        }
    }

    [Fact]
    public async Task An_existing_log_opens_on_a_disk_that_takes_no_writes_and_can_be_read()
    {
        Written good;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            good = await log.AppendDurablyAsync(1, 1000);
        }

        DiskFault fault = _disk.Fail(DiskOperations.Changes, Eio);
        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Equal(LogCondition.Failing, again.Condition);
        Assert.Equal([good], again.Replayed());
        Assert.Equal(good.Payload, await again.ReadAsync(good));
        await Assert.ThrowsAsync<LogUnavailableException>(() => again.AppendAsync(2, 10));
        fault.Dispose();
        await again.BecomesAsync(LogCondition.Healthy);
        await again.AppendDurablyAsync(3, 10);
    }

    [Fact]
    public async Task A_disk_that_fails_again_and_again_leaves_only_what_was_acknowledged()
    {
        var good = new List<Written>();
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            for (ulong round = 0; round < 12; round++)
            {
                good.Add(await log.AppendDurablyAsync(round, 500));
                DiskOperations operation = round % 2 == 0 ? DiskOperations.Write : DiskOperations.Flush;
                using (DiskFault fault = _disk.Fail(operation, Eio, round % 3 == 0 ? "" : "seg."))
                {
                    Written lost = await log.AppendAsync(1000 + round, 500);
                    await Assert.ThrowsAsync<LogUnavailableException>(() => log.WaitDurableAsync(lost.Ref).AsTask().WaitAsync(LogBed.Patience));
                }

                await log.BecomesAsync(LogCondition.Healthy);
            }
        }

        await AssertReplayAsync(_disk, good);
    }

    [Fact]
    public async Task An_append_that_finds_memory_full_waits_for_the_disk_and_fails_with_it()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        using DiskFault stuck = _disk.Block(DiskOperations.Flush, "seg.");
        Task<Written>? waiting = null;
        for (ulong id = 1; waiting is null; id++)
        {
            Task<Written> append = log.AppendAsync(id, 8000);
            waiting = append.IsCompleted ? null : append;
            Assert.True(id < 1000, "memory was never full");
        }

        DiskFault failing = _disk.Fail(DiskOperations.Changes, Eio);
        stuck.Dispose();
        await Assert.ThrowsAsync<LogUnavailableException>(() => waiting.WaitAsync(LogBed.Patience));
        failing.Dispose();
        await log.BecomesAsync(LogCondition.Healthy);
        await log.AppendDurablyAsync(5000, 100);
    }

    private async Task<FasterRecordLog> OpenWhenReleasedAsync()
    {
        using var limit = new CancellationTokenSource(LogBed.Patience);
        while (true)
        {
            try
            {
                return LogBed.Open(_disk);
            }
            catch (LogOpenException) when (!limit.IsCancellationRequested)
            {
                await Task.Yield();
            }
        }
    }

    private static async Task AssertReplayAsync(FaultyDisk disk, List<Written> expected)
    {
        await using FasterRecordLog log = LogBed.Open(disk);
        Assert.Empty(log.Damage);
        Assert.Equal(expected, log.Replayed());
    }
}
