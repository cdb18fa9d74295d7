using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue.Async;

public class DeparturesTests
{
    private static readonly AsyncLocal<int> Ambient = new();
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>On a thread that many wait for.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Who_leaves_goes_on_on_the_pool_when_the_piece_of_work_is_over(bool last)
    {
        Departures departures = new();
        (Task<bool> Leaving, bool WasEarly) seen = await OnThreadAsync(() =>
        {
            departures.Begin();
            Task<bool> leaving = IsOnPoolAfterLeavingAsync();
            LetPoolCatchUp();
            bool early = leaving.IsCompleted;
            if (last)
            {
                departures.End();
            }
            else
            {
                departures.HandOver();
            }

            return (leaving, early);
        });

        Assert.False(seen.WasEarly);
        Assert.True(await seen.Leaving.WaitAsync(Patience, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task After_the_last_piece_of_work_nobody_waits_for_the_thread()
    {
        Departures departures = new();
        Task<bool> leaving = await OnThreadAsync(() =>
        {
            departures.Begin();
            departures.End();
            return IsOnPoolAfterLeavingAsync();
        });

        Assert.True(await leaving.WaitAsync(Patience, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Ambient_values_go_along_for_whoever_asks_for_that()
    {
        Ambient.Value = 7;
        TaskCompletionSource<int> seen = new();
        Departures.LeaveAsync().GetAwaiter().OnCompleted(() => seen.SetResult(Ambient.Value));
        Ambient.Value = 8;
        Assert.Equal(7, await seen.Task.WaitAsync(Patience, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task The_thread_that_commits_is_left_only_by_those_who_run_there()
    {
        Assert.True(CommitThread.LeaveAsync().IsCompleted);
        (Task<bool> Leaving, bool Needs, bool WasEarly) seen = await OnThreadAsync(() =>
        {
            Task<bool> leaving = Task.FromResult(false);
            bool needs = false;
            bool early = true;
            CommitThread.Run(
                _ =>
                {
                    needs = !CommitThread.LeaveAsync().IsCompleted;
                    leaving = IsOnPoolAfterLeavingCommitsAsync();
                    LetPoolCatchUp();
                    early = leaving.IsCompleted;
                },
                this);
            return (leaving, needs, early);
        });

        Assert.True(seen.Needs);
        Assert.False(seen.WasEarly);
        Assert.True(await seen.Leaving.WaitAsync(Patience, TestContext.Current.CancellationToken));
    }

    private static async Task<bool> IsOnPoolAfterLeavingAsync()
    {
        await Departures.LeaveAsync();
        return Thread.CurrentThread.IsThreadPoolThread;
    }

    private static async Task<bool> IsOnPoolAfterLeavingCommitsAsync()
    {
        await CommitThread.LeaveAsync();
        return Thread.CurrentThread.IsThreadPoolThread && !CommitThread.IsCurrent;
    }

    /// <summary>What was queued to the pool before has most likely been done.</summary>
    private static void LetPoolCatchUp()
    {
        for (int i = 0; i < 3; i++)
        {
            using ManualResetEventSlim done = new();
            ThreadPool.UnsafeQueueUserWorkItem(static done => done.Set(), done, preferLocal: false);
            Assert.True(done.Wait(Patience));
        }
    }

    private static Task<T> OnThreadAsync<T>(Func<T> work) =>
        Task.Factory.StartNew(work, TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}
