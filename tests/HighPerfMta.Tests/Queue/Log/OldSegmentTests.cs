using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Offline;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>A log whose next segments hold what they held under an earlier number: records of this very log, intact but for their place.</summary>
public sealed class OldSegmentTests
{
    private const int Segments = 3;

    // As large as the record that opens a run: whatever a crash left of them lies where the records of the next run begin.
    private const int Small = sizeof(long);

    private readonly FaultyDisk _disk = new();
    private List<Written> _before = [];

    [Fact]
    public async Task Records_of_an_earlier_turn_are_never_taken_for_the_present_ones()
    {
        await PrepareAsync();
        List<Written> written = [.. _before];
        List<FaultyDisk> ends = [];
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            Assert.Equal(_before, log.Replayed());
            for (ulong id = 5000; log.TailAddress < (Segments + 3) * LogBed.SegmentSize; id++)
            {
                written.Add(await log.AppendDurablyAsync(id, 700));
                if (id % 20 == 0)
                {
                    ends.Add(_disk.Crash());
                    ends.Add(_disk.PowerCut((int)id));
                }
            }

            Assert.True(HoldsOld(_disk, log.TailAddress));
        }

        Assert.True(ends.Count > 10);
        foreach (FaultyDisk end in ends)
        {
            await using FasterRecordLog log = LogBed.Open(end);
            List<Written> replayed = log.Replayed();
            Assert.Empty(log.Damage);
            Assert.Equal(written.Take(replayed.Count), replayed);
            Assert.True(replayed.Count > _before.Count);
        }

