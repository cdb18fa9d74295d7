namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Transactions wait here until all that wait are let through together.</summary>
internal sealed class RoundGate
{
    private readonly Lock _lock = new();
    private TaskCompletionSource _gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _waiting;
    private bool _open;

    public int Waiting
    {
        get
        {
            lock (_lock)
            {
                return _waiting;
            }
        }
    }

    public ValueTask WaitAsync(CancellationToken stop)
    {
        lock (_lock)
        {
            if (_open)
            {
                return default;
            }

            _waiting++;
            return new ValueTask(_gate.Task.WaitAsync(stop));
        }
    }

    /// <summary>Those that wait now go on; later ones wait again, unless <paramref name="forGood"/>.</summary>
    public void LetThrough(bool forGood = false)
    {
        TaskCompletionSource gate;
        lock (_lock)
        {
            gate = _gate;
            _gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiting = 0;
            _open = forGood;
        }

        gate.SetResult();
    }
}
