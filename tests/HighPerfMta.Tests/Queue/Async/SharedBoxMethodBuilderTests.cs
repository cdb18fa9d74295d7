using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue.Async;

#pragma warning disable VSTHRD002 // Taking a result at the wrong time is what is tested.

/// <summary>Async methods with shared boxes behave as the language's own do.</summary>
public class SharedBoxMethodBuilderTests
{
    private static readonly AsyncLocal<int> Ambient = new();

    [Fact]
    public async Task A_method_that_never_waits_is_complete_at_once()
    {
        ValueTask<int> sum = SumAsync(Task.CompletedTask, 1, 2);
        ValueTask nothing = NothingAsync(Task.CompletedTask);

        Assert.True(sum.IsCompletedSuccessfully);
        Assert.True(nothing.IsCompletedSuccessfully);
        Assert.Equal(3, await sum);
        await nothing;
    }

    [Fact]
    public async Task A_method_that_waits_gives_its_result_afterwards()
    {
        TaskCompletionSource gate = new();
        ValueTask<int> sum = SumAsync(gate.Task, 1, 2);
        ValueTask nothing = NothingAsync(gate.Task);
        Assert.False(sum.IsCompleted);
        Assert.False(nothing.IsCompleted);

        gate.SetResult();

        Assert.Equal(3, await sum);
        await nothing;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Exceptions_reach_the_caller_before_and_after_a_wait(bool waits)
    {
        TaskCompletionSource gate = new();
        ValueTask<int> failing = FailAsync(waits ? gate.Task : Task.CompletedTask, new FormatException("x"));
        ValueTask<int> cancelled = FailAsync(waits ? gate.Task : Task.CompletedTask, new OperationCanceledException());
        gate.SetResult();

        Assert.True(waits || (cancelled.IsCanceled && failing.IsFaulted));
        Assert.Equal("x", (await Assert.ThrowsAsync<FormatException>(async () => await failing)).Message);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await cancelled);
    }

    [Fact]
    public async Task Ambient_values_are_the_callers_after_each_wait_and_changes_do_not_leak_out()
    {
        TaskCompletionSource gate = new();
        Ambient.Value = 7;
        ValueTask<(int Before, int After)> seen = AmbientAsync(gate.Task);
        Assert.Equal(7, Ambient.Value);
        Ambient.Value = 8;
        await Task.Run(
            () =>
            {
                Ambient.Value = 9;
                gate.SetResult();
            },
            TestContext.Current.CancellationToken);

        Assert.Equal((7, 70), await seen);
        Assert.Equal(8, Ambient.Value);
    }

    [Fact]
    public async Task Changes_do_not_reach_whoever_resumes_it_in_the_same_context()
    {
        ManualGate first = new();
        ManualGate second = new();
        Ambient.Value = 7;
        ValueTask<(int Before, int After)> seen = AmbientAsync(first, second);

        first.Open();
        Assert.Equal(7, Ambient.Value);
        second.Open();
        Assert.Equal(7, Ambient.Value);
        Assert.Equal((7, 70), await seen);
    }

    [Fact]
    public async Task A_result_is_taken_once()
    {
        TaskCompletionSource gate = new();
        ValueTask<int> sum = SumAsync(gate.Task, 1, 2);
        ValueTask<int> copy = sum;
        Assert.Throws<InvalidOperationException>(() => sum.GetAwaiter().GetResult());
        gate.SetResult();
        Assert.Equal(3, await sum);

        Assert.Throws<InvalidOperationException>(() => copy.GetAwaiter().GetResult());
    }

    [Fact]
    public async Task Many_calls_at_once_from_many_threads_never_mix()
    {
        Task[] callers = new Task[32];
        for (int c = 0; c < callers.Length; c++)
        {
            int caller = c;
            callers[c] = Task.Run(
                async () =>
                {
                    for (int i = 0; i < 2000; i++)
                    {
                        Assert.Equal(caller + i + 6, await NestedAsync(caller, i));
                    }
                },
                TestContext.Current.CancellationToken);
        }

        await Task.WhenAll(callers);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private static async ValueTask<int> NestedAsync(int a, int b)
    {
        await Task.Yield();
        int first = await SumAsync(Task.CompletedTask, a, 1);
        int second = await SumAsync(Task.Run(static () => { }, TestContext.Current.CancellationToken), b, 2);
        await NothingAsync(Task.Run(static () => { }, TestContext.Current.CancellationToken));
        try
        {
            return await FailAsync(Task.Run(static () => { }, TestContext.Current.CancellationToken), new FormatException("3"));
        }
        catch (FormatException e)
        {
            return first + second + int.Parse(e.Message, System.Globalization.CultureInfo.InvariantCulture);
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private static async ValueTask<int> SumAsync(Task gate, int a, int b)
    {
        await gate;
        return a + b;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private static async ValueTask NothingAsync(Task gate) => await gate.ConfigureAwait(false);

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private static async ValueTask<int> FailAsync(Task gate, Exception error)
    {
        await gate;
        throw error;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private static async ValueTask<(int Before, int After)> AmbientAsync(ManualGate first, ManualGate second)
    {
        await first;
        int before = Ambient.Value;
        Ambient.Value = 70;
        await second;
        return (before, Ambient.Value);
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private static async ValueTask<(int Before, int After)> AmbientAsync(Task gate)
    {
        await gate;
        int before = Ambient.Value;
        Ambient.Value = 70;
        await Task.Yield();
        return (before, Ambient.Value);
    }

    /// <summary>Whoever opens it runs what waits for it, there and then.</summary>
    private sealed class ManualGate : ICriticalNotifyCompletion
    {
        private Action? _waiting;

        public bool IsCompleted => false;

        public ManualGate GetAwaiter() => this;

        public void GetResult()
        {
        }

        public void OnCompleted(Action continuation) => _waiting = continuation;

        public void UnsafeOnCompleted(Action continuation) => _waiting = continuation;

        public void Open() => _waiting!();
    }
}