        await using FasterRecordLog last = LogBed.Open(_disk);
        Assert.Equal(written, last.Replayed());
    }

    [Fact]
    public async Task A_clean_end_and_a_start_leave_nothing_old_in_a_page_with_records()
    {
        await PrepareAsync();
        FaultyDisk killed;
        long tail;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            await log.FillAsync(((Segments + 1) * LogBed.SegmentSize) + LogBed.PageSize);
            tail = log.TailAddress;
            killed = _disk.Crash();
        }

        Assert.True(HoldsOld(killed, tail));
        await LogBed.Open(killed).DisposeAsync();
        foreach (FaultyDisk disk in new[] { _disk, killed })
        {
            Assert.DoesNotContain(RestOfPage(disk, tail), static octet => octet != 0);
            // Behind the page nothing was touched.
            Assert.True(HoldsOld(disk, ((tail / LogBed.PageSize) + 2) * LogBed.PageSize));
            using OfflineDirectory directory = OfflineDirectory.Open(LogBed.Root, disk);
            SpoolReport report = await SpoolVerifier.RunAsync(directory, TimeProvider.System, TestContext.Current.CancellationToken);
            // The records are no mail, and that is all there is to say.
            Assert.All(report.Findings, static f => Assert.StartsWith("the record cannot be understood", f.Text, StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task What_a_power_cut_left_of_later_records_never_comes_back_behind_those_of_the_next_run()
    {
        await PrepareAsync();
        FasterRecordLog log = LogBed.Open(_disk);
        await log.FillAsync((Segments * LogBed.SegmentSize) + LogBed.PageSize, length: 500);
        using DiskFault stuck = _disk.Block(DiskOperations.Write, SegmentStore.Prefix);
        Written good = await log.AppendAsync(7000, Small);
        log.CommitSoon();
        await stuck.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        long page = (good.Ref.Address / LogBed.PageSize * LogBed.PageSize) + LogBed.PageSize;
        for (ulong id = 7001; log.TailAddress < page + (LogBed.PageSize * 7 / 8); id++)
        {
            _ = await log.AppendAsync(id, Small);
        }

        log.CommitSoon();
        using DiskFault flush = _disk.Block(DiskOperations.Flush, SegmentStore.Prefix, after: 1);
        stuck.Dispose();
        await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        int torn = 0;
        for (int seed = 0; seed < 60; seed++)
        {
            FaultyDisk cut = _disk.PowerCut(seed);
            List<Written> known;
            FaultyDisk killed;
            await using (FasterRecordLog next = LogBed.Open(cut))
            {
                known = next.Replayed();
                Assert.Empty(next.Damage);
                Assert.Contains(good, known);
                torn += known[^1].Ref.Address < page ? 1 : 0;
                // A write ends with a block of 4 KiB, zeros behind its last record. Three blocks are full to the last octet when so many records are in a page.
                for (ulong id = 9001; next.TailAddress % LogBed.PageSize != 3 * 4096; id++)
                {
                    known.Add(await next.AppendAsync(id, Small));
                }

                await next.WaitDurableAsync(known[^1].Ref).AsTask().WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
                killed = cut.Crash();
            }

            await using FasterRecordLog again = LogBed.Open(killed);
            Assert.Empty(again.Damage);
            Assert.Equal(known, again.Replayed());
        }

        Assert.True(torn > 5);
        flush.Dispose();
        await log.DisposeAsync();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task A_run_after_one_that_failed_begins_where_nothing_old_is_before_it(int segments)
    {
        await PrepareAsync();
        List<Written> kept = [.. _before];
        FaultyDisk killed;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            kept.Add(await log.AppendDurablyAsync(5000, 900));
            DiskFault stuck = _disk.Block(DiskOperations.Write, SegmentStore.Prefix);
            _ = await log.AppendAsync(6000, 900);
            log.CommitSoon();
            await stuck.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            // Into segments that do not exist yet.
            long until = log.TailAddress + (segments * LogBed.SegmentSize) + (LogBed.PageSize / 2);
            for (ulong id = 6001; log.TailAddress < until; id++)
            {
                _ = await log.AppendAsync(id, 900);
            }

            using (DiskFault fault = _disk.Fail(DiskOperations.Flush, DiskException.InputOutput, SegmentStore.Prefix))
            {
                stuck.Dispose();
                await log.BecomesAsync(LogCondition.Failing);
            }

            await log.BecomesAsync(LogCondition.Healthy);
            kept.Add(await log.AppendDurablyAsync(8000, 900));
            killed = _disk.Crash();
        }

        await using FasterRecordLog again = LogBed.Open(killed);
        Assert.Empty(again.Damage);
        Assert.Equal(kept, again.Replayed());
        Assert.True(kept[^1].Ref.Address > kept[^2].Ref.Address + (segments * LogBed.SegmentSize));
    }

    /// <summary>The last spare goes with a name that could not be synced, and no other can be made: the segment that the tail was to be in becomes a hole, and there is none to start in behind it.</summary>
    [Fact]
    public async Task Where_a_run_starts_after_one_that_failed_does_not_change_while_room_for_it_is_missing()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        await Waiting.UntilAsync(() => Spares().Length == 2);
        ulong id = 1;
        using (DiskFault noSegment = _disk.Fail(DiskOperations.Write, DiskException.NoSpace, SegmentStock.FillingPrefix))
        {
            while (log.TailAddress < LogBed.SegmentSize + LogBed.PageSize)
            {
                await log.AppendDurablyAsync(id++, 900, RecordType.Completed);
            }

            Assert.Single(Spares());
            DiskFault stuck = _disk.Block(DiskOperations.Write, SegmentStore.Prefix);
            _ = await log.AppendAsync(id++, 900, RecordType.Completed);
            log.CommitSoon();
            await stuck.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            while (log.TailAddress < (2 * LogBed.SegmentSize) + (LogBed.PageSize / 2))
            {
                _ = await log.AppendAsync(id++, 900, RecordType.Completed);
            }

            log.CommitSoon();
            using (DiskFault names = _disk.Fail(DiskOperations.SyncDirectory, DiskException.InputOutput, "/log"))
            {
                stuck.Dispose();
                await log.BecomesAsync(LogCondition.Failing);
            }

            int attempts = 0;
            _disk.Before = (operation, path) => attempts += operation == DiskOperations.Write && path.Contains(SegmentStock.FillingPrefix, StringComparison.Ordinal) ? 1 : 0;
            await Waiting.UntilAsync(() => Volatile.Read(ref attempts) > 6);
            _disk.Before = null;
        }

        await log.BecomesAsync(LogCondition.Healthy);
        Written next = await log.AppendDurablyAsync(5000, 100);
        Assert.True(next.Ref.Address >= 3 * LogBed.SegmentSize);
        Assert.Equal(next.Payload, await log.ReadAsync(next));
    }

    [Fact]
    public async Task What_the_next_run_skips_beside_damage_is_not_damage_later()
    {
        await PrepareAsync();
        FaultyDisk killed;
        long page;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            await log.FillAsync((Segments * LogBed.SegmentSize) + (LogBed.PageSize / 2));
            page = log.TailAddress / LogBed.PageSize * LogBed.PageSize;
            killed = _disk.Crash();
        }

        long unreadable = page + (2 * LogBed.PageSize);
        using (DiskFault fault = killed.Fail(DiskOperations.Read, DiskException.InputOutput, LogBed.Segment((int)(unreadable / LogBed.SegmentSize)), after: 2))
        {
            await using FasterRecordLog log = LogBed.Open(killed);
            Assert.Equal(unreadable, Assert.Single(log.Damage).FromAddress);
            Assert.True((await log.AppendDurablyAsync(9000, 100)).Ref.Address > unreadable);
        }

        await using FasterRecordLog again = LogBed.Open(killed);
        Assert.DoesNotContain(again.Damage, d => d.FromAddress < unreadable);
        Assert.Equal(9000ul, again.Replayed()[^1].Id);
    }

    [Fact]
    public async Task Lost_pages_of_durable_records_are_damage_and_the_old_ones_behind_them_are_not()
    {
        await PrepareAsync();
        Written last;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            last = (await log.FillAsync(((Segments + 1) * LogBed.SegmentSize) + (LogBed.PageSize * 3 / 2)))[^1];
        }

        // The last page with records becomes what it was before.
        FaultyDisk damaged = _disk.Crash();
        long page = last.Ref.Address / LogBed.PageSize * LogBed.PageSize;
        int segment = (int)(page / LogBed.SegmentSize);
        byte[] old = _disk.Contents(LogBed.Segment(1));
        damaged.Corrupt(LogBed.Segment(segment), octets =>
        {
            int at = (int)(page % LogBed.SegmentSize);
            old.AsSpan(at, LogBed.PageSize).CopyTo(octets.AsSpan(at));
            return octets;
        });
        await using FasterRecordLog again = LogBed.Open(damaged);
        Assert.Equal(page, again.Damage.Min(static d => d.FromAddress));
        Assert.Equal(page + LogBed.PageSize, again.Damage.Max(static d => d.ToAddress));
        Assert.True((await again.AppendDurablyAsync(9000, 100)).Ref.Address < page + (2 * LogBed.PageSize));
    }

    [Fact]
    public async Task A_log_of_format_2_stays_one_and_its_spares_are_zeros()
    {
        QueueOptions options = LogBed.Options() with { LogFormat = 2 };
        List<Written> written = [];
        await using (FasterRecordLog log = LogBed.Open(_disk, options))
        {
            written.AddRange(await log.FillAsync(LogBed.SegmentSize / 2));
        }

        for (int run = 0; run < 8; run++)
        {
            // Its options say nothing of formats.
            await using FasterRecordLog log = LogBed.Open(_disk);
            Assert.Equal(written, log.Replayed());
            for (long until = log.TailAddress + LogBed.SegmentSize; log.TailAddress < until;)
            {
                written.Add(await log.AppendDurablyAsync(5000 + (ulong)written.Count, 900));
            }

            long begin = log.TailAddress / LogBed.SegmentSize * LogBed.SegmentSize;
            written.RemoveAll(w => w.Ref.Address < begin);
            log.TruncateBefore(begin);
            await Waiting.UntilAsync(() => log.BeginAddress >= begin);
        }

        Assert.Equal(2, BitConverter.ToInt32(_disk.Contents($"{LogBed.Root}/log/{Superblock.FileName}"), 8));
        Assert.NotEmpty(Spares());
        Assert.All(Spares(), path => Assert.Equal(new byte[LogBed.SegmentSize], _disk.Contents(path)));
    }

    /// <summary>A log with records, and beside it only spares that hold copies of its segments.</summary>
    private async Task PrepareAsync()
    {
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            _before = await log.FillAsync((Segments * LogBed.SegmentSize) - LogBed.PageSize);
        }

        foreach (string spare in Spares())
        {
            _disk.Delete(spare);
        }

        for (int i = 0; i < 6; i++)
        {
            using IDiskFile file = _disk.Open($"{LogBed.Root}/log/{SegmentStock.SparePrefix}{100 + i:D10}", DiskFileMode.CreateNew);
            file.Write(0, _disk.Contents(LogBed.Segment(i % (Segments - 1))));
            file.Flush();
        }

        _disk.SyncDirectory($"{LogBed.Root}/log");
    }

    private string[] Spares() => [.. _disk.AllFiles().Where(static f => f.Contains(SegmentStock.SparePrefix, StringComparison.Ordinal))];

    private static bool HoldsOld(FaultyDisk disk, long address) => RestOfPage(disk, address).ContainsAnyExcept((byte)0);

    private static byte[] RestOfPage(FaultyDisk disk, long address)
    {
        int at = (int)(address % LogBed.SegmentSize);
        return disk.Contents(LogBed.Segment((int)(address / LogBed.SegmentSize)))[at..((at / LogBed.PageSize * LogBed.PageSize) + LogBed.PageSize)];
    }
}
