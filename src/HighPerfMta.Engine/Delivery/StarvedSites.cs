using System.Numerics;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// The sites of a shard that wait for their first connection permit, by the job whose turn it is at each: sites with mail never tried go before those with mail tried before, except for one
/// in <see cref="SiteJobs.TriedShare"/>, and within both the groups of senders take turns. So one sender's list with ten thousand destinations, or as many destinations that failed, hold up
/// nobody else by more than a few permits. Owned by the shard.
/// </summary>
internal sealed class StarvedSites
{
    private readonly Queue<SiteQueue>?[] _queues = new Queue<SiteQueue>?[2 * SiteJobs.Groups];
    private uint _used;
    private int _freshTurn;
    private int _triedTurn;
    private int _freshInRow;

    public int Count { get; private set; }

    /// <param name="site">A site that is not in here.</param>
    /// <param name="list">The list of its next job, see <see cref="SiteJobs.NextList"/>.</param>
    public void Enqueue(SiteQueue site, int list)
    {
        (_queues[list] ??= new Queue<SiteQueue>()).Enqueue(site);
        _used |= 1u << list;
        Count++;
    }

    /// <summary>The site that waits for the next permit; null when there is none.</summary>
    public SiteQueue? Peek() => Count == 0 ? null : _queues[Next()]!.Peek();

    /// <summary>Takes out what <see cref="Peek"/> names; not when there is none.</summary>
    public void Dequeue()
    {
        int list = Next();
        bool tried = list >= SiteJobs.Groups;
        bool bothWait = _used >> SiteJobs.Groups != 0 && (_used & SiteJobs.FreshMask) != 0;
        _freshInRow = tried || !bothWait ? 0 : _freshInRow + 1;
        if (tried)
        {
            _triedTurn = list - SiteJobs.Groups + 1;
        }
        else
        {
            _freshTurn = list + 1;
        }

        _queues[list]!.Dequeue();
        Count--;
        if (_queues[list]!.Count == 0)
        {
            _queues[list] = null;
            _used &= ~(1u << list);
        }
    }

    private int Next()
    {
        uint fresh = _used & SiteJobs.FreshMask;
        uint triedLists = _used >> SiteJobs.Groups;
        bool tried = fresh == 0 || (triedLists != 0 && _freshInRow >= SiteJobs.TriedShare - 1);
        return tried ? SiteJobs.Groups + InTurn(triedLists, _triedTurn) : InTurn(fresh, _freshTurn);
    }

    private static int InTurn(uint used, int turn)
    {
        uint after = turn >= SiteJobs.Groups ? 0 : used >> turn << turn;
        return BitOperations.TrailingZeroCount(after != 0 ? after : used);
    }
}
