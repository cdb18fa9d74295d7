using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// The jobs that wait at one site, in two sets: those never tried and those tried before. Each set is 16 lists by the sender's domain (the null sender has one of its own), taken in turn, so that
/// no sender holds up another. Fresh mail goes first; while both wait, one job in <see cref="TriedShare"/> is a tried one. Costs the same for any number of jobs; owned by the site's shard.
/// </summary>
internal sealed class SiteJobs
{
    /// <summary>Of so many jobs handed out at least one was tried before, while such wait.</summary>
    public const int TriedShare = 4;

    /// <summary>Groups of senders, each with a list of jobs never tried and one of jobs tried before.</summary>
    public const int Groups = 16;

    /// <summary>Of a set of bits by list: those of jobs never tried.</summary>
    public const uint FreshMask = (1u << Groups) - 1;

    private const int Lists = Groups;

    private readonly JobList[] _lists = new JobList[2 * Lists];
    private uint _used;
    private int _freshTurn;
    private int _triedTurn;
    private int _freshInRow;

    public int Fresh { get; private set; }

    public int Tried { get; private set; }

    public void Add(JobTable jobs, JobNames names, int slot, bool first)
    {
        int list = ListOf(jobs[slot], names);
        if (first)
        {
            _lists[list].AddFirst(jobs, slot);
        }
        else
        {
            _lists[list].AddLast(jobs, slot);
        }

        _used |= 1u << list;
        Count(list, 1);
    }

    public void Remove(JobTable jobs, JobNames names, int slot)
    {
        int list = ListOf(jobs[slot], names);
        _lists[list].Remove(jobs, slot);
        Removed(list);
    }

    public bool Contains(JobTable jobs, JobNames names, int slot) => _lists[ListOf(jobs[slot], names)].Contains(jobs, slot);

    /// <summary>The job whose turn it is, still in its list; 0 when none waits.</summary>
    public int Peek()
    {
        int list = NextList();
        return list < 0 ? 0 : _lists[list].First;
    }

    /// <summary>The list of the job whose turn it is, below <see cref="Groups"/> if it was never tried; below 0 when none waits.</summary>
    public int NextList()
    {
        bool tried = Fresh == 0 || (Tried > 0 && _freshInRow >= TriedShare - 1);
        uint used = tried ? _used >> Lists : _used & FreshMask;
        if (used == 0)
        {
            return -1;
        }

        int turn = tried ? _triedTurn : _freshTurn;
        uint after = turn >= Lists ? 0 : used >> turn << turn;
        int list = System.Numerics.BitOperations.TrailingZeroCount(after != 0 ? after : used);
        return tried ? list + Lists : list;
    }

    /// <summary>Takes out the job that <see cref="Peek"/> names.</summary>
    public int Take(JobTable jobs)
    {
        int list = NextList();
        if (list < 0)
        {
            return 0;
        }

        int slot = _lists[list].TakeFirst(jobs);
        if (list < Lists)
        {
            _freshTurn = list + 1;
            _freshInRow = Tried > 0 ? _freshInRow + 1 : 0;
        }
        else
        {
            _triedTurn = list - Lists + 1;
            _freshInRow = 0;
        }

        Removed(list);
        return slot;
    }

    /// <summary>Jobs before this one in its list, at most <paramref name="most"/>.</summary>
    public static int CountAhead(JobTable jobs, int slot, int most)
    {
        int ahead = 0;
        for (int before = jobs[slot].Previous; before != 0 && ahead < most; before = jobs[before].Previous)
        {
            ahead++;
        }

        return ahead;
    }

    private void Removed(int list)
    {
        if (_lists[list].IsEmpty)
        {
            _used &= ~(1u << list);
        }

        Count(list, -1);
    }

    private void Count(int list, int change)
    {
        if (list < Lists)
        {
            Fresh += change;
        }
        else
        {
            Tried += change;
        }
    }

    /// <summary>By what does not change while the job waits: its sender's name is the job's own reference.</summary>
    private static int ListOf(in Job job, JobNames names)
    {
        int set = job.Attempts == 0 ? 0 : Lists;
        if (job.Sender == 0)
        {
            return set;
        }

        ReadOnlySpan<char> domain = job.Sender > 0 ? names.Senders.Get(job.Sender) : names.Domains.Get(-job.Sender);
        if (job.Sender > 0)
        {
            domain = domain[(domain.LastIndexOf('@') + 1)..];
        }

        return set + 1 + (JobNames.HashOf(domain) % (Lists - 1));
    }
}
