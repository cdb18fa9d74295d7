using System.Collections.Concurrent;
using System.Threading.Channels;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// An actor that owns the sites whose key hashes to it: their jobs, couriers and back-off. Everything happens on its one loop; others only
/// <see cref="Post"/>. Its channel is unbounded by itself and bounded by what posts to it: at most one event for every open recipient of the
/// queue, one for every permit, and a few for timers and settlements.
/// </summary>
/// <remarks>
/// This file takes events and owns the jobs; <c>DeliveryShard.Sites.cs</c> decides what a site may do; <c>DeliveryShard.Outcomes.cs</c> takes
/// back what couriers and settlements did.
/// </remarks>
internal sealed partial class DeliveryShard
{
    /// <summary>Events taken before sites are looked at: under load several jobs of a site are then handed over together.</summary>
    private const int EventsPerTurn = 256;

    /// <summary>The clock may be set: nothing sleeps longer than this without looking.</summary>
    private static readonly TimeSpan LongestSleep = TimeSpan.FromMinutes(1);

    private readonly DeliveryServices _services;
    private readonly Channel<DeliveryEvent> _events = Channel.CreateUnbounded<DeliveryEvent>(new UnboundedChannelOptions { SingleReader = true });
    private readonly ConcurrentDictionary<string, SiteQueue> _sites = new(1, 64, StringComparer.Ordinal);
    private readonly DueHeap _due = new();
    private readonly HashSet<QueuedMessage> _reconsider = [];
    private readonly List<Timed> _found = [];
    private readonly List<int> _scratch = [];
    private readonly List<TaskCompletionSource> _barriers = [];
    private readonly ITimer _timer;
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Router _router = null!;
    private Action<DeliveryEvent> _postToAll = null!;
    private DeliveryJob? _freeJobs;
    private int _freeCount;
    private long _now;
    private long _armedFor = long.MaxValue;
    private bool _draining;
    private Task _loop = Task.CompletedTask;

