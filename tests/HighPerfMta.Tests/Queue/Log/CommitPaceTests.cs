using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Log;

public class CommitPaceTests
{
    private static readonly TimeSpan Gathering = CommitPace.Gathering;

    [Fact]
    public void Nothing_gathers_before_anything_is_known()
    {
        CommitPace pace = new();
        Assert.False(pace.ShouldGather);
        pace.Note(0, TimeSpan.Zero);
        Assert.False(pace.ShouldGather);
    }

    [Theory]
    // One commit in twice the time, three records each: another comes while records gather.
    [InlineData(3, 2, true)]
    // Three in four times the time: most pauses would bring nothing.
    [InlineData(3, 4, false)]
    // Fast, but there are few clients: they all wait for the same commit.
    [InlineData(2, 0.1, false)]
    [InlineData(3, 0.1, true)]
    // As fast, but the disk is slow enough to gather them by itself.
    [InlineData(CommitPace.Many - 1, 10, true)]
    [InlineData(CommitPace.Many, 10, false)]
    public void A_pause_pays_where_another_record_comes_in_it(int served, double gaps, bool pays)
    {
        CommitPace pace = new();
        for (int i = 0; i < 100; i++)
        {
            pace.Note(served, gaps * Gathering);
        }

        Assert.Equal(pays, pace.ShouldGather);
    }

    [Fact]
    public void Commits_that_nobody_waits_for_change_nothing()
    {
        CommitPace pace = new();
        pace.Note(4, Gathering);
        pace.Note(0, TimeSpan.FromSeconds(5));
        Assert.True(pace.ShouldGather);
    }

    [Fact]
    public void A_burst_after_a_quiet_day_is_seen_within_a_hundred_commits_and_its_end_with_the_first_one_after()
    {
        CommitPace pace = new();
        pace.Note(1, TimeSpan.FromDays(1));
        int commits = 0;
        for (; !pace.ShouldGather && commits < 1000; commits++)
        {
            pace.Note(3, Gathering);
        }

        Assert.InRange(commits, 1, 100);
        for (int i = 0; i < 100; i++)
        {
            pace.Note(3, Gathering);
        }

        pace.Note(1, TimeSpan.FromMilliseconds(10));
        Assert.False(pace.ShouldGather);
    }

    [Fact]
    public async Task The_log_pauses_before_a_commit_only_while_records_come_fast()
    {
        FakeTimeProvider time = new();
        FaultyDisk disk = new();
        WatchedBackground background = new();
        await using FasterRecordLog log = FasterRecordLog.Open(LogBed.Options(), time, null, disk, background);
        for (ulong id = 1; id <= 10; id++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
            await log.AppendDurablyAsync(id, 100);
        }

        Assert.DoesNotContain(Gathering, background.Pauses);
        Assert.True(background.Yields >= 10);

        // The clock stands still: these come infinitely fast, and several at once.
        ulong next = 11;
        for (int round = 0; !background.Pauses.Contains(Gathering) && round < 200; round++)
        {
            DiskFault flush = disk.Block(DiskOperations.Flush, "seg.");
            List<Task> waits = [log.AppendDurablyAsync(next++, 100)];
            await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            for (int i = 0; i < 8; i++)
            {
                Written written = await log.AppendAsync(next++, 100);
                waits.Add(log.WaitDurableAsync(written.Ref).AsTask());
            }

            flush.Dispose();
            await Task.WhenAll(waits).WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        }

        Assert.Contains(Gathering, background.Pauses);
    }
}
