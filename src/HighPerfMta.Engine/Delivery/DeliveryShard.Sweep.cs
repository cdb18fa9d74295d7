using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Once a minute every job that waits for a connection or a lookup is looked at, a few chunks of the table a turn: expiry and delay notices come to jobs whose site takes nothing, and what a
/// bug lost is found. Parked jobs have the wheel for their times; as there may be millions they are looked at in two of ten sweeps only, and in the two that follow when one has
/// gone astray.
/// </summary>
internal sealed partial class DeliveryShard
{
    /// <summary>64 Ki jobs, about a millisecond.</summary>
    private const int ChunksPerTurn = 4;

    /// <summary>Jobs in no list that are remembered from one sweep to the next; the others are found later.</summary>
    private const int MaxSuspects = 1024;

    private static readonly long SweepEvery = TimeSpan.FromMinutes(1).Ticks;

    /// <summary>A job that was to be looked at so long ago has been forgotten.</summary>
    private static readonly uint OverdueUnits = (uint)(TimeSpan.FromMinutes(10).Ticks / DueTime.Unit);

    private const int SweepsOfParked = 2;
    private const int SweepsInAll = 10;

    private HashSet<JobRef> _suspects = [];
    private HashSet<JobRef> _suspectsBefore = [];
    private long _sweepAt;
    private int _sweepChunk = -1;
    private int _sweeps = SweepsOfParked - 1;
    private int _sweepsForStrays;
    private int _straysSeen;

    private void Sweep()
    {
        if (_draining)
        {
            return;
        }

        if (_sweepChunk < 0)
        {
            // The clock may have been set back.
            _sweepAt = Math.Min(_sweepAt, _now + SweepEvery);
            if (_now < _sweepAt)
            {
                return;
            }

            BeginSweep();
        }

        for (int i = 0; i < ChunksPerTurn; i++)
        {
            if (_sweepChunk >= _jobs.Chunks)
            {
                _sweepChunk = -1;
                return;
            }

            SweepChunk(_sweepChunk++);
        }

        _more = true;
    }

    private void BeginSweep()
    {
        _sweepChunk = 0;
        _sweeps = (_sweeps + 1) % SweepsInAll;
        _sweepsForStrays--;
        if (_router.Strays != _straysSeen || _suspects.Count == MaxSuspects)
        {
            // Two sweeps have to see them.
            _straysSeen = _router.Strays;
            _sweepsForStrays = SweepsOfParked;
        }

        _sweepAt = _now + SweepEvery;
        (_suspects, _suspectsBefore) = (_suspectsBefore, _suspects);
        _suspects.Clear();
        foreach (SiteQueue site in _sites.Values)
        {
            if (site.Waiting > 0 && site.Connections == 0 && !site.Resting)
            {
                MarkDirty(site);
            }
        }
    }

    private void SweepChunk(int chunk)
    {
        ReadOnlySpan<Job> jobs = _jobs.ReadChunk(chunk);
        bool takesParked = _sweeps < SweepsOfParked || _sweepsForStrays > 0;
        for (int i = 0; i < jobs.Length; i++)
        {
            ref readonly Job job = ref jobs[i];
            int slot = (chunk * JobTable.ChunkJobs) + i;
            switch (job.Place)
            {
                case JobPlace.Waiting when SiteOf(job) is { } site && site.Shard == this:
                    SweepWaiting(slot, site);
                    break;
                case JobPlace.Parked when takesParked && _router.OwnerOf(job, slot) == this:
                    SweepParked(slot);
                    break;
                case JobPlace.Routing when job.Site == Router.InBacklog && _router.HomeOf(slot) == this:
                    SweepBacklog(slot, job);
                    break;
                case JobPlace.ToSettle when job.Next == 0 && job.Previous == 0 && _router.OwnerOf(job, slot) == this && !_toSettle.Contains(_jobs, slot):
                    Suspect(slot);
                    break;
            }
        }
    }

    private void SweepWaiting(int slot, SiteQueue site)
    {
        ref Job job = ref _jobs[slot];
        if (job.Next == 0 && job.Previous == 0 && !site.Contains(_jobs, _names, slot))
        {
            Suspect(slot);
        }
        else if (_services.Retry.NeedOf(job, _now) > JobNeed.Attempt)
        {
            Leave(slot);
            PlaceSafely(slot);
        }
    }

    /// <summary>It waits for a lookup of its destination: with a DNS that does not answer, and many domains, for long.</summary>
    private void SweepBacklog(int slot, in Job job)
    {
        if (_services.Retry.NeedOf(job, _now) > JobNeed.Attempt && _router.TryTakeOut(slot, job.MessageId))
        {
            PlaceSafely(slot);
        }
    }

    private void SweepParked(int slot)
    {
        ref Job job = ref _jobs[slot];
        if (job.Next == 0 && job.Previous == 0 && !_wheel.Contains(slot))
        {
            Suspect(slot);
            return;
        }

        uint wake = _services.Retry.WakeTime(job);
        uint reached = DueTime.Reached(_now);
        if (wake + (ulong)OverdueUnits < reached && _router.HasRoom && IsMine(slot) && _wheel.NextDue > reached)
        {
            _services.Logger.JobOverdue(job.MessageId, (long)TimeSpan.FromTicks((reached - wake) * DueTime.Unit).TotalSeconds);
            Leave(slot);
            PlaceSafely(slot);
        }
    }

    /// <summary>A job in no list is believed lost when a second sweep sees it so: the first may have seen it between two lists of other shards.</summary>
    private void Suspect(int slot)
    {
        ref Job job = ref _jobs[slot];
        JobRef suspect = new(slot, job.MessageId);
        if (!_suspectsBefore.Contains(suspect))
        {
            if (_suspects.Count < MaxSuspects)
            {
                _suspects.Add(suspect);
            }

            return;
        }

        if (_router.OwnerOf(job, slot) == this && job.Place is JobPlace.Waiting or JobPlace.Parked or JobPlace.ToSettle)
        {
            _services.Logger.JobStray(suspect.Id, job.Place);
            PlaceSafely(slot);
        }
    }
}