    public DeliveryShard(DeliveryServices services)
    {
        _services = services;
        _timer = services.Time.CreateTimer(static shard => ((DeliveryShard)shard!).Post(new DeliveryEvent(DeliveryEventKind.Timer)), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Completes when, after <see cref="DeliveryEventKind.Drain"/>, no courier and no settlement is left.</summary>
    public Task Drained => _drained.Task;

    public IEnumerable<SiteQueue> Sites => _sites.Values;

    public void Launch(Router router, Action<DeliveryEvent> postToAll)
    {
        _router = router;
        _postToAll = postToAll;
        _loop = Task.Run(RunAsync);
    }

    public void Post(in DeliveryEvent e) => _events.Writer.TryWrite(e);

    public async ValueTask CloseAsync()
    {
        _events.Writer.TryComplete();
        await _loop;
        await _timer.DisposeAsync();
    }

    private async Task RunAsync()
    {
        ChannelReader<DeliveryEvent> reader = _events.Reader;
        while (await reader.WaitToReadAsync())
        {
            _now = _services.Time.GetUtcNow().UtcTicks;
            for (int i = 0; i < EventsPerTurn && reader.TryRead(out DeliveryEvent e); i++)
            {
                Take(in e);
            }

            FinishTurn();
        }
    }

    private void Take(in DeliveryEvent e)
    {
        try
        {
            Handle(in e);
        }
        catch (Exception error)
        {
            _services.Logger.ShardFailed(error, e.Kind);
        }
    }

    private void FinishTurn()
    {
        try
        {
            if (_reconsider.Count > 0)
            {
                ReconsiderJobs();
            }

            if (!_draining)
            {
                RunDue();
            }

            PumpSites();
            CloseIdle();
            if (!_draining)
            {
                // What is due stays due then: a timer for it would fire without end.
                ArmTimer();
            }

            foreach (TaskCompletionSource barrier in _barriers)
            {
                barrier.TrySetResult();
            }

            _barriers.Clear();
            if (_draining && _workers == 0 && _settling == 0)
            {
                _drained.TrySetResult();
            }
        }
        catch (Exception error)
        {
            _services.Logger.ShardFailed(error, DeliveryEventKind.Timer);
        }
    }

    private void Handle(in DeliveryEvent e)
    {
        switch (e.Kind)
        {
            case DeliveryEventKind.Assign:
                Assign(in e);
                break;
            case DeliveryEventKind.Park:
                DeliveryJob parked = Rent(in e);
                Place(parked);
                break;
            case DeliveryEventKind.Decide:
                Decide(in e);
                break;
            case DeliveryEventKind.WorkerDone:
                TakeBack((CourierWorker)e.Subject!);
                break;
            case DeliveryEventKind.WorkerGone:
                Bury((CourierWorker)e.Subject!);
                break;
            case DeliveryEventKind.Settled:
                FinishSettlement((Settlement)e.Subject!, e.Succeeded);
                break;
            case DeliveryEventKind.Reconsider:
                _reconsider.Add(e.Message!);
                break;
            case DeliveryEventKind.Timer:
                _armedFor = long.MaxValue;
                break;
            case DeliveryEventKind.PermitFree:
                ServeStarved();
                break;
            case DeliveryEventKind.Starvation:
                GiveUpOldestIdle();
                break;
            case DeliveryEventKind.Drain:
                Drain();
                break;
            case DeliveryEventKind.Barrier:
                _barriers.Add((TaskCompletionSource)e.Subject!);
                break;
        }
    }

    private void Assign(in DeliveryEvent e)
    {
        SiteQueue site = FindSite((Site)e.Subject!);
        DeliveryJob job = Rent(in e);
        job.Site = site;
        EnqueueLast(site, job);
    }

    private void Decide(in DeliveryEvent e)
    {
        DeliveryJob job = Rent(in e);
        SettlementKind kind = e.Outcome is not null ? SettlementKind.Outcome : e.Route == NextHopKind.Hold ? SettlementKind.Hold : SettlementKind.Discard;
        Settle(new Settlement(_services, job, kind) { Outcome = e.Outcome });
    }

    private void RunDue()
    {
        while (_due.TakeDue(_now) is { } item)
        {
            switch (item)
            {
                case DeliveryJob job:
                    LeavePlace(job);
                    Place(job);
                    break;
                case SiteQueue site:
                    MarkDirty(site);
                    break;
                case Settlement settlement:
                    LeavePlace(settlement.Job);
                    Settle(settlement);
                    break;
            }
        }
    }

    /// <summary>
    /// Puts a job that is in no place where its recipients' states say: freed, settled (expiry, delay notice), routed for its next attempt,
    /// or parked until something is due.
    /// </summary>
    private void Place(DeliveryJob job)
    {
        long wake = NextWake(job, out JobNeed need);
        switch (need)
        {
            case JobNeed.Nothing:
                Free(job);
                break;
            case JobNeed.Expiry:
                Settle(new Settlement(_services, job, SettlementKind.Expire));
                break;
            case JobNeed.Notice:
                Settle(new Settlement(_services, job, SettlementKind.Notice));
                break;
            case JobNeed.Attempt when !_draining:
                RouteDue(job);
                break;
            default:
                ParkUntil(job, wake);
                break;
        }
    }

    private enum JobNeed
    {
        Nothing, Waiting, Attempt, Notice, Expiry,
    }

    /// <summary>What the job needs now, and when it needs something next if that is nothing.</summary>
    private long NextWake(DeliveryJob job, out JobNeed need)
    {
        need = JobNeed.Nothing;
        QueuedMessage message = job.Message;
        long expires = _services.Retry.ExpiresAt(message);
        long notice = _services.Retry.NoticeAt(message);
        long wake = expires;
        foreach (int recipient in job.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            if (state.IsFinal)
            {
                continue;
            }

            JobNeed one = JobNeed.Waiting;
            if (expires <= _now)
            {
                one = JobNeed.Expiry;
            }
            else if (state.Status == RecipientStatus.Pending)
            {
                bool noticeOpen = !state.DelayNoticeSent && notice < expires;
                one = noticeOpen && notice <= _now ? JobNeed.Notice : state.DueAt.UtcTicks <= _now ? JobNeed.Attempt : JobNeed.Waiting;
                wake = Math.Min(wake, Math.Max(state.DueAt.UtcTicks, _now));
                wake = noticeOpen ? Math.Min(wake, notice) : wake;
            }

            need = one > need ? one : need;
        }

        return wake;
    }

    /// <summary>When a job in a site's queue has to be looked at although no courier takes it.</summary>
    private long WatchTime(DeliveryJob job)
    {
        long expires = _services.Retry.ExpiresAt(job.Message);
        long notice = _services.Retry.NoticeAt(job.Message);
        if (notice > _now || notice >= expires)
        {
            return Math.Min(expires, notice);
        }

        foreach (int recipient in job.Recipients)
        {
            if (job.Message.GetRecipient(recipient) is { Status: RecipientStatus.Pending, DelayNoticeSent: false })
            {
                return notice;
            }
        }

        return expires;
    }

    /// <summary>Routes the recipients that are due; the others stay in the job.</summary>
    private void RouteDue(DeliveryJob job)
    {
        QueuedMessage message = job.Message;
        byte throws = job.Throws;
        List<int> due = _scratch;
        due.Clear();
        List<int>? rest = null;
        foreach (int recipient in job.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            if (state.Status == RecipientStatus.Pending && state.DueAt.UtcTicks <= _now)
            {
                due.Add(recipient);
            }
            else if (!state.IsFinal)
            {
                (rest ??= []).Add(recipient);
            }
        }

        if (rest is null)
        {
            Free(job);
        }
        else
        {
            job.SetRecipients(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(rest));
            ParkUntil(job, NextWake(job, out _));
        }

        _router.Route(message, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(due), throws);
    }

    private void ParkUntil(DeliveryJob job, long due)
    {
        job.Place = JobPlace.Parked;
        if (job.Site is { } site)
        {
            site.Parked++;
        }

        _due.Set(job, due);
    }

    private void EnqueueLast(SiteQueue site, DeliveryJob job)
    {
        job.Place = JobPlace.Waiting;
        site.AddLast(job);
        _due.Set(job, WatchTime(job));
        MarkDirty(site);
    }

    private void EnqueueFirst(SiteQueue site, DeliveryJob job)
    {
        job.Place = JobPlace.Waiting;
        site.AddFirst(job);
        _due.Set(job, WatchTime(job));
        MarkDirty(site);
    }

    /// <summary>Takes the job out of the heap and of its site's queue.</summary>
    private void LeavePlace(DeliveryJob job)
    {
        _due.Remove(job);
        SiteQueue? site = job.Site;
        if (site is not null)
        {
            if (job.Place == JobPlace.Waiting)
            {
                site.Remove(job);
            }
            else if (job.Place == JobPlace.Parked)
            {
                site.Parked--;
            }

            MarkDirty(site);
        }

        job.Place = JobPlace.None;
    }

    /// <summary>
    /// Applies what operators did: one pass over the jobs for all messages that came together, so that no index from message to job is kept.
    /// Jobs in flight or being settled read the states when they come back.
    /// </summary>
    private void ReconsiderJobs()
    {
        _found.Clear();
        for (int i = 0; i < _due.Count; i++)
        {
            DeliveryJob? owner = _due[i] switch
            {
                DeliveryJob waiting => waiting,
                Settlement paused => paused.Job,
                _ => null,
            };
            if (owner is not null && _reconsider.Contains(owner.Message))
            {
                _found.Add(_due[i]);
            }
        }

        _reconsider.Clear();
        foreach (Timed item in _found)
        {
            if (item is not DeliveryJob job)
            {
                // A settlement that failed is tried again at once: it reads the states, and there may be nothing left to do.
                _due.Set(item, _now);
                continue;
            }

            NextWake(job, out JobNeed need);
            if (need == JobNeed.Attempt && job.Site is { } site)
            {
                LiftBackOff(site);
            }

            if (job.Place == JobPlace.Parked || need != JobNeed.Attempt)
            {
                LeavePlace(job);
                Place(job);
            }
        }

        _found.Clear();
    }

    private DeliveryJob Rent(in DeliveryEvent e)
    {
        DeliveryJob job = _freeJobs ?? new DeliveryJob();
        if (_freeJobs is not null)
        {
            _freeJobs = job.Next;
            job.Next = null;
            _freeCount--;
        }

        job.Set(e.Message!, e.Recipient, e.Recipients);
        job.Throws = e.Throws;
        return job;
    }

    private void Free(DeliveryJob job)
    {
        job.Clear();
        if (_freeCount < 4096)
        {
            job.Next = _freeJobs;
            _freeJobs = job;
            _freeCount++;
        }
    }

    private void ArmTimer()
    {
        long next = Math.Min(_due.FirstDue, _idleOldest is null ? long.MaxValue : _idleOldest.IdleSince + _services.Options.IdleTimeout.Ticks);
        if (next == long.MaxValue || next >= _armedFor)
        {
            return;
        }

        // Rounded up to the timer's millisecond, so that it never fires just before the time.
        long wait = Math.Clamp(next - _now, 0, LongestSleep.Ticks);
        _armedFor = _now + wait;
        _timer.Change(TimeSpan.FromMilliseconds(Math.Ceiling(wait / (double)TimeSpan.TicksPerMillisecond)), Timeout.InfiniteTimeSpan);
    }

    private void Drain()
    {
        _draining = true;
        while (_idleOldest is not null)
        {
            RetireIdle(_idleOldest);
        }
    }
}
