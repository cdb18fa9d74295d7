namespace HighPerfMta.Engine.Delivery;

/// <summary>What couriers and settlements bring back.</summary>
internal sealed partial class DeliveryShard
{
    /// <summary>Settlements under way in this shard at once; more wait.</summary>
    private const int MaxSettling = 64;

    private readonly Queue<Settlement> _toSettle = new();
    private int _settling;

    private void TakeBack(CourierWorker worker)
    {
        SiteQueue site = worker.Site;
        site.Busy--;
        site.InFlight -= worker.Count;
        worker.Served += worker.Count;
        JudgeSite(site, worker);
        for (int i = worker.Count - 1; i >= 0; i--)
        {
            DeliveryJob job = worker.Batch[i]!;
            worker.Batch[i] = null;
            job.Place = JobPlace.None;
            TakeBack(job, in worker.Reports[i]);
            worker.Reports[i] = default;
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

    private void TakeBack(DeliveryJob job, in JobReport report)
    {
        SiteQueue site = job.Site!;
        switch (report.Result)
        {
            case JobResult.Untried:
                EnqueueFirst(site, job);
                break;
            case JobResult.Refused:
                job.Requeues++;
                site.Ceiling = Math.Max(1, site.Established);
                site.CeilingUntil = _now + CeilingTime;
                EnqueueFirst(site, job);
                break;
            case JobResult.Unusable:
                Settle(new Settlement(_services, job, SettlementKind.SetAside) { Reason = report.Reason! });
                break;
            default:
                if (report.Failures is not null)
                {
                    Settle(new Settlement(_services, job, SettlementKind.Failures) { Failures = report.Failures });
                }
                else if (report.Reason is not null)
                {
                    Settle(new Settlement(_services, job, SettlementKind.Outcome) { Outcome = RouteOutcomes.Threw });
                }
                else
                {
                    PlaceTried(job);
                }

                break;
        }
    }

    /// <summary>What is still due after an attempt (the site failed between two transactions) goes on waiting for the same site.</summary>
    private void PlaceTried(DeliveryJob job)
    {
        NextWake(job, out JobNeed need);
        if (need == JobNeed.Attempt)
        {
            EnqueueLast(job.Site!, job);
        }
        else
        {
            Place(job);
        }
    }

    private void JudgeSite(SiteQueue site, CourierWorker worker)
    {
        bool answered = worker.Answers > 0;
        if (answered)
        {
            SiteAnswered(site, worker, _services.Options.ConnectionsPerSite);
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

    private void Settle(Settlement settlement)
    {
        DeliveryJob job = settlement.Job;
        if (job.Place != JobPlace.Settling && job.Site is not null)
        {
            job.Site.InFlight++;
        }

        job.Place = JobPlace.Settling;
        if (_settling >= MaxSettling)
        {
            _toSettle.Enqueue(settlement);
            return;
        }

        _settling++;
        ValueTask<bool> run = settlement.RunAsync();
        if (run.IsCompletedSuccessfully)
        {
            // Through the channel also then: a long list of settlements must not nest.
            Post(new DeliveryEvent(DeliveryEventKind.Settled, settlement) { Succeeded = run.GetAwaiter().GetResult() });
        }
        else
        {
            _ = AwaitSettlementAsync(settlement, run);
        }
    }

    private async Task AwaitSettlementAsync(Settlement settlement, ValueTask<bool> run)
    {
        bool done = await run;
        Post(new DeliveryEvent(DeliveryEventKind.Settled, settlement) { Succeeded = done });
    }

    private void FinishSettlement(Settlement settlement, bool done)
    {
        _settling--;
        DeliveryJob job = settlement.Job;
        job.Place = JobPlace.None;
        if (job.Site is { } site)
        {
            site.InFlight--;
            MarkDirty(site);
        }

        if (done)
        {
            Place(job);
        }
        else if (!_draining)
        {
            // The settlement is in the heap for its job.
            job.Place = JobPlace.Parked;
            if (job.Site is not null)
            {
                job.Site.Parked++;
            }

            _due.Set(settlement, _now + settlement.Pause.Ticks);
        }

        if (_settling < MaxSettling && _toSettle.TryDequeue(out Settlement? next))
        {
            Settle(next);
        }
    }
}
