using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Where jobs are: each in one place, and from its entry alone it is decided which.</summary>
internal sealed partial class DeliveryShard
{
    /// <summary>Due jobs, or jobs of the inbox, that one turn places.</summary>
    private const int PlacedPerTurn = 2048;

    /// <summary>How long a job rests that could not be returned to its sender and could only be set aside.</summary>
    private static readonly long RestTime = TimeSpan.FromHours(1).Ticks;

    private readonly Lock _inboxGate = new();
    private JobList _inbox;
    private JobList _entering;

    /// <summary>Takes over a job in no list; from any thread. Costs nothing however many there are.</summary>
    public void AddToInbox(int slot)
    {
        bool first;
        lock (_inboxGate)
        {
            first = _inbox.IsEmpty;
            _inbox.AddLast(_jobs, slot);
        }

        if (first)
        {
            Post(new DeliveryEvent(DeliveryEventKind.Inbox));
        }
    }

    private void TakeInbox()
    {
        if (_entering.IsEmpty)
        {
            lock (_inboxGate)
            {
                _entering = _inbox;
                _inbox = default;
            }
        }

        for (int i = 0; i < PlacedPerTurn; i++)
        {
            int slot = _entering.TakeFirst(_jobs);
            if (slot == 0)
            {
                break;
            }

            PlaceSafely(slot);
        }

        lock (_inboxGate)
        {
            // What came into the inbox meanwhile was announced in a turn that had no place for it, and is not announced again.
            _more |= !_entering.IsEmpty || !_inbox.IsEmpty;
        }
    }

    private void RunDue()
    {
        uint reached = DueTime.Reached(_now);
        for (int i = 0; i < PlacedPerTurn && _router.HasRoom; i++)
        {
            int slot = _wheel.TakeDue(reached);
            if (slot == 0)
            {
                break;
            }

            LeaveParked(slot);
            PlaceSafely(slot);
        }

        if (_wheel.NextDue <= reached)
        {
            _blocked |= _router.IsStuck;
            _more |= !_router.IsStuck;
        }

        while (_due.TakeDue(_now) is { } item)
        {
            switch (item)
            {
                case SiteQueue site:
                    MarkDirty(site);
                    break;
                case Settlement settlement:
                    Resume(settlement);
                    break;
                case RestingJob resting:
                    EndRest(resting);
                    break;
            }
        }
    }

    private void PlaceSafely(int slot)
    {
        try
        {
            Place(slot);
        }
        catch (Exception error)
        {
            _services.Logger.JobFailed(error, _jobs[slot].MessageId);
            Strand(slot);
        }
    }

    /// <summary>
    /// What an exception left in an unknown state is marked as parked where its home looks for it: the next two sweeps find it in no list and place it.
    /// </summary>
    private void Strand(int slot)
    {
        if (_jobs.TryRead(slot, out Job job) && !IsListed(slot, job))
        {
            ref Job stray = ref _jobs[slot];
            stray.Next = 0;
            stray.Previous = 0;
            stray.Site = 0;
            Volatile.WriteBarrier();
            stray.Place = JobPlace.Parked;
            _router.NoteStray();
        }
    }

    /// <summary>
    /// Puts a job that is in no list where its entry says: to be changed (an operator's), to be settled (expiry, delay notice, bounce), routed for its next attempt,
    /// or parked until something is due.
    /// </summary>
    private void Place(int slot)
    {
        ref Job job = ref _jobs[slot];
        JobNeed need = _services.Retry.NeedOf(job, _now);
        if (_services.Pending.Has(slot, job.MessageId))
        {
            PutToSettle(slot);
        }
        else if (need == JobNeed.Attempt && !_draining && _router.HasRoom)
        {
            Route(slot);
        }
        else if (need <= JobNeed.Attempt)
        {
            Park(slot);
        }
        else if (!Rests(slot, job.MessageId))
        {
            PutToSettle(slot);
        }
    }

    /// <summary>The disk refused to read the job's message, or (no times) had no time for it: it is parked for a while. Only its entry says so, for its states cannot be read, and a million such jobs cost no more than others.</summary>
    private void RestUnread(int slot, MessageId id, int times, string reason)
    {
        if (times == 1)
        {
            _services.Logger.ReadDelayed(id, reason);
        }

        _jobs[slot].Due = DueTime.FromTicks(_now + _services.Retry.ReadWait(times).Ticks);
        PlaceSafely(slot);
    }

