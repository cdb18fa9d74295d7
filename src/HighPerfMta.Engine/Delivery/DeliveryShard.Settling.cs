using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Reports and states that are written outside of transactions: a bounded number at a time, the other jobs wait in a list.</summary>
internal sealed partial class DeliveryShard
{
    /// <summary>Settlements under way in this shard at once; more wait.</summary>
    private const int MaxSettling = 64;

    /// <summary>Settlements of what couriers brought back that may wait; with more, no further attempt begins.</summary>
    private const int MaxFailing = 256;

    /// <summary>Settlements that could not be written and wait to be tried again; with more, no further one begins but those of couriers.</summary>
    private const int MaxPaused = 1024;

    private readonly Queue<Settlement> _failing = new();
    private readonly Queue<Decided> _decided = new();
    private readonly Dictionary<int, Settlement> _paused = [];
    private JobList _toSettle;
    private int _settling;

    /// <summary>A job whose way ends here; at most as many as the router tells.</summary>
    private readonly record struct Decided(int Slot, object? Subject, DeliveryEventKind Kind, NextHopKind Route);

    private void Decide(in DeliveryEvent e)
    {
        _router.Taken();
        ref Job job = ref _jobs[e.Slot];
        job.Place = JobPlace.Settling;
        _router.CountDecided(1);
        _decided.Enqueue(new Decided(e.Slot, e.Subject, e.Kind, e.Route));
    }

    /// <summary>For a job that a courier brought back.</summary>
    private void Settle(Settlement settlement)
    {
        if (settlement.Site is { } site)
        {
            site.InFlight++;
        }

        _jobs[settlement.Slot].Place = JobPlace.Settling;
        _failing.Enqueue(settlement);
    }

    private void StartSettlements()
    {
        while (_settling < MaxSettling)
        {
            if (_failing.TryDequeue(out Settlement? failing))
            {
                Begin(failing);
                continue;
            }

            if (_draining || (_decided.Count == 0 && _toSettle.IsEmpty))
            {
                return;
            }

            if (_paused.Count >= MaxPaused || !_services.Queue.MayAttempt)
            {
                _blocked = true;
                return;
            }

            if (_decided.TryDequeue(out Decided decided))
            {
                _router.CountDecided(-1);
                BeginDecided(decided);
            }
            else
            {
                BeginNext();
            }
        }
    }

    private void BeginDecided(in Decided decided)
    {
        int slot = decided.Slot;
        MessageId id = _jobs[slot].MessageId;
        if (_services.Pending.Has(slot, id))
        {
            PutToSettle(slot);
            return;
        }

        if (decided.Kind == DeliveryEventKind.Unserved)
        {
            RestUnread(slot, id, times: 0, (string)decided.Subject!);
            return;
        }

        if (decided.Kind == DeliveryEventKind.Unread && !_services.ReadsFailed(slot, id, out int times))
        {
            RestUnread(slot, id, times, (string)decided.Subject!);
            return;
        }

        string? reason = decided.Subject as string;
        DeliveryOutcome? outcome = decided.Subject as DeliveryOutcome;
        if (ReferenceEquals(outcome, RouteOutcomes.ResolverFailed) && _services.Troubles.Threw(slot, id))
        {
            reason = $"finding its way failed {JobTroubles.MaxThrows} times with an internal error";
        }

        SettlementKind kind = reason is not null ? SettlementKind.SetAside
            : outcome is not null ? SettlementKind.Outcome
            : decided.Route == NextHopKind.Hold ? SettlementKind.Hold : SettlementKind.Discard;
        Begin(new Settlement(_services, slot, kind) { Outcome = outcome, Reason = reason ?? "" });
    }

    /// <summary>The job that has waited longest to be settled: what it needs is in its entry, or with the operators' changes.</summary>
    private void BeginNext()
    {
        int slot = _toSettle.TakeFirst(_jobs);
        LeaveSettling(slot);
        ref Job job = ref _jobs[slot];
        if (_services.Pending.TryTake(slot, job.MessageId, out PendingSteering steering))
        {
            Occupy(slot);
            Begin(new Settlement(_services, slot, SettlementKind.Steer) { Steering = steering });
            return;
        }

        SettlementKind? kind = _services.Retry.NeedOf(job, _now) switch
        {
            JobNeed.Expiry => SettlementKind.Expire,
            JobNeed.Notice => SettlementKind.Notice,
            JobNeed.Bounce => SettlementKind.Bounce,
            _ => null,
        };
        if (kind is { } needed)
        {
            Occupy(slot);
            Begin(new Settlement(_services, slot, needed));
        }
        else
        {
            PlaceSafely(slot);
        }
    }

    /// <summary>The job is settled from now on, as one of its site's in flight.</summary>
    private void Occupy(int slot)
    {
        ref Job job = ref _jobs[slot];
        job.Place = JobPlace.Settling;
        if (SiteOf(job) is { } site)
        {
            site.InFlight++;
        }
    }

    private void Begin(Settlement settlement)
    {
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
        int slot = settlement.Slot;
        if (settlement.Site is { } site)
        {
            site.InFlight--;
            MarkDirty(site);
        }

        if (settlement.Finished)
        {
            Forget(slot, settlement.Id);
        }
        else if (done)
        {
            FinishSettled(settlement);
        }
        else if (settlement.Unusable is { } reason)
        {
            bool rests = settlement.Kind is SettlementKind.Expire or SettlementKind.Bounce or SettlementKind.Notice;
            Settle(new Settlement(_services, slot, SettlementKind.SetAside) { Reason = reason, Message = settlement.Message, RestsAfter = rests });
        }
        else if (!_draining)
        {
            Suspend(settlement);
        }
    }

    private void FinishSettled(Settlement settlement)
    {
        if (settlement.RestsAfter)
        {
            _services.Troubles.Rest(settlement.Slot, settlement.Id, _now + RestTime);
        }

        if (settlement.Kind == SettlementKind.Steer && settlement.Site is { } site && settlement.Steering.Recipients is null)
        {
            AfterSteering(site, settlement.Slot, settlement.Steering.Steering);
        }

        PlaceSafely(settlement.Slot);
    }

    /// <summary>It could not be written: it waits in the heap for its job, as one of its site's parked ones.</summary>
    private void Suspend(Settlement settlement)
    {
        if (settlement.Site is { } site)
        {
            site.Parked++;
        }

        _paused[settlement.Slot] = settlement;
        _due.Set(settlement, _now + settlement.Pause.Ticks);
    }

    private void Resume(Settlement settlement)
    {
        _due.Remove(settlement);
        _paused.Remove(settlement.Slot);
        if (settlement.Site is { } site)
        {
            site.Parked--;
            MarkDirty(site);
        }

        if ((_services.Pending.IsDropped(settlement.Slot, settlement.Id) && !settlement.HasDeliveries) || (settlement.CanBeForgotten && _services.Pending.Has(settlement.Slot, settlement.Id)))
        {
            // An operator's change goes first; whatever is needed then is begun anew.
            PlaceSafely(settlement.Slot);
        }
        else
        {
            Settle(settlement);
        }
    }
}
