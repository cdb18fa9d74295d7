using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Permits, couriers and back-off of the shard's sites.</summary>
internal sealed partial class DeliveryShard
{
    /// <summary>Connections a site starts with; every batch that the site answered allows one more, so that they double in each round of batches: 1 (a probe), 2, 4, 8, ….</summary>
    private const int FirstConnections = 2;

    /// <summary>A further connection is opened when more than this many jobs wait for each one there is.</summary>
    private const int JobsPerConnection = 4;

    /// <summary>Jobs done over a permit before it goes to a starved site.</summary>
    private const int TurnsWhileOthersStarve = 64;

    /// <summary>Octets of a batch: a large message goes alone.</summary>
    private const long BatchOctets = 1 << 20;

    /// <summary>A further connection is opened when jobs wait and none was handed over for this long: the ones there are slow.</summary>
    private static readonly long Stall = TimeSpan.FromMilliseconds(250).Ticks;

    /// <summary>A peer that takes no longer than this for each message of a batch answers at once.</summary>
    private static readonly long BriskTime = TimeSpan.FromMilliseconds(20).Ticks;

    /// <summary>Behind messages that took no longer than this each, the next ones wait rather than go over a connection that rests.</summary>
    private static readonly long QuickPace = TimeSpan.FromMilliseconds(2).Ticks;

    /// <summary>How long they do, after something was last handed over.</summary>
    private static readonly long SoonTime = TimeSpan.FromMilliseconds(5).Ticks;

    /// <summary>When that is looked at if nothing else happens, as it does where a peer that was quick stops answering: not as soon as it could be, for where mail flows the timer would fire for nothing hundreds of times a second.</summary>
    private static readonly long SoonLook = 4 * SoonTime;

    /// <summary>How long a site is believed to take no more connections than it took.</summary>
    private static readonly long CeilingTime = TimeSpan.FromMinutes(1).Ticks;

    private readonly List<SiteQueue> _dirty = [];
    private readonly StarvedSites _starved = new();
    private CourierWorker? _idleOldest;
    private CourierWorker? _idleNewest;
    private int _workers;

    private SiteQueue FindSite(Site site)
    {
        if (_sites.TryGetValue(site.Key, out SiteQueue? queue))
        {
            queue.Site = site;
            return queue;
        }

        queue = new SiteQueue(site, this, Math.Min(FirstConnections, _services.Options.ConnectionsPerSite));
        _services.Registry.Add(queue);
        _sites.TryAdd(site.Key, queue);
        return queue;
    }

    private void MarkDirty(SiteQueue site)
    {
        if (!site.Dirty)
        {
            site.Dirty = true;
            _dirty.Add(site);
        }
    }

    private void PumpSites()
    {
        bool mayAttempt = _services.Queue.MayAttempt;
        if (!mayAttempt || _failing.Count >= MaxFailing)
        {
            // Nothing is begun whose end could not be written down; the sites stay in the list.
            _blocked |= !mayAttempt && _dirty.Count > 0;
            return;
        }

        for (int i = 0; i < _dirty.Count; i++)
        {
            SiteQueue site = _dirty[i];
            site.Dirty = false;
            try
            {
                Pump(site);
            }
            catch (Exception error)
            {
                _services.Logger.ShardFailed(error, DeliveryEventKind.WorkerDone);
                _due.Set(site, _now + CeilingTime);
            }
        }

        _dirty.Clear();
    }

    /// <summary>Starts what the site may start now, and sets its timer for what it may start later.</summary>
    private void Pump(SiteQueue site)
    {
        if (site.Resting && site.BackOffUntil <= _now)
        {
            site.BackOffUntil = 0;
            site.Probing = true;
            site.Allowed = 1;
        }

        while (CanStart(site) && !IsSoonServed(site))
        {
            CourierWorker? worker = TakeIdle(site) ?? Open(site);
            if (worker is null)
            {
                break;
            }

            HandOver(site, worker);
        }

        for (int i = site.Idle.Count - 1; i >= 0; i--)
        {
            if (site.Idle[i].IsClosed)
            {
                RetireIdle(site.Idle[i]);
            }
        }

        SetTimer(site);
    }

    private bool CanStart(SiteQueue site) => !_draining && site.Waiting > 0 && !site.Resting && !(site.Probing && site.Busy > 0);

    /// <summary>
    /// What waits for a peer that takes messages as they come, one right behind the other, follows those on their way: a message that goes with the end of the one before costs half the sends and
    /// receives of one over a connection that rests, here and there. Not longer than <see cref="SoonTime"/>, and not more than a few for each connection.
    /// </summary>
    private bool IsSoonServed(SiteQueue site) =>
        site.Busy > 0 && IsQuick(site) && site.Waiting > 0 && site.Waiting <= JobsPerConnection * site.Busy && _now - site.LastHandOver is >= 0 and var since && since < SoonTime;

