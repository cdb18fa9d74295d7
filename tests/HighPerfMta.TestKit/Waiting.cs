using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.TestKit;

/// <summary>Waits for what other threads bring about. The limit is generous and only bounds a failure, which says what did not happen.</summary>
public static class Waiting
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // Between two looks others run; who looked without a pause would take their processor.
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);

    /// <summary>Waits for a condition.</summary>
    /// <exception cref="TimeoutException">It has not come true.</exception>
    public static async Task UntilAsync(Func<bool> condition, [CallerArgumentExpression(nameof(condition))] string what = "")
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            ThrowIfOver(start, what);
            await Task.Delay(Pause);
        }
    }

    /// <summary>Lets the clock run in steps until the task has ended: who waits may still be on its way to its wait when time passes.</summary>
    /// <exception cref="TimeoutException">It does not end.</exception>
    public static Task PassUntilAsync(this FakeTimeProvider time, Task task, TimeSpan step, [CallerArgumentExpression(nameof(task))] string what = "") =>
        time.PassUntilAsync(task, () => step, () => what);

    /// <inheritdoc cref="PassUntilAsync(FakeTimeProvider, Task, TimeSpan, string)"/>
    public static async Task<T> PassUntilAsync<T>(this FakeTimeProvider time, Task<T> task, TimeSpan step, [CallerArgumentExpression(nameof(task))] string what = "")
    {
        await time.PassUntilAsync(task, () => step, () => what);
        return await task;
    }

    /// <inheritdoc cref="PassUntilAsync(FakeTimeProvider, Task, TimeSpan, string)"/>
    /// <param name="time">The clock.</param>
    /// <param name="task">What is waited for.</param>
    /// <param name="step">The time that passes next.</param>
    /// <param name="what">What is missing, for the failure.</param>
    public static async Task PassUntilAsync(this FakeTimeProvider time, Task task, Func<TimeSpan> step, Func<string> what)
    {
        ArgumentNullException.ThrowIfNull(time);
        long start = Stopwatch.GetTimestamp();
        while (!task.IsCompleted)
        {
            ThrowIfOver(start, what);
            time.Advance(step());
            await Task.WhenAny(task, Task.Delay(Pause));
        }

        await task;
    }

    private static void ThrowIfOver(long start, string what) => ThrowIfOver(start, () => what);

    private static void ThrowIfOver(long start, Func<string> what)
    {
        if (Stopwatch.GetElapsedTime(start) > Patience)
        {
            throw new TimeoutException($"did not happen: {what()}");
        }
    }
}
