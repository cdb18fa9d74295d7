using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What operators want of jobs: at once of those that the shard has, later of those that are with somebody else.</summary>
internal sealed partial class DeliveryShard
{
    private int _steering;

    private enum Holder : byte
    {
        /// <summary>The job is not in the queue any more.</summary>
        Nobody,

        /// <summary>In a list of this shard.</summary>
        This,

        /// <summary>In a list of another shard.</summary>
        Other,

        /// <summary>With a courier, a settlement or the router.</summary>
        Away,
    }

    private Holder Find(in JobRef asked)
    {
        if (asked.Slot <= 0 || !_jobs.TryRead(asked.Slot, out Job job) || job.MessageId != asked.Id)
        {
            return Holder.Nobody;
        }

        if (!IsListed(asked.Slot, job))
        {
            return Holder.Away;
        }

        return IsMine(asked.Slot) ? Holder.This : Holder.Other;
    }

    private static bool IsListed(int slot, in Job job) => slot > 0 && job.Place is JobPlace.Waiting or JobPlace.Parked or JobPlace.ToSettle;

    /// <summary>
    /// Whether a job that seemed to be in a list is in one of this shard. Only this shard gives a job one of its sites, and only it takes that away; a job without a site is its home's while it is in a
    /// list. Others set the place before they take the site, and after they give one, so that what is read in turn is believed only if it fits.
    /// </summary>
    private bool IsMine(int slot)
    {
        ref Job job = ref _jobs[slot];
        JobPlace before = job.Place;
        Volatile.ReadBarrier();
        int site = job.Site;
        Volatile.ReadBarrier();
        JobPlace after = job.Place;
        if (before != after || before is not (JobPlace.Waiting or JobPlace.Parked or JobPlace.ToSettle))
        {
            return false;
        }

        return site != 0
            ? _services.Registry[site]?.Shard == this
            : _router.HomeOf(slot) == this && before switch { JobPlace.Parked => _wheel.Contains(slot), JobPlace.ToSettle => _toSettle.Contains(_jobs, slot), _ => false };
    }

    private void Steer(SteerBatch batch)
    {
        for (int i = 0; i < batch.Asked.Count; i++)
        {
            JobRef asked = batch.Asked[i].Job;
            switch (Find(asked))
            {
                case Holder.This when batch.Steering.Applies(_jobs[asked.Slot]):
                    Leave(asked.Slot);
                    Occupy(asked.Slot);
                    batch.Slots.Add(asked.Slot);
                    batch.Sites.Add(SiteOf(_jobs[asked.Slot]));
                    batch.SlotsAsked.Add(i);
                    break;
                case Holder.Other:
                    batch.Elsewhere.Add(i);
                    break;
                case Holder.Away when _jobs.TryRead(asked.Slot, out Job away) && batch.Steering.Applies(away):
                    if (batch.Lent.Count < _services.Pending.Room)
                    {
                        batch.Lent.Add(asked);
                        batch.LentAsked.Add(i);
                    }
                    else
                    {
                        batch.Elsewhere.Add(i);
                    }

                    break;
            }
        }

        Volatile.Write(ref _steering, _steering + 1);
        _ = batch.RunAsync(_services.Queue, this);
    }

    private void FinishSteering(SteerBatch batch)
    {
        Volatile.Write(ref _steering, _steering - 1);
        for (int i = 0; i < batch.Slots.Count; i++)
        {
            FinishSteered(batch.Asked[batch.SlotsAsked[i]].Job, batch.Sites[i], batch);
        }

        if (batch.Error is null)
        {
            foreach (JobRef lent in batch.Lent)
            {
                Leave(lent, new PendingSteering(batch.Steering));
            }
        }

        batch.Completed.TrySetResult();
    }

    private void FinishSteered(in JobRef job, SiteQueue? site, SteerBatch batch)
    {
        if (site is not null)
        {
            site.InFlight--;
            MarkDirty(site);
        }

        if (batch.Error is null && batch.Steering.Kind == SteeringKind.Drop)
        {
            // The slot is free, or another job's.
            Forget(job.Slot, job.Id);
            return;
        }

        if (batch.Error is null && site is not null)
        {
            AfterSteering(site, job.Slot, batch.Steering);
        }

        PlaceSafely(job.Slot);
    }

    /// <summary>An operator wants the job tried now: its site's back-off is lifted.</summary>
    private void AfterSteering(SiteQueue site, int slot, in Steering steering)
    {
        if (steering.Kind is SteeringKind.Retry or SteeringKind.Release && _services.Retry.NeedOf(_jobs[slot], _now) == JobNeed.Attempt)
        {
            LiftBackOff(site);
        }
    }

    /// <summary>Leaves a change for a job that is with somebody else; if it has come back meanwhile, who has it is told.</summary>
    private bool Leave(in JobRef job, in PendingSteering steering)
    {
        if (!_jobs.TryRead(job.Slot, out Job away) || away.MessageId != job.Id)
        {
            return false;
        }

        if (!_services.Pending.TryAdd(job, steering))
        {
            _services.Logger.SteeringLate(job.Id);
            return false;
        }

        Interlocked.MemoryBarrier();
        if (!_jobs.TryRead(job.Slot, out away) || away.MessageId != job.Id)
        {
            _services.Pending.Forget(job.Slot, job.Id);
            return false;
        }

        if (away.Place == JobPlace.Settling || IsListed(job.Slot, away))
        {
            // What is listed has come back; what is settled may be waiting to be tried again.
            _router.OwnerOf(away, job.Slot).Post(new DeliveryEvent(DeliveryEventKind.ApplyPending, null, job.Slot));
        }

        return true;
    }

    private void ApplyPending(int slot)
    {
        if (!_jobs.TryRead(slot, out Job job) || !_services.Pending.Has(slot, job.MessageId))
        {
            return;
        }

        if (_paused.TryGetValue(slot, out Settlement? paused))
        {
            // Tried again at once: then the change's turn comes, or there is nothing left to write.
            _due.Set(paused, _now);
        }
        else if (_resting.TryGetValue(slot, out RestingJob? resting))
        {
            _due.Set(resting, _now);
        }
        else if (job.Place is JobPlace.Waiting or JobPlace.Parked)
        {
            if (IsMine(slot))
            {
                Leave(slot);
                PutToSettle(slot);
            }
            else if (_router.OwnerOf(job, slot) is var owner && owner != this)
            {
                owner.Post(new DeliveryEvent(DeliveryEventKind.ApplyPending, null, slot));
            }
        }
    }

    private void SteerRecipients(RecipientSteering request)
    {
        JobRef asked = request.Job;
        switch (Find(asked))
        {
            case Holder.This when _services.Pending.TryAdd(asked, new PendingSteering(request.Steering, request)):
                Leave(asked.Slot);
                PutToSettle(asked.Slot);
                break;
            case Holder.Away when Leave(asked, new PendingSteering(request.Steering, request)):
                break;
            default:
                request.Finish(RecipientSteering.LookAgain);
                break;
        }
    }
}
