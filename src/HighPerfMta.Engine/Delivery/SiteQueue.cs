using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// One site as its shard sees it: the jobs that are due, the couriers, and how well the site is. Only the shard's loop changes it; the counters
/// are also read by other threads for status, each on its own.
/// </summary>
internal sealed class SiteQueue(Site site, int allowed) : Timed
{
    private DeliveryJob? _head;
    private DeliveryJob? _tail;
    private long _backOffUntil;
    private int _established;

    public string Key { get; } = site.Key;

    /// <summary>The newest answer of the resolver; the next courier uses it.</summary>
    public Site Site { get; set; } = site;

    public int Waiting { get; private set; }

    /// <summary>Jobs in the due heap whose last attempt went here.</summary>
    public int Parked { get; set; }

    /// <summary>Jobs with a courier or being settled.</summary>
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

    public void AddLast(DeliveryJob job)
    {
        job.Next = null;
        job.Previous = _tail;
        if (_tail is null)
        {
            _head = job;
        }
        else
        {
            _tail.Next = job;
        }

        _tail = job;
        Waiting++;
    }

    public void AddFirst(DeliveryJob job)
    {
        job.Previous = null;
        job.Next = _head;
        if (_head is null)
        {
            _tail = job;
        }
        else
        {
            _head.Previous = job;
        }

        _head = job;
        Waiting++;
    }

    public DeliveryJob? Peek() => _head;

    public void Remove(DeliveryJob job)
    {
        if (job.Previous is null)
        {
            _head = job.Next;
        }
        else
        {
            job.Previous.Next = job.Next;
        }

        if (job.Next is null)
        {
            _tail = job.Previous;
        }
        else
        {
            job.Next.Previous = job.Previous;
        }

        job.Next = null;
        job.Previous = null;
        Waiting--;
    }

    public SiteStatus Status()
    {
        long until = BackOffUntil;
        return new SiteStatus(Key, Waiting, Parked, InFlight, Connections, until == 0 ? null : new DateTimeOffset(until, TimeSpan.Zero), LastError);
    }
}
