using System.Threading.Tasks.Sources;

namespace HighPerfMta.Queue.Log;

/// <summary>One pending <see cref="IRecordLog.WaitDurableAsync"/>, pooled.</summary>
internal sealed class DurabilityWaiter : IValueTaskSource
{
    private readonly WaiterPool _pool;
    private ManualResetValueTaskSourceCore<bool> _core;

    public DurabilityWaiter(WaiterPool pool) => _pool = pool;

    /// <summary>Next waiter in the engine's list, or in the pool's.</summary>
    public DurabilityWaiter? Next { get; set; }

    /// <summary>Address up to which the log must be durable.</summary>
    public long Until { get; set; }

    /// <summary>What goes on after it may do so on the thread that completes it.</summary>
    public bool Inline { get; set; }

    public ValueTask Task => new(this, _core.Version);

    /// <param name="inline">On this thread; otherwise on the pool.</param>
    public void Complete(bool inline)
    {
        _core.RunContinuationsAsynchronously = !inline;
        _core.SetResult(true);
    }

    public void Fail(Exception cause)
    {
        _core.RunContinuationsAsynchronously = true;
        _core.SetException(cause);
    }

    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    public void GetResult(short token)
    {
        try
        {
            _core.GetResult(token);
        }
        finally
        {
            _core.Reset();
            _pool.Return(this);
        }
    }
}

/// <summary>Waiters not in use; at most 4096 are kept.</summary>
internal sealed class WaiterPool
{
    private const int Limit = 4096;
    private readonly Lock _gate = new();
    private DurabilityWaiter? _free;
    private int _count;

    public DurabilityWaiter Rent(long until, bool inline)
    {
        DurabilityWaiter? waiter;
        lock (_gate)
        {
            waiter = _free;
            if (waiter is not null)
            {
                _free = waiter.Next;
                _count--;
            }
        }

        waiter ??= new DurabilityWaiter(this);
        waiter.Next = null;
        waiter.Until = until;
        waiter.Inline = inline;
        return waiter;
    }

    public void Return(DurabilityWaiter waiter)
    {
        lock (_gate)
        {
            if (_count < Limit)
            {
                waiter.Next = _free;
                _free = waiter;
                _count++;
            }
        }
    }
}