    private static bool IsQuick(SiteQueue site) => site.Pace < QuickPace;

    private void SetTimer(SiteQueue site)
    {
        long due = long.MaxValue;
        if (site.Resting)
        {
            due = site.BackOffUntil;
        }
        else if (IsSoonServed(site))
        {
            due = site.LastHandOver + SoonLook;
        }
        else if (CanStart(site) && !site.Starved)
        {
            due = NextOpening(site);
        }

        if (due == long.MaxValue)
        {
            _due.Remove(site);
        }
        else
        {
            _due.Set(site, due);
        }

        site.Trim();
        if (site.IsUnused && !site.Resting)
        {
            _due.Remove(site);
            if (_sites.TryRemove(new KeyValuePair<string, SiteQueue>(site.Key, site)))
            {
                _services.Registry.Remove(site);
            }
        }
    }

    /// <summary>
    /// When a further connection may be opened although nothing happens until then. A site at its limit waits for its couriers' answers; one
    /// that found no permit looks again after <see cref="Stall"/>, never sooner.
    /// </summary>
    private long NextOpening(SiteQueue site)
    {
        if (site.Connections < ConnectionLimit(site))
        {
            long stalled = site.LastHandOver + Stall;
            return stalled > _now ? stalled : _now + Stall;
        }

        bool atCeiling = site.CeilingUntil > _now && site.Connections < Math.Min(_services.Options.ConnectionsPerSite, site.Allowed);
        return atCeiling ? site.CeilingUntil : long.MaxValue;
    }

    private int ConnectionLimit(SiteQueue site)
    {
        int limit = Math.Min(_services.Options.ConnectionsPerSite, site.Allowed);
        return site.CeilingUntil > _now ? Math.Min(limit, site.Ceiling) : limit;
    }

    private CourierWorker? TakeIdle(SiteQueue site)
    {
        if (site.Idle.Count == 0)
        {
            return null;
        }

        CourierWorker worker = site.Idle[^1];
        site.Idle.RemoveAt(site.Idle.Count - 1);
        UnlinkIdle(worker);
        return worker;
    }

    /// <summary>A further courier, if the site, the queue's length and the permits allow one.</summary>
    private CourierWorker? Open(SiteQueue site)
    {
        bool needed = site.Usable == 0 || site.Waiting > JobsPerConnection * site.Usable || _now - site.LastHandOver >= Stall;
        if (site.Connections >= ConnectionLimit(site) || !needed)
        {
            return null;
        }

        ConnectionPermits permits = _services.Permits;
        if (permits.Starving == 0 && permits.TryTake())
        {
            return NewWorker(site);
        }

        if (site.Usable > 0 || site.Starved)
        {
            return null;
        }

        // Counted as starving before the second try: a permit released between the two is seen by one side or the other.
        site.Starved = true;
        permits.AddStarving();
        if (_starved.Count == 0 && permits.TryTake())
        {
            EndStarving(site);
            return NewWorker(site);
        }

        _starved.Enqueue(site, site.NextList());
        _postToAll(new DeliveryEvent(DeliveryEventKind.Starvation));
        return null;
    }

    private void EndStarving(SiteQueue site)
    {
        site.Starved = false;
        _services.Permits.RemoveStarving();
    }

    /// <summary>A permit came free: the site whose turn it is gets it.</summary>
    private void ServeStarved()
    {
        while (_starved.Peek() is { } site)
        {
            bool wants = site.Starved && CanStart(site) && site.Usable == 0;
            if (wants && !_services.Permits.TryTake())
            {
                return;
            }

            _starved.Dequeue();
            if (site.Starved)
            {
                EndStarving(site);
            }

            if (wants && NewWorker(site) is { } worker)
            {
                HandOver(site, worker);
            }

            MarkDirty(site);
        }
    }

    /// <summary>A courier for a permit that was taken; null, and the permit is given back and the site rests, when none can be made.</summary>
    private CourierWorker? NewWorker(SiteQueue site)
    {
        CourierWorker worker;
        try
        {
            worker = new(this, _services, site);
        }
        catch (Exception error)
        {
            _services.Permits.Release();
            TimeSpan rest = LetRest(site, RouteOutcomes.Threw);
            _services.Logger.NoCourier(error, site.Key, (long)rest.TotalSeconds);
            return null;
        }

        site.Connections++;
        _workers++;
        worker.Launch();
        return worker;
    }

