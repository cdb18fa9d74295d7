namespace HighPerfMta.Queue.Index;

/// <summary>
/// A list of jobs that runs through their own links: 12 bytes, whatever its length. A job is in at most one list. Owned by one thread at a time.
/// </summary>
public struct JobList
{
    private int _first;
    private int _last;

    public int Count { get; private set; }

    public readonly bool IsEmpty => _first == 0;

    /// <summary>The first job; 0 when there is none.</summary>
    public readonly int First => _first;

    public void AddLast(JobTable jobs, int slot)
    {
        ref Job job = ref jobs[slot];
        job.Next = 0;
        job.Previous = _last;
        if (_last == 0)
        {
            _first = slot;
        }
        else
        {
            jobs[_last].Next = slot;
        }

        _last = slot;
        Count++;
    }

    public void AddFirst(JobTable jobs, int slot)
    {
        ref Job job = ref jobs[slot];
        job.Previous = 0;
        job.Next = _first;
        if (_first == 0)
        {
            _last = slot;
        }
        else
        {
            jobs[_first].Previous = slot;
        }

        _first = slot;
        Count++;
    }

    /// <summary>Takes a job out that is in this list.</summary>
    public void Remove(JobTable jobs, int slot)
    {
        ref Job job = ref jobs[slot];
        if (job.Previous == 0)
        {
            _first = job.Next;
        }
        else
        {
            jobs[job.Previous].Next = job.Next;
        }

        if (job.Next == 0)
        {
            _last = job.Previous;
        }
        else
        {
            jobs[job.Next].Previous = job.Previous;
        }

        job.Next = 0;
        job.Previous = 0;
        Count--;
    }

    /// <summary>
    /// Whether the job's links are those of a list that it could be in; this list, if its owner puts the job nowhere else. Never wrong for a job that is in no list.
    /// </summary>
    public readonly bool Contains(JobTable jobs, int slot)
    {
        ref Job job = ref jobs[slot];
        bool first = job.Previous == 0 ? _first == slot : jobs[job.Previous].Next == slot;
        bool last = job.Next == 0 ? _last == slot : jobs[job.Next].Previous == slot;
        return first && last && !IsEmpty;
    }

    /// <summary>Takes the first job out; 0 when there is none.</summary>
    public int TakeFirst(JobTable jobs)
    {
        int slot = _first;
        if (slot != 0)
        {
            Remove(jobs, slot);
        }

        return slot;
    }
}
