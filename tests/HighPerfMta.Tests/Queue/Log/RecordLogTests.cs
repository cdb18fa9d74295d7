using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

public class RecordLogTests
{
    private readonly FaultyDisk _disk = new();

    [Fact]
    public async Task Records_survive_restarts_byte_for_byte_and_in_order_on_a_real_disk()
    {
        string directory = Directory.CreateTempSubdirectory("hpmta-log-").FullName;
        try
        {
            var written = new List<Written>();
            for (int run = 0; run < 3; run++)
            {
                await using FasterRecordLog log = FasterRecordLog.Open(LogBed.Options(directory), TimeProvider.System);
                Assert.Equal(written, log.Replayed());
                for (ulong id = 1; id <= 200; id++)
                {
                    Written record = await log.AppendAsync(id, (int)(id * 37 % 9000));
                    written.Add(record);
                    if (id % 7 == 0)
                    {
                        await log.WaitDurableAsync(record.Ref);
                        Assert.Equal(record.Payload, await log.ReadAsync(record));
                    }
                }

                await log.WaitDurableAsync(written[^1].Ref);
                Assert.Empty(log.Damage);
                Assert.Equal(LogCondition.Healthy, log.Condition);
            }
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public async Task An_empty_payload_is_a_record_like_others()
    {
        var written = new List<Written>();
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            for (ulong id = 1; id <= 9; id++)
            {
                written.Add(await log.AppendDurablyAsync(id, id == 5 ? 0 : 100));
            }

            Assert.Empty(await log.ReadAsync(written[4]));
        }

        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Equal(written, again.Replayed());
    }

    [Fact]
    public async Task The_largest_payload_fits_and_one_more_octet_is_a_bug_of_the_caller()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        Written largest = await log.AppendDurablyAsync(1, log.MaxPayload);
        Assert.Equal(largest.Payload, await log.ReadAsync(largest));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => log.AppendAsync(2, log.MaxPayload + 1));
        Written next = await log.AppendDurablyAsync(3, 10);
        Assert.Equal(next.Payload, await log.ReadAsync(next));
    }

    [Fact]
    public async Task More_than_log_memory_goes_through_and_pages_used_again_leave_nothing_behind()
    {
        List<Written> written;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            written = await log.FillAsync(5 * LogBed.Options().Memory, 1500);
            foreach (Written record in written.Where(static w => w.Id % 50 == 0))
            {
                Assert.Equal(record.Payload, await log.ReadAsync(record));
            }
        }

        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Empty(again.Damage);
        Assert.Equal(written, again.Replayed());
    }

    [Fact]
    public async Task Many_who_wait_are_all_woken_and_share_flushes()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        long before = _disk.Flushes;
        var all = new List<Written>();
        await Task.WhenAll(Enumerable.Range(0, 64).Select(writer => Task.Run(async () =>
        {
            for (int i = 0; i < 50; i++)
            {
                Written record = await log.AppendDurablyAsync((ulong)((writer * 1000) + i), 40 + i);
                Assert.True(log.DurableAddress > record.Ref.Address);
                lock (all)
                {
                    all.Add(record);
                }
            }
        })));
        Assert.True(_disk.Flushes - before < all.Count, $"{_disk.Flushes - before} flushes for {all.Count} records");
        await log.DisposeAsync();

        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Equal(all.OrderBy(static w => w.Ref.Address), again.Replayed());
    }

    [Fact]
    public async Task A_commit_asked_for_without_waiting_comes()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        Written first = await log.AppendAsync(1, 100);
        log.CommitSoon();
        // Reading waits until the record is durable, and asks for nothing itself that the commit would not do.
        Assert.Equal(first.Payload, await log.ReadAsync(first));
        Assert.True(log.DurableAddress > first.Ref.Address);
    }

    [Fact]
    public async Task Closing_makes_durable_what_was_appended()
    {
        Written last;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            last = await log.AppendAsync(1, 100);
        }

        await using FasterRecordLog again = LogBed.Open(_disk.PowerCut(1));
        Assert.Equal([last], again.Replayed());
    }

    [Fact]
    public async Task What_a_killed_process_had_written_is_durable_once_it_is_replayed()
    {
        FasterRecordLog log = LogBed.Open(_disk);
        List<Written> written = await log.FillAsync(LogBed.SegmentSize - 5000);
        FaultyDisk next;
        using (DiskFault flush = _disk.Block(DiskOperations.Flush, "seg."))
        {
            written.Add(await log.AppendAsync(100, 2000));
            log.CommitSoon();
            await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            next = _disk.Crash();
        }

        await log.DisposeAsync();
        await using (FasterRecordLog second = LogBed.Open(next))
        {
            Assert.Equal(written, second.Replayed());
            Assert.True(second.TailAddress > LogBed.SegmentSize);
            for (int seed = 0; seed < 10; seed++)
            {
                await using FasterRecordLog third = LogBed.Open(next.PowerCut(seed));
                Assert.Equal(written, third.Replayed());
            }
        }
    }

    [Fact]
    public async Task After_closing_everything_is_refused_and_said()
    {
        FasterRecordLog log = LogBed.Open(_disk);
        Written record = await log.AppendDurablyAsync(1, 10);
        var told = new List<LogCondition>();
        log.ConditionChanged += told.Add;
        await log.DisposeAsync();
        await log.DisposeAsync();
        Assert.Equal([LogCondition.Closed], told);
        Assert.Equal(LogCondition.Closed, log.Condition);
        var refused = await Assert.ThrowsAsync<LogUnavailableException>(() => log.AppendAsync(2, 10));
        Assert.Equal(LogCondition.Closed, refused.Condition);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => log.ReadAsync(record));
    }

    [Fact]
    public async Task Replay_comes_before_the_first_append()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        await log.AppendAsync(1, 10);
        Assert.Throws<InvalidOperationException>(() => log.Replayed());
    }

    [Fact]
    public async Task A_second_open_of_the_same_directory_is_refused_with_the_cause()
    {
        string directory = Directory.CreateTempSubdirectory("hpmta-log-").FullName;
        try
        {
            await using (FasterRecordLog first = FasterRecordLog.Open(LogBed.Options(directory), TimeProvider.System))
            {
                var refused = Assert.Throws<LogOpenException>(() => FasterRecordLog.Open(LogBed.Options(directory), TimeProvider.System));
                Assert.Contains(directory, refused.Message, StringComparison.Ordinal);
                Assert.Contains("in use", refused.Message, StringComparison.Ordinal);
                await first.AppendDurablyAsync(1, 10);
            }

            await using FasterRecordLog second = FasterRecordLog.Open(LogBed.Options(directory), TimeProvider.System);
            Assert.Single(second.Replayed());
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public async Task Without_sync_nobody_waits_for_the_disk()
    {
        FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { Sync = false });
        await using (log)
        {
            using (DiskFault flush = _disk.Block(DiskOperations.Flush, "seg."))
            {
                for (ulong id = 1; id <= 20; id++)
                {
                    Written record = await log.AppendDurablyAsync(id, 200);
                    Assert.Equal(id, record.Id);
                }
            }
        }

        // A clean end still flushes.
        await using FasterRecordLog again = LogBed.Open(_disk.PowerCut(3));
        Assert.Equal(20, again.Replayed().Count);
    }
}
