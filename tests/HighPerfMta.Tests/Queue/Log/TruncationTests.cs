using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Log;

public class TruncationTests
{
    private readonly FaultyDisk _disk = new();

    [Fact]
    public async Task Whole_segments_below_the_address_are_deleted_and_stay_deleted()
    {
        List<Written> kept;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            List<Written> written = await log.FillAsync(6 * LogBed.SegmentSize);
            Written first = written.First(static w => w.Ref.Address > (3 * LogBed.SegmentSize) + 100);
            kept = [.. written.SkipWhile(w => w != first)];
            using DiskFault deleting = _disk.Block(DiskOperations.Delete | DiskOperations.Rename, "seg.");
            log.TruncateBefore(first.Ref.Address);
            await deleting.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            // The first file goes only after both slots say where the log begins now.
            await AssertBeginsAsync(_disk.PowerCut(1), kept);
        }

        Assert.DoesNotContain(LogBed.Segment(2), _disk.AllFiles());
        Assert.Contains(LogBed.Segment(3), _disk.AllFiles());
        await AssertBeginsAsync(_disk, kept);
    }

    [Fact]
    public async Task Nothing_is_deleted_before_what_makes_it_needless_is_durable()
    {
        FasterRecordLog log = LogBed.Open(_disk);
        List<Written> written = await log.FillAsync(3 * LogBed.SegmentSize);
        Written completion;
        using (DiskFault flush = _disk.Block(DiskOperations.Flush, "seg."))
        {
            completion = await log.AppendAsync(99, 10, RecordType.Completed);
            log.TruncateBefore(log.TailAddress);
            await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            Assert.Contains(LogBed.Segment(0), _disk.AllFiles());
        }

        await log.DisposeAsync();
        Assert.True(log.DurableAddress > completion.Ref.Address);
        Assert.NotEmpty(written);
    }

    [Fact]
    public async Task Addresses_are_not_used_again_after_truncating_everything()
    {
        long begin;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            await log.FillAsync(3 * LogBed.SegmentSize);
            using DiskFault deleting = _disk.Block(DiskOperations.Delete | DiskOperations.Rename, "seg.0000000000");
            log.TruncateBefore(log.TailAddress);
            await deleting.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            begin = log.BeginAddress;
        }

        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Empty(again.Replayed());
        Assert.Empty(again.Damage);
        Assert.True(again.BeginAddress >= begin);
        Written next = await again.AppendDurablyAsync(1, 10);
        Assert.True(next.Ref.Address > 3 * LogBed.SegmentSize);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Segments_of_few_pages_are_made_while_nothing_is_truncated(int pages)
    {
        const int Segments = 20;
        await using FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { SegmentSize = pages * LogBed.PageSize, ReopenInterval = TimeSpan.FromHours(1) });
        List<Written> written = await log.FillAsync(Segments * pages * LogBed.PageSize).WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.True(written[^1].Ref.Address > (Segments - 1) * pages * LogBed.PageSize);
    }

    [Fact]
    public async Task The_next_segment_is_made_when_half_of_one_is_full_and_nobody_waits_for_it()
    {
        FakeTimeProvider time = new();
        await using FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { ReopenInterval = TimeSpan.FromHours(1) }, time);
        await log.FillAsync(LogBed.SegmentSize + 1000);
        AwaitSpares(2);
        time.Advance(TimeSpan.FromSeconds(1));
        await log.FillAsync((2 * LogBed.SegmentSize) + 1000);
        AwaitSpares(1);
        await log.FillAsync((5 * LogBed.SegmentSize / 2) + 1000);
        AwaitSpares(2);
    }

    [Fact]
    public async Task Old_segments_are_kept_for_mail_of_the_next_minute_and_no_longer()
    {
        FakeTimeProvider time = new();
        await using FasterRecordLog log = LogBed.Open(_disk, LogBed.Options() with { ReopenInterval = TimeSpan.FromSeconds(1) }, time);
        List<Written> written = await log.FillAsync(10 * LogBed.SegmentSize);
        log.TruncateBefore(written[^1].Ref.Address);
        Await("filling.", 4);
        Pass(time, 50);
        await log.AppendDurablyAsync(1, 10);
        Pass(time, 50);
        Assert.Equal(4, Count("filling."));
        Pass(time, 30);
        Await("filling.", 0);
        AwaitSpares(2);
    }

    private static void Pass(FakeTimeProvider time, int seconds)
    {
        for (int i = 0; i < seconds; i++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
        }
    }

    private int Count(string name) => _disk.AllFiles().Count(f => f.Contains(name, StringComparison.Ordinal));

    private void Await(string name, int count) => Assert.True(SpinWait.SpinUntil(() => Count(name) == count, LogBed.Patience), string.Join(' ', _disk.AllFiles()));

    private void AwaitSpares(int count) => Await("spare.", count);

    private static async Task AssertBeginsAsync(FaultyDisk disk, List<Written> kept)
    {
        await using FasterRecordLog log = LogBed.Open(disk);
        Assert.Empty(log.Damage);
        Assert.Equal(kept[0].Ref.Address, log.BeginAddress);
        Assert.Equal(kept, log.Replayed());
    }
}
