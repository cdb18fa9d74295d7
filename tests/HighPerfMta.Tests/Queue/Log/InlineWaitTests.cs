using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

public class InlineWaitTests
{
    private readonly FaultyDisk _disk = new();

    [Fact]
    public async Task A_few_of_those_who_ask_for_it_go_on_on_the_thread_that_commits()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Task<(bool IsThere, bool IsDurable)>> asking = [];
        List<Task<(bool IsThere, bool IsDurable)>> others = [];
        using (DiskFault flush = _disk.Block(DiskOperations.Flush, "seg."))
        {
            // The flush for this one is under way while the rest comes: they share the next.
            others.Add(WaitAsync(log, await log.AppendAsync(1, 100), inline: false));
            await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            for (int id = 2; id < 2 + (2 * LogEngine.MaxInline); id++)
            {
                asking.Add(WaitAsync(log, await log.AppendAsync((ulong)id, 100), inline: true));
            }

            others.Add(WaitAsync(log, await log.AppendAsync(100, 100), inline: false));
        }

        (bool IsThere, bool IsDurable)[] asked = await Task.WhenAll(asking).WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.Equal(LogEngine.MaxInline, asked.Count(static e => e.IsThere));
        (bool IsThere, bool IsDurable)[] rest = await Task.WhenAll(others).WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.All(rest, static e => Assert.False(e.IsThere));
        Assert.All(asked.Concat(rest), static e => Assert.True(e.IsDurable));
    }

    [Fact]
    public async Task Who_is_told_that_his_record_is_lost_goes_on_elsewhere()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        DiskFault flush = _disk.Block(DiskOperations.Flush, "seg.");
        Written[] records = [await log.AppendAsync(1, 100), await log.AppendAsync(2, 100)];
        List<Task<(bool IsThere, bool IsDurable)>> waits = [WaitAsync(log, records[0], inline: true)];
        await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        waits.Add(WaitAsync(log, records[1], inline: true));
        using (_disk.Fail(DiskOperations.Flush, 5, "seg."))
        {
            flush.Dispose();
            Assert.All(await Task.WhenAll(waits).WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken), static e => Assert.Equal((false, false), e));
        }
    }

    /// <summary>Whether what follows the wait, or its failure, runs on the thread that commits. The test itself never does.</summary>
    private static Task<(bool IsThere, bool IsDurable)> WaitAsync(FasterRecordLog log, Written record, bool inline) => AfterAsync(log.WaitDurableAsync(record.Ref, inline));

    private static Task<(bool IsThere, bool IsDurable)> AfterAsync(ValueTask wait)
    {
        TaskCompletionSource<(bool IsThere, bool IsDurable)> end = new(TaskCreationOptions.RunContinuationsAsynchronously);
        ValueTaskAwaiter awaiter = wait.GetAwaiter();
        awaiter.UnsafeOnCompleted(() => end.SetResult((CommitThread.IsCurrent, Record.Exception(awaiter.GetResult) is null)));
        return end.Task;
    }
}
