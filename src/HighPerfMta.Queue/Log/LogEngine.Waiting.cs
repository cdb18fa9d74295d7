using HighPerfMta.Queue.Async;

namespace HighPerfMta.Queue.Log;

/// <summary>Who waits for the run: for durability in a list, for room in log memory together.</summary>
internal sealed partial class LogEngine
{
    /// <summary>
    /// How many of those who wait for a commit may go on on the log's thread: where there are few processors there is hardly another to let them go on at the same time, and the next commit gathers
    /// meanwhile; where there are many, a few.
    /// </summary>
    public static readonly int MaxInline = Math.Max(4, 32 / Environment.ProcessorCount);

    private DurabilityWaiter? _waiters;
    private TaskCompletionSource? _room;
    private bool _inherited = true;

    /// <summary>Completes when everything below the address is durable; false if this run has failed before.</summary>
    /// <param name="until">The address.</param>
    /// <param name="pool">Where the waiter comes from.</param>
    /// <param name="inline">Whoever waits may go on on the log's thread (<see cref="IRecordLog.WaitDurableAsync"/>).</param>
    /// <param name="task">The wait.</param>
    public bool TryWait(long until, WaiterPool pool, bool inline, out ValueTask task)
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

            DurabilityWaiter waiter = pool.Rent(until, inline);
            waiter.Next = _waiters;
            _waiters = waiter;
            task = waiter.Task;
            if (until <= _issued)
            {
                return true;
            }

            bool isFirst = _wanted <= _issued;
            _wanted = Math.Max(_wanted, until);
            if (!isFirst)
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
        int served = 0;
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
            for (DurabilityWaiter? waiter = _waiters; waiter is not null;)
            {
                DurabilityWaiter? next = waiter.Next;
                if (waiter.Until <= _durable)
                {
                    waiter.Next = ready;
                    ready = waiter;
                    served++;
                }
                else
                {
                    waiter.Next = waiting;
                    waiting = waiter;
                }

                waiter = next;
            }

            _waiters = waiting;
            room = _room;
            _room = null;
        }

        room?.TrySetResult();
        NotePace(served);
        _setup.Advanced(flushed);
        Complete(ready);
    }

    private void NotePace(int served)
    {
        if (served > 0)
        {
            long now = _setup.Time.GetTimestamp();
            _pace.Note(served, _setup.Time.GetElapsedTime(_lastCommit, now));
            _lastCommit = now;
        }
    }

    /// <summary>
    /// Lets go on who waited. Waking a thread of the pool costs more than most of them have to do, and on a busy machine it waits for a processor: some go on here, last of all. More
    /// than those would keep the next commit waiting and other processors idle.
    /// </summary>
    private static void Complete(DurabilityWaiter? ready)
    {
        DurabilityWaiter? inline = null;
        for (int left = MaxInline; ready is not null;)
        {
            // The waiter may be back in the pool as soon as it is completed.
            DurabilityWaiter? next = ready.Next;
            if (ready.Inline && left > 0)
            {
                left--;
                ready.Next = inline;
                inline = ready;
            }
            else
            {
                ready.Complete(inline: false);
            }

            ready = next;
        }

        if (inline is not null)
        {
            CommitThread.Run(static waiter => CompleteInline((DurabilityWaiter)waiter), inline);
        }
    }

    private static void CompleteInline(DurabilityWaiter? waiter)
    {
        while (waiter is not null)
        {
            DurabilityWaiter? next = waiter.Next;
            waiter.Complete(inline: true);
            CommitThread.HandOver();
            waiter = next;
        }
    }
}
