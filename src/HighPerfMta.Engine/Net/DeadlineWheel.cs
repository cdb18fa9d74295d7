namespace HighPerfMta.Engine.Net;

/// <summary>Something with a deadline: a session or a courier. One object holds one deadline at a time.</summary>
public abstract class Deadline
{
    internal Deadline? Next;
    internal Deadline? Previous;
    internal int Slot = -1;
    internal long DueTick;

    /// <summary>It waits for its time. Not so while <see cref="OnDeadline"/> is called for it, unless it was set anew meanwhile.</summary>
    internal bool IsSet => Volatile.Read(ref Slot) >= 0;

    /// <summary>Called on the wheel's thread when the deadline has passed; must not block (cancel a pending read, abort a socket).</summary>
    protected internal abstract void OnDeadline();
}

/// <summary>
/// One hashed timer wheel for the deadlines of all connections: no timer and no cancellation source per read. Resolution is one tick of one
/// second: a deadline fires at or up to one tick after its time, never before. Setting and clearing take constant time and do not allocate.
/// Without deadlines it does not turn.
/// </summary>
public sealed class DeadlineWheel : IDisposable
{
    /// <summary>Seconds one turn of the wheel covers; longer deadlines go round again.</summary>
    private const int Slots = 1024;

    private static readonly TimeSpan Tick = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly Deadline?[] _slots = new Deadline?[Slots];
    private readonly TimeProvider _time;
    private readonly long _start;
    private readonly ITimer _timer;
    private readonly List<Deadline> _due = [];
    private long _now;
    private int _linked;
    private bool _turns;

    public DeadlineWheel(TimeProvider time)
    {
        _time = time;
        _start = time.GetTimestamp();
        _timer = time.CreateTimer(static state => ((DeadlineWheel)state!).Advance(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Sets or moves the deadline.</summary>
    public void Set(Deadline deadline, TimeSpan dueIn)
    {
        ArgumentNullException.ThrowIfNull(deadline);
        long due = ElapsedTicks(dueIn);
        lock (_lock)
        {
            Unlink(deadline);
            Link(deadline, Math.Max(due, _now + 1));
            if (!_turns)
            {
                // From the next whole second on, so that no deadline waits for more than one tick.
                _turns = true;
                double begun = _time.GetElapsedTime(_start).TotalSeconds;
                _timer.Change(TimeSpan.FromMilliseconds(Math.Ceiling((Math.Floor(begun) + 1 - begun) * 1000)), Tick);
            }
        }
    }

    /// <summary>Clears the deadline; harmless when none is set.</summary>
    public void Clear(Deadline deadline)
    {
        ArgumentNullException.ThrowIfNull(deadline);
        lock (_lock)
        {
            Unlink(deadline);
        }
    }

    public void Dispose() => _timer.Dispose();

    private long ElapsedTicks(TimeSpan ahead) => (long)Math.Ceiling((_time.GetElapsedTime(_start) + ahead).TotalSeconds);

    private void Advance()
    {
        lock (_due)
        {
            long target = (long)_time.GetElapsedTime(_start).TotalSeconds;
            lock (_lock)
            {
                // After a long stall one turn visits every slot: further turns would find nothing more.
                long first = Math.Max(_now + 1, target - Slots + 1);
                for (long tick = first; tick <= target; tick++)
                {
                    Collect(tick, target);
                }

                _now = Math.Max(_now, target);
                if (_linked == 0 && _turns)
                {
                    _turns = false;
                    _timer.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
                }
            }

            foreach (Deadline deadline in _due)
            {
                deadline.OnDeadline();
            }

            _due.Clear();
        }
    }

    private void Collect(long tick, long target)
    {
        for (Deadline? deadline = _slots[tick & (Slots - 1)]; deadline is not null;)
        {
            Deadline? next = deadline.Next;
            if (deadline.DueTick <= target)
            {
                Unlink(deadline);
                _due.Add(deadline);
            }

            deadline = next;
        }
    }

    private void Link(Deadline deadline, long due)
    {
        int slot = (int)(due & (Slots - 1));
        deadline.DueTick = due;
        deadline.Slot = slot;
        deadline.Previous = null;
        deadline.Next = _slots[slot];
        if (deadline.Next is not null)
        {
            deadline.Next.Previous = deadline;
        }

        _slots[slot] = deadline;
        _linked++;
    }

    private void Unlink(Deadline deadline)
    {
        if (deadline.Slot < 0)
        {
            return;
        }

        if (deadline.Previous is null)
        {
            _slots[deadline.Slot] = deadline.Next;
        }
        else
        {
            deadline.Previous.Next = deadline.Next;
        }

        if (deadline.Next is not null)
        {
            deadline.Next.Previous = deadline.Previous;
        }

        deadline.Next = null;
        deadline.Previous = null;
        deadline.Slot = -1;
        _linked--;
    }
}