    private void Park(int slot)
    {
        ref Job job = ref _jobs[slot];
        if (SiteOf(job) is { } site)
        {
            site.Parked++;
        }

        _wheel.Add(slot);
        Enter(ref job, slot, JobPlace.Parked);
    }

    private void Enqueue(SiteQueue site, int slot, bool first)
    {
        site.Add(_jobs, _names, slot, first);
        MarkDirty(site);
        Enter(ref _jobs[slot], slot, JobPlace.Waiting);
    }

    private void PutToSettle(int slot)
    {
        ref Job job = ref _jobs[slot];
        if (SiteOf(job) is { } site)
        {
            site.InFlight++;
        }

        _toSettle.AddLast(_jobs, slot);
        Enter(ref job, slot, JobPlace.ToSettle);
    }

    /// <summary>Others see the place after everything else of the job; and a change that an operator left for it is seen here or there (see <see cref="PendingSteerings"/>).</summary>
    private void Enter(ref Job job, int slot, JobPlace place)
    {
        Volatile.WriteBarrier();
        job.Place = place;
        Interlocked.MemoryBarrier();
        if (place != JobPlace.ToSettle && _services.Pending.Has(slot, job.MessageId))
        {
            Post(new DeliveryEvent(DeliveryEventKind.ApplyPending, null, slot));
        }
    }

    /// <summary>Takes the job out of the list that it is in; its place is the caller's to set.</summary>
    private void Leave(int slot)
    {
        ref Job job = ref _jobs[slot];
        switch (job.Place)
        {
            case JobPlace.Waiting:
                SiteQueue at = SiteOf(job)!;
                at.Remove(_jobs, _names, slot);
                MarkDirty(at);
                break;
            case JobPlace.Parked:
                _wheel.Remove(slot);
                LeaveParked(slot);
                break;
            case JobPlace.ToSettle:
                _toSettle.Remove(_jobs, slot);
                LeaveSettling(slot);
                break;
        }
    }

    private void LeaveParked(int slot)
    {
        if (SiteOf(_jobs[slot]) is { } site)
        {
            site.Parked--;
            MarkDirty(site);
        }
    }

    private void LeaveSettling(int slot)
    {
        if (SiteOf(_jobs[slot]) is { } site)
        {
            site.InFlight--;
            MarkDirty(site);
        }
    }

    private SiteQueue? SiteOf(in Job job) => job.Site == 0 ? null : _services.Registry[job.Site];

    /// <summary>Finds the way of a job that is due and in no list.</summary>
    private void Route(int slot)
    {
        if (!_router.TryDecide(slot, out SiteDecision decision))
        {
            GiveAway(slot);
            _router.LookUp(slot);
        }
        else if (decision.Site is { } site && _router.ShardOf(site.Key) == this)
        {
            AssignHere(slot, site);
        }
        else
        {
            GiveAway(slot);
            _router.Tell(slot, decision);
        }
    }

    /// <summary>The job is the router's now.</summary>
    private void GiveAway(int slot)
    {
        ref Job job = ref _jobs[slot];
        job.Place = JobPlace.Routing;
        Volatile.WriteBarrier();
        job.Site = 0;
    }

    private void AssignHere(int slot, Site site)
    {
        SiteQueue queue = FindSite(site);
        ref Job job = ref _jobs[slot];
        job.Site = queue.Number;
        if (_services.Pending.Has(slot, job.MessageId))
        {
            PutToSettle(slot);
        }
        else
        {
            Enqueue(queue, slot, first: false);
        }
    }

    /// <summary>True when the job rests after its end could not be told: it is in the heap until then.</summary>
    private bool Rests(int slot, MessageId id)
    {
        if (!_services.Troubles.Any || _services.Troubles.RestsUntil(slot, id) is var until && until <= _now)
        {
            return false;
        }

        if (SiteOf(_jobs[slot]) is { } site)
        {
            site.Parked++;
        }

        RestingJob resting = new(slot, id);
        _resting[slot] = resting;
        _due.Set(resting, until);
        Enter(ref _jobs[slot], slot, JobPlace.Settling);
        return true;
    }

    private void EndRest(RestingJob resting)
    {
        _due.Remove(resting);
        _resting.Remove(resting.Slot);
        LeaveParked(resting.Slot);
        PlaceSafely(resting.Slot);
    }

    private readonly Dictionary<int, RestingJob> _resting = [];

    /// <summary>A job that nothing can be done with for the time being; as few as there are <see cref="JobTroubles"/>.</summary>
    private sealed class RestingJob(int slot, MessageId id) : Timed
    {
        public int Slot { get; } = slot;

        public MessageId Id { get; } = id;
    }
}
