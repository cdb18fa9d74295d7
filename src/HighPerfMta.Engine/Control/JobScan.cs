using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>A job that a scan found, and what was read of it afterwards.</summary>
internal struct SeenJob
{
    /// <summary>Its entry when it was looked at.</summary>
    public Job Job;

    public int Slot;

    /// <summary>What the filter says of it: all of it, or that the record has to say.</summary>
    public Verdict Verdict;

    /// <summary>The first of its message: the others that were found follow.</summary>
    public bool Starts;

    /// <summary>Set by who wants the record read.</summary>
    public bool Wanted;

    /// <summary>Its message, if it was wanted and is still there.</summary>
    public QueuedMessage? Message;

    /// <summary>Why its record cannot be read.</summary>
    public string? Trouble;

    public readonly JobRef Ref => new(Slot, Job.MessageId);
}

/// <summary>
/// One pass over the table of jobs: yields those that a filter selects, or may select, in batches, all of one message together. Reads entries only, takes no locks and
/// allocates nothing for jobs that are not selected. Jobs that come or change meanwhile may be missed; none is yielded that the filter did not select as it was at one moment.
/// </summary>
/// <param name="jobs">The table.</param>
/// <param name="filter">The conditions.</param>
/// <param name="ids">Messages that alone are looked for; empty: all.</param>
internal sealed class JobScan(JobTable jobs, JobFilter filter, IReadOnlyCollection<MessageId> ids)
{
    /// <summary>Looks at a job that changes all the time before it is taken as it is.</summary>
    private const int MaxLooks = 4;

    private readonly HashSet<ulong>? _wanted = ids.Count == 0 ? null : [.. ids.Select(static id => id.Value)];
    private readonly int _chunks = jobs.Chunks;
    private SeenJob[] _seen = [];
    private ulong[] _done = [];
    private int _count;
    private int _chunk;
    private int _index;

    /// <summary>Nothing is left to be looked at.</summary>
    public bool IsOver { get; private set; }

    /// <summary>The next jobs, of at most so many messages; empty at the end. Valid until the next call.</summary>
    public Memory<SeenJob> Next(int maxMessages, CancellationToken cancellation)
    {
        Array.Clear(_seen, 0, _count);
        _count = 0;
        int left = maxMessages;
        while (left > 0 && _chunk < _chunks && !IsOver)
        {
            cancellation.ThrowIfCancellationRequested();
            left = ScanChunk(left);
        }

        IsOver |= _chunk >= _chunks;
        return _seen.AsMemory(0, _count);
    }

    private int ScanChunk(int left)
    {
        ReadOnlySpan<Job> chunk = jobs.ReadChunk(_chunk);
        int first = _chunk * JobTable.ChunkJobs;
        while (_index < chunk.Length)
        {
            if (left == 0 || IsOver)
            {
                return left;
            }

            ref readonly Job job = ref chunk[_index];
            int slot = first + _index++;
            ulong id = Volatile.Read(in job.Id);
            if (id == 0 || (_wanted is not null && !_wanted.Contains(id)))
            {
                continue;
            }

            int before = _count;
            if (job.Sibling != slot)
            {
                AddRing(slot, id);
            }
            else if (filter.Test(job) != Verdict.No)
            {
                Add(slot, id);
            }

            left -= _count > before ? 1 : 0;
            IsOver = _wanted is not null && _wanted.Remove(id) && _wanted.Count == 0;
        }

        _chunk++;
        _index = 0;
        return left;
    }

    // All jobs of a message at once, when the first of them is met.
    private void AddRing(int slot, ulong id)
    {
        int start = _count;
        int at = slot;
        while (Mark(at) && jobs.TryRead(at, out Job job) && job.Id == id)
        {
            if (at >= slot && filter.Test(job) != Verdict.No)
            {
                Add(at, id, start);
            }

            at = job.Sibling;
        }
    }

    private void Add(int slot, ulong id) => Add(slot, id, _count);

    private void Add(int slot, ulong id, int start)
    {
        for (int looks = 0; looks < MaxLooks && jobs.TryRead(slot, out Job job) && job.Id == id; looks++)
        {
            Verdict verdict = filter.Test(job);

            // The names that its numbers stood for are its own only if it has them still.
            if (!jobs.TryRead(slot, out Job after) || after.Id != id)
            {
                return;
            }

            if (after.Domain != job.Domain || after.Sender != job.Sender || after.Reason != job.Reason || after.Site != job.Site)
            {
                continue;
            }

            if (verdict != Verdict.No)
            {
                if (_count == _seen.Length)
                {
                    Array.Resize(ref _seen, Math.Max(64, _count * 2));
                }

                _seen[_count] = new SeenJob { Job = job, Slot = slot, Verdict = verdict, Starts = _count == start };
                _count++;
            }

            return;
        }
    }

    /// <summary>False when it was marked before. Rings change while they are followed: a mark for each job ends every walk.</summary>
    private bool Mark(int slot)
    {
        int word = slot >> 6;
        if (word >= _done.Length)
        {
            Array.Resize(ref _done, Math.Max(word + 1, (_chunks * JobTable.ChunkJobs) >> 6));
        }

        ulong bit = 1UL << slot;
        bool isNew = (_done[word] & bit) == 0;
        _done[word] |= bit;
        return isNew;
    }
}