    private void HandOver(SiteQueue site, CourierWorker worker)
    {
        int share = site.Probing ? 1 : ShareOf(site, worker);
        long octets = 0;
        int count = 0;
        while (count < share && site.Peek() is not 0 and int slot)
        {
            ref Job job = ref _jobs[slot];
            if (count > 0 && octets + job.Size > BatchOctets)
            {
                break;
            }

            site.Take(_jobs);
            if (job.IsHeld || _services.Retry.NeedOf(job, _now) > JobNeed.Attempt)
            {
                // Its time came while it waited.
                PlaceSafely(slot);
                continue;
            }

            octets += job.Size;
            job.Place = JobPlace.InFlight;
            int requeues = _services.Troubles.Any ? _services.Troubles.RequeuesOf(slot, job.MessageId) : 0;
            worker.Batch[count++] = new DeliveryJob { Slot = slot, Id = job.MessageId, Requeues = requeues };
        }

        if (count == 0)
        {
            GoIdle(worker);
            return;
        }

        worker.Count = count;
        site.InFlight += count;
        site.Busy++;
        site.LastHandOver = _now;
        worker.HandedOverAt = _now;
        worker.Start();
    }

    /// <summary>
    /// Jobs for one courier: half of its part of what waits, so that those who are done sooner get more. Where messages follow one another without waiting and the peer answers at once, what one
    /// connection may have on its way goes together; behind a slow one nothing waits that another connection could carry.
    /// </summary>
    private int ShareOf(SiteQueue site, CourierWorker worker)
    {
        int half = Math.Min(site.Waiting / (2 * Math.Max(1, site.Connections)), CourierWorker.MaxBatch);
        if (!worker.Brisk || !worker.SendsAhead)
        {
            return Math.Max(1, half);
        }

        int others = IsQuick(site) ? site.Busy : site.Idle.Count;
        int together = Math.Min((site.Waiting + others) / (others + 1), Math.Min(_services.Options.PipelinedMessages, CourierWorker.MaxBatch));
        return Math.Max(1, Math.Max(half, together));
    }

    private void GoIdle(CourierWorker worker)
    {
        SiteQueue site = worker.Site;
        worker.IdleSince = _now;
        site.Idle.Add(worker);
        worker.Older = _idleNewest;
        if (_idleNewest is null)
        {
            _idleOldest = worker;
        }
        else
        {
            _idleNewest.Newer = worker;
        }

        _idleNewest = worker;
    }

    private void UnlinkIdle(CourierWorker worker)
    {
        if (worker.Older is null)
        {
            _idleOldest = worker.Newer;
        }
        else
        {
            worker.Older.Newer = worker.Newer;
        }

        if (worker.Newer is null)
        {
            _idleNewest = worker.Older;
        }
        else
        {
            worker.Newer.Older = worker.Older;
        }

        worker.Older = null;
        worker.Newer = null;
    }

    private void RetireIdle(CourierWorker worker)
    {
        worker.Site.Idle.Remove(worker);
        UnlinkIdle(worker);
        Retire(worker);
    }

    private static void Retire(CourierWorker worker)
    {
        if (worker.Established)
        {
            worker.Established = false;
            worker.Site.Established--;
        }

        worker.Retire();
    }

    private void CloseIdle()
    {
        while (_idleOldest is { } worker && worker.IdleSince + _services.Options.IdleTimeout.Ticks <= _now)
        {
            RetireIdle(worker);
        }
    }

    private void GiveUpOldestIdle()
    {
        if (_idleOldest is { } worker && _services.Permits.Starving > 0)
        {
            RetireIdle(worker);
        }
    }

    private void Bury(CourierWorker worker)
    {
        _workers--;
        worker.Site.Connections--;
        MarkDirty(worker.Site);
        _services.Permits.Release();
    }

    private void SiteFailed(SiteQueue site, CourierWorker worker)
    {
        DeliveryOutcome failure = worker.SiteFailure!;
        site.LastError = failure;
        if (site.Resting || worker.AttemptBegan < site.BackOffSetAt)
        {
            // Another courier of the same outage.
            return;
        }

        TimeSpan rest = LetRest(site, failure);
        _services.Logger.SiteRests(site.Key, (long)rest.TotalSeconds, failure.Text);
    }

    private TimeSpan LetRest(SiteQueue site, DeliveryOutcome failure)
    {
        site.LastError = failure;
        site.Failures++;
        TimeSpan rest = _services.Retry.BackOff(site.Failures);
        site.BackOffSetAt = _now;
        site.BackOffUntil = _now + rest.Ticks;
        site.Probing = false;
        site.Allowed = 1;
        return rest;
    }

    private static void SiteAnswered(SiteQueue site, int mostConnections)
    {
        site.Failures = 0;
        site.LastError = null;
        site.BackOffUntil = 0;
        site.Probing = false;
        site.Allowed = Math.Min(mostConnections, site.Allowed + 1);
    }

    /// <summary>An operator wants mail of the site tried now: one job finds out whether it is well.</summary>
    private void LiftBackOff(SiteQueue site)
    {
        if (site.Resting)
        {
            site.BackOffUntil = _now;
            MarkDirty(site);
        }
    }
}
