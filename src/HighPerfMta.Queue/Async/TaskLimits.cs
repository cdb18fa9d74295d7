namespace HighPerfMta.Queue.Async;

/// <summary>Waits with a limit.</summary>
public static class TaskLimits
{
    /// <summary>
    /// Waits for a task, but not for longer than the limit. As <see cref="Task.WaitAsync(TimeSpan, TimeProvider, CancellationToken)"/>, but goes on in the caller's context only, without a detour over the thread pool.
    /// </summary>
    /// <exception cref="TimeoutException">The limit is over; the task goes on.</exception>
    public static async Task WithinAsync(this Task task, TimeSpan limit, TimeProvider time, CancellationToken cancellation = default)
    {
        if (!task.IsCompleted)
        {
            await FirstAsync(task, limit, time, cancellation);
        }

        await task;
    }

    /// <inheritdoc cref="WithinAsync(Task, TimeSpan, TimeProvider, CancellationToken)"/>
    public static async Task<T> WithinAsync<T>(this Task<T> task, TimeSpan limit, TimeProvider time, CancellationToken cancellation = default)
    {
        if (!task.IsCompleted)
        {
            await FirstAsync(task, limit, time, cancellation);
        }

        return await task;
    }

    private static async Task FirstAsync(Task task, TimeSpan limit, TimeProvider time, CancellationToken cancellation)
    {
        TaskCompletionSource first = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using ITimer timer = time.CreateTimer(static state => ((TaskCompletionSource)state!).TrySetException(new TimeoutException()), first, limit, Timeout.InfiniteTimeSpan);
        using CancellationTokenRegistration registration = cancellation.UnsafeRegister(static (state, token) => ((TaskCompletionSource)state!).TrySetCanceled(token), first);
        _ = TellAsync(task, first);
        await first.Task;
    }

    // What became of the task its waiter asks itself.
    private static async Task TellAsync(Task task, TaskCompletionSource first)
    {
        await task.ConfigureAwait(ConfigureAwaitOptions.ContinueOnCapturedContext | ConfigureAwaitOptions.SuppressThrowing);
        first.TrySetResult();
    }
}
