using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What couriers bring back.</summary>
internal sealed partial class DeliveryShard
{
    private void TakeBack(CourierWorker worker)
    {
        SiteQueue site = worker.Site;
        site.Busy--;
        site.InFlight -= worker.Count;
        worker.Served += worker.Count;
        worker.Brisk = worker.Answers > 0 && _now - worker.HandedOverAt <= worker.Count * BriskTime;
        site.Pace = worker.Answers > 0 && worker.SendsAhead ? (_now - worker.HandedOverAt) / worker.Count : long.MaxValue;
        JudgeSite(site, worker);
        for (int i = worker.Count - 1; i >= 0; i--)
        {
            DeliveryJob job = worker.Batch[i];
            worker.Batch[i] = default;
            try
            {
                TakeBack(site, in job);
            }
            catch (Exception error)
            {
                _services.Logger.JobFailed(error, job.Id);
                Strand(job.Slot);
            }
        }

        worker.Count = 0;
        MarkDirty(site);
        if (MustGo(site, worker))
        {
            Retire(worker);
        }
        else
        {
            GoIdle(worker);
        }
    }

    private void TakeBack(SiteQueue site, in DeliveryJob job)
    {
        if (job.Result == JobResult.Finished)
        {
            Forget(job.Slot, job.Id);
            return;
        }

        if (_services.Pending.IsDropped(job.Slot, job.Id) && !job.HasDeliveries)
        {
            Place(job.Slot);
            return;
        }

        if (job.HasDeliveries)
        {
            // Also when a later transaction of the job went wrong: what was delivered is not to be sent again.
            SettleEnds(job);
            return;
        }

        switch (job.Result)
        {
            case JobResult.Untried:
                PutBack(site, job.Slot);
                break;
            case JobResult.Refused:
                _services.Troubles.Requeued(job.Slot, job.Id);
                site.Ceiling = Math.Max(1, site.Established);
                site.CeilingUntil = _now + CeilingTime;
                PutBack(site, job.Slot);
                break;
            case JobResult.Threw when !_services.Troubles.Threw(job.Slot, job.Id):
                Settle(new Settlement(_services, job.Slot, SettlementKind.Outcome) { Outcome = RouteOutcomes.Threw });
                break;
            case JobResult.Unread when !_services.ReadsFailed(job.Slot, job.Id, out int times):
                RestUnread(job.Slot, job.Id, times, job.Reason!);
                break;
            case JobResult.Unserved:
                RestUnread(job.Slot, job.Id, times: 0, job.Reason!);
                break;
            case JobResult.Unusable or JobResult.Threw or JobResult.Unread:
                Settle(new Settlement(_services, job.Slot, SettlementKind.SetAside) { Reason = job.Reason!, Message = job.Message });
                break;
            default:
                if (_services.Troubles.Any)
                {
                    _services.Troubles.WasRead(job.Slot, job.Id);
                }

                if (job.Failures is not null)
                {
                    SettleEnds(job);
                }
                else
                {
                    PlaceTried(site, job.Slot);
                }

                break;
        }
    }

    private void SettleEnds(in DeliveryJob job) =>
        Settle(new Settlement(_services, job.Slot, SettlementKind.Failures) { Failures = job.Failures, HasDeliveries = job.HasDeliveries, Message = job.Message });

    /// <summary>To the head of its list, unless there is something else to do for it.</summary>
    private void PutBack(SiteQueue site, int slot)
    {
        ref Job job = ref _jobs[slot];
        if (_services.Pending.Has(slot, job.MessageId))
        {
            Place(slot);
        }
        else
        {
            Enqueue(site, slot, first: true);
        }
    }

    /// <summary>What is still due after an attempt (the site failed between two transactions, or others wait) goes on waiting for the same site.</summary>
    private void PlaceTried(SiteQueue site, int slot)
    {
        ref Job job = ref _jobs[slot];
        if (_services.Retry.NeedOf(job, _now) == JobNeed.Attempt && !_services.Pending.Has(slot, job.MessageId))
        {
            Enqueue(site, slot, first: false);
        }
        else
        {
            Place(slot);
        }
    }

    /// <summary>The job is out of the queue: nothing that is kept beside its entry may come to another job's.</summary>
    private void Forget(int slot, Protocol.Smtp.MessageId id)
    {
        _services.Pending.Forget(slot, id);
        if (_services.Troubles.Any)
        {
            _services.Troubles.Forget(slot, id);
        }
    }

    private void JudgeSite(SiteQueue site, CourierWorker worker)
    {
        bool answered = worker.Answers > 0;
        if (answered)
        {
            SiteAnswered(site, _services.Options.ConnectionsPerSite);
        }

        bool established = (worker.Established || answered) && !worker.IsClosed;
        if (established != worker.Established)
        {
            worker.Established = established;
            site.Established += established ? 1 : -1;
        }

        if (worker.SiteFailure is not null)
        {
            SiteFailed(site, worker);
        }
    }

    /// <summary>A closed courier without work, a broken one, and one whose permit others need.</summary>
    private bool MustGo(SiteQueue site, CourierWorker worker)
    {
        if (_draining || worker.Broken || worker.Refused || (worker.IsClosed && (site.Waiting == 0 || site.Resting)))
        {
            return true;
        }

        return _services.Permits.Starving > 0 && (site.Waiting == 0 || site.Usable > 0 || worker.Served >= TurnsWhileOthersStarve);
    }
}
