namespace HighPerfMta.Queue;

/// <summary>
/// Tells the maker of a checkpoint when every change that began before a moment is whole: in the log and in the table. A change is entered
/// before its record is appended and left when the table shows it. Safe for concurrent use; one <see cref="SettleAsync"/> at a time.
/// </summary>
internal sealed class ChangeGate
{
    private readonly int[] _under = new int[32];
    private int _phase;
    private TaskCompletionSource? _settled;
    private Task _settling = Task.CompletedTask;

    /// <summary>Begins a change; give the result to <see cref="Leave"/>.</summary>
    public int Enter()
    {
        while (true)
        {
            int phase = Volatile.Read(ref _phase);
            Interlocked.Increment(ref Counter(phase));
            if (phase == Volatile.Read(ref _phase))
            {
                return phase;
            }

            Leave(phase);
        }
    }

    public void Leave(int phase)
    {
        if (Interlocked.Decrement(ref Counter(phase)) == 0 && phase != Volatile.Read(ref _phase))
        {
            Volatile.Read(ref _settled)?.TrySetResult();
        }
    }

    /// <summary>
    /// Completes when all changes that were under way at the call are whole. A call whose caller gave up waiting goes on: the next one waits for it too, for it may be the only one to know of a
    /// change that is still under way.
    /// </summary>
    public Task SettleAsync() => _settling = SettleAfterAsync(_settling);

    private async Task SettleAfterAsync(Task before)
    {
        await before;
        int phase = _phase;
        Interlocked.Exchange(ref _phase, 1 - phase);
        while (true)
        {
            TaskCompletionSource settled = new(TaskCreationOptions.RunContinuationsAsynchronously);
            Volatile.Write(ref _settled, settled);
            Interlocked.MemoryBarrier();
            if (Volatile.Read(ref Counter(phase)) == 0)
            {
                return;
            }

            await settled.Task;
        }
    }

    // Apart, so that the two are in different cache lines.
    private ref int Counter(int phase) => ref _under[phase * 16];
}
