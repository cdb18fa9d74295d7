namespace HighPerfMta.Queue.Log;

/// <summary>Who waits for the run: for durability in a list, for room in log memory together.</summary>
internal sealed partial class LogEngine
{
    private readonly CommitCrowd _crowd;
    private DurabilityWaiter? _waiters;
    private TaskCompletionSource? _room;
    private bool _inherited = true;

    /// <summary>Completes when everything below the address is durable; false if this run has failed before.</summary>
    public bool TryWait(long until, WaiterPool pool, out ValueTask task)
    {
        lock (_gate)
        {
            if (_durable >= until)
            {
                task = default;
                return true;
            }

            if (_failure is not null)
            {
                task = default;
                return false;
            }

            DurabilityWaiter waiter = pool.Rent(until);
            waiter.Next = _waiters;
            _waiters = waiter;
            task = waiter.Task;
            if (until <= _issued)
            {
                return true;
            }

            _wanted = Math.Max(_wanted, until);
            if (!_crowd.Arrive())
            {
                return true;
            }
        }

        _loop.Wake();
        return true;
    }

    public void CommitSoon()
    {
        lock (_gate)
        {
            if (_soon)
            {
                return;
            }

            _soon = true;
        }

        _loop.Wake();
    }

    /// <summary>Completes when a write has made room in log memory, or the run failed. Take it before the attempt that may find no room.</summary>
    public Task RoomAsync()
    {
        lock (_gate)
        {
            if (_failure is not null)
            {
                return Task.CompletedTask;
            }

            _room ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return _room.Task;
        }
    }

    /// <summary>Ends the run: fails everyone who waits. Only the first call counts.</summary>
    public bool Fail(Exception cause)
    {
        DurabilityWaiter? waiters;
        TaskCompletionSource? room;
        lock (_gate)
        {
            if (_failure is not null)
            {
                return false;
            }

            Volatile.Write(ref _failure, cause);
            waiters = _waiters;
            _waiters = null;
            room = _room;
            _room = null;
        }

        _loop.Wake();
        for (DurabilityWaiter? waiter = waiters; waiter is not null;)
        {
            DurabilityWaiter? next = waiter.Next;
            waiter.Fail(new LogUnavailableException("the record was not made durable: " + cause.Message, LogCondition.Failing, cause));
            waiter = next;
        }

        room?.TrySetResult();
        return true;
    }

    private void Publish(long flushed)
    {
        DurabilityWaiter? ready = null;
        TaskCompletionSource? room;
        lock (_gate)
        {
            if (_failure is not null)
            {
                return;
            }

            if (flushed > Start || !_inherited)
            {
                _inherited = false;
                Volatile.Write(ref _durable, Math.Max(_durable, flushed));
            }

            DurabilityWaiter? waiting = null;
            (int done, int left) = (0, 0);
            for (DurabilityWaiter? waiter = _waiters; waiter is not null;)
            {
                DurabilityWaiter? next = waiter.Next;
                if (waiter.Until <= _durable)
                {
                    waiter.Next = ready;
                    ready = waiter;
                    done++;
                }
                else
                {
                    waiter.Next = waiting;
                    waiting = waiter;
                    left++;
                }

                waiter = next;
            }

            _crowd.Flushed(done, left);
            _waiters = waiting;
            room = _room;
            _room = null;
        }

        while (ready is not null)
        {
            // The waiter may be back in the pool as soon as it is completed.
            DurabilityWaiter? next = ready.Next;
            ready.Complete();
            ready = next;
        }

        room?.TrySetResult();
        _setup.Advanced(flushed);
    }
}
