using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>An operator's change of some recipients of a job: the room asks, the job's shard answers.</summary>
internal sealed class RecipientSteering(JobRef job, IReadOnlyList<int> recipients, Steering steering)
{
    /// <summary>The answer when the job is another by now, and its recipients may be in several.</summary>
    public const int LookAgain = -1;

    private readonly TaskCompletionSource<int> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public JobRef Job { get; } = job;

    public IReadOnlyList<int> Recipients { get; } = recipients;

    public Steering Steering { get; } = steering;

    /// <summary>Recipients changed, or <see cref="LookAgain"/>.</summary>
    public Task<int> Done => _done.Task;

    /// <summary>The record to wait for.</summary>
    public Queue.Log.RecordRef Record { get; set; }

    public void Finish(int changed) => _done.TrySetResult(changed);

    public void Fail(Exception error) => _done.TrySetException(error);
}

/// <summary>A change that waits for its job: of the whole job, or of some recipients.</summary>
internal readonly record struct PendingSteering(Steering Steering, RecipientSteering? Recipients = null);

/// <summary>
/// Operators' changes of jobs that are with a courier, a settlement or the router: applied when the job comes back to a shard. At most <see cref="Most"/> jobs with <see cref="MostEach"/> changes
/// each. Safe for concurrent use.
/// </summary>
/// <remarks>
/// Who adds a change looks at the job's place afterwards, and who gives a job a place of its own looks for changes afterwards: one of them sees the other.
/// </remarks>
internal sealed class PendingSteerings
{
    public const int Most = 65_536;
    public const int MostEach = 4;

    private readonly Dictionary<JobRef, List<PendingSteering>> _pending = [];
    private readonly Lock _gate = new();
    private int _count;

    public bool Any => Volatile.Read(ref _count) > 0;

    /// <summary>Room for so many further jobs.</summary>
    public int Room => Math.Max(0, Most - Volatile.Read(ref _count));

    public bool Has(int slot, MessageId id)
    {
        if (!Any)
        {
            return false;
        }

        lock (_gate)
        {
            return _pending.ContainsKey(new JobRef(slot, id));
        }
    }

    /// <summary>False when there is no room.</summary>
    public bool TryAdd(JobRef job, in PendingSteering steering)
    {
        lock (_gate)
        {
            if (!_pending.TryGetValue(job, out List<PendingSteering>? list))
            {
                if (_pending.Count >= Most)
                {
                    return false;
                }

                _pending.Add(job, list = new List<PendingSteering>(1));
                Volatile.Write(ref _count, _pending.Count);
            }

            if (list.Count >= MostEach)
            {
                return false;
            }

            list.Add(steering);
            return true;
        }
    }

    /// <summary>Takes the oldest change of the job.</summary>
    public bool TryTake(int slot, MessageId id, out PendingSteering steering)
    {
        steering = default;
        if (!Any)
        {
            return false;
        }

        lock (_gate)
        {
            JobRef job = new(slot, id);
            if (!_pending.TryGetValue(job, out List<PendingSteering>? list))
            {
                return false;
            }

            steering = list[0];
            list.RemoveAt(0);
            if (list.Count == 0)
            {
                _pending.Remove(job);
                Volatile.Write(ref _count, _pending.Count);
            }

            return true;
        }
    }

    /// <summary>Whether the job waits to be dropped: what else was to be written of it need not be.</summary>
    public bool IsDropped(int slot, MessageId id)
    {
        if (!Any)
        {
            return false;
        }

        lock (_gate)
        {
            return _pending.TryGetValue(new JobRef(slot, id), out List<PendingSteering>? list)
                && list.Exists(static p => p.Recipients is null && p.Steering.Kind == SteeringKind.Drop);
        }
    }

    /// <summary>The job was split: changes of the whole hold for its parts.</summary>
    public void Copy(JobRef from, JobRef to)
    {
        lock (_gate)
        {
            if (_pending.TryGetValue(from, out List<PendingSteering>? list))
            {
                List<PendingSteering> whole = list.FindAll(static p => p.Recipients is null);
                if (whole.Count > 0)
                {
                    _pending[to] = whole;
                    Volatile.Write(ref _count, _pending.Count);
                }
            }
        }
    }

    /// <summary>The job is finished, or its slot is.</summary>
    public void Forget(int slot, MessageId id)
    {
        if (!Any)
        {
            return;
        }

        List<PendingSteering>? list;
        lock (_gate)
        {
            _pending.Remove(new JobRef(slot, id), out list);
            Volatile.Write(ref _count, _pending.Count);
        }

        list?.ForEach(static p => p.Recipients?.Finish(0));
    }
}
