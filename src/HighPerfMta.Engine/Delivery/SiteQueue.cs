using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// One site as its shard sees it: the jobs that are due, the couriers, and how well the site is. Only the shard's loop changes it; the counters
/// are also read by other threads for status, each on its own.
/// </summary>
internal sealed class SiteQueue(Site site, DeliveryShard shard, int allowed) : Timed
{
    private SiteJobs? _jobs;
    private long _backOffUntil;
    private int _established;
    private int _waiting;

    public string Key { get; } = site.Key;

    /// <summary>As jobs refer to it, see <see cref="SiteRegistry"/>.</summary>
    public int Number { get; set; }

    public DeliveryShard Shard { get; } = shard;

    /// <summary>The newest answer of the resolver; the next courier uses it.</summary>
    public Site Site { get; set; } = site;

    /// <summary>Jobs that are due; couriers read it too.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    /// <summary>Jobs in the due wheel whose last attempt went here.</summary>
    public int Parked { get; set; }

    /// <summary>Jobs with a courier, being settled or waiting for it.</summary>
    public int InFlight { get; set; }

    /// <summary>Couriers with a batch.</summary>
    public int Busy { get; set; }

    /// <summary>Couriers that hold a permit: busy, idle or closing.</summary>
    public int Connections { get; set; }

    /// <summary>Idle couriers; the one used last is taken first, so that surplus ones run into the idle time-out.</summary>
    public List<CourierWorker> Idle { get; } = [];

    /// <summary>Connections allowed now: grows with every success, one while a site is probed.</summary>
    public int Allowed { get; set; } = allowed;

    /// <summary>Connections that the site was seen to take, until <see cref="CeilingUntil"/>.</summary>
    public int Ceiling { get; set; } = int.MaxValue;

    public long CeilingUntil { get; set; }

    /// <summary>Failures in a row that count against the site.</summary>
    public int Failures { get; set; }

    public long BackOffSetAt { get; set; }

    /// <summary>The back-off is over and one job at a time finds out whether the site is well.</summary>
    public bool Probing { get; set; }

    public DeliveryOutcome? LastError { get; set; }

    /// <summary>Ticks that each message of the batch that ended last took, where messages may follow one another without waiting; else more than any time.</summary>
    public long Pace { get; set; } = long.MaxValue;

    /// <summary>When a job was last handed to a courier.</summary>
    public long LastHandOver { get; set; }

    /// <summary>In the shard's list of sites to look at.</summary>
    public bool Dirty { get; set; }

    /// <summary>Waits for a permit of its own.</summary>
    public bool Starved { get; set; }

    /// <summary>UTC ticks until which nothing is started; 0 when the site is not in back-off. Couriers read it between jobs.</summary>
    public long BackOffUntil
    {
        get => Volatile.Read(ref _backOffUntil);
        set => Volatile.Write(ref _backOffUntil, value);
    }

    /// <summary>Couriers whose connection has carried a message; couriers read it to tell a full site from a dead one.</summary>
    public int Established
    {
        get => Volatile.Read(ref _established);
        set => Volatile.Write(ref _established, value);
    }

    public bool Resting => BackOffUntil != 0;

    /// <summary>Couriers that can take a job now or soon.</summary>
    public int Usable => Busy + Idle.Count;

    public bool IsUnused => Waiting == 0 && Parked == 0 && InFlight == 0 && Connections == 0;

    /// <param name="jobs">The queue's jobs.</param>
    /// <param name="names">The names that they refer to.</param>
    /// <param name="slot">A job in no list.</param>
    /// <param name="first">At the head of its list.</param>
    public void Add(JobTable jobs, JobNames names, int slot, bool first)
    {
        (_jobs ??= new SiteJobs()).Add(jobs, names, slot, first);
        CountWaiting();
    }

    public void Remove(JobTable jobs, JobNames names, int slot)
    {
        _jobs!.Remove(jobs, names, slot);
        CountWaiting();
    }

    public bool Contains(JobTable jobs, JobNames names, int slot) => _jobs is not null && _jobs.Contains(jobs, names, slot);

    /// <summary>The job whose turn it is; 0 when none waits.</summary>
    public int Peek() => _jobs?.Peek() ?? 0;

    /// <summary>The list of the job whose turn it is (<see cref="SiteJobs.NextList"/>); 0 when none waits.</summary>
    public int NextList() => Math.Max(0, _jobs?.NextList() ?? 0);

    /// <summary>Takes out the job that <see cref="Peek"/> names.</summary>
    public int Take(JobTable jobs)
    {
        int slot = _jobs?.Take(jobs) ?? 0;
        CountWaiting();
        return slot;
    }

    /// <summary>A site without waiting jobs and connections keeps no lists.</summary>
    public void Trim() => _jobs = Waiting == 0 && Connections == 0 ? null : _jobs;

    public SiteStatus Status()
    {
        long until = BackOffUntil;
        SiteJobs? jobs = _jobs;
        return new SiteStatus(Key, Waiting, Parked, InFlight, Connections, until == 0 ? null : new DateTimeOffset(until, TimeSpan.Zero), LastError)
        {
            Fresh = jobs?.Fresh ?? 0,
            Tried = jobs?.Tried ?? 0,
        };
    }

    private void CountWaiting() => Volatile.Write(ref _waiting, _jobs is null ? 0 : _jobs.Fresh + _jobs.Tried);
}
