using System.Collections.Concurrent;
using System.Threading.Channels;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// An actor that owns the sites whose key hashes to it, with their jobs, couriers and back-off, and the jobs without a site whose slot falls on it. Everything happens on its one loop; others only
/// <see cref="Post"/>. Its channel is unbounded by itself and bounded by what posts to it: as many jobs as the router tells at once, one event for every permit, and a few for timers, settlements
/// and operators. Jobs that come in masses come through the inbox, which is a list through the jobs themselves.
/// </summary>
/// <remarks>
/// This file takes events and runs the turns; <c>DeliveryShard.Jobs.cs</c> places jobs; <c>.Sites.cs</c> decides what a site may do; <c>.Outcomes.cs</c> takes back what couriers did;
/// <c>.Settling.cs</c> has reports and states written; <c>.Steering.cs</c> does what operators want; <c>.Sweep.cs</c> looks after everything once a minute; <c>.Explain.cs</c> answers questions.
/// </remarks>
internal sealed partial class DeliveryShard
{
    /// <summary>Events taken before sites are looked at: under load several jobs of a site are then handed over together.</summary>
    private const int EventsPerTurn = 256;

    /// <summary>The clock may be set: nothing sleeps longer than this without looking.</summary>
    private static readonly TimeSpan LongestSleep = TimeSpan.FromMinutes(1);

    private readonly int _index;
    private readonly DeliveryServices _services;
    private readonly JobTable _jobs;
    private readonly JobNames _names;
    private readonly Channel<DeliveryEvent> _events = Channel.CreateUnbounded<DeliveryEvent>(new UnboundedChannelOptions { SingleReader = true });
    private readonly ConcurrentDictionary<string, SiteQueue> _sites = new(1, 64, StringComparer.Ordinal);
    private readonly DueHeap _due = new();
    private readonly DueWheel _wheel;
    private readonly List<TaskCompletionSource> _barriers = [];
    private readonly ITimer _timer;
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Router _router = null!;
    private Action<DeliveryEvent> _postToAll = null!;
    private long _now;
    private long _armedFor = long.MaxValue;
    private bool _draining;
    private bool _more;
    private bool _blocked;
    private long _turns;
    private Task _loop = Task.CompletedTask;

    public DeliveryShard(int index, DeliveryServices services)
    {
        _index = index;
        _services = services;
        _jobs = services.Queue.Jobs;
        _names = services.Queue.Names;
        _wheel = new DueWheel(_jobs, services.Retry.WakeTime);
        _timer = services.Time.CreateTimer(static shard => ((DeliveryShard)shard!).Post(new DeliveryEvent(DeliveryEventKind.Timer)), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Completes when, after <see cref="DeliveryEventKind.Drain"/>, no courier and no settlement is left.</summary>
    public Task Drained => _drained.Task;

    public IEnumerable<SiteQueue> Sites => _sites.Values;

    /// <summary>Reports, states and operators' changes being written; as the last turn left it.</summary>
    public int Writing => Volatile.Read(ref _settling) + Volatile.Read(ref _steering);

    /// <summary>Turns of the loop so far: what a resting queue costs.</summary>
    public long Turns => Volatile.Read(ref _turns);

    public void Launch(Router router, Action<DeliveryEvent> postToAll)
    {
        _router = router;
        _postToAll = postToAll;
        _now = _services.Time.GetUtcNow().UtcTicks;
        _sweepAt = _now + SweepEvery;
        _loop = _services.Background.Run(RunAsync);
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
            Volatile.Write(ref _turns, _turns + 1);
            _now = _services.Time.GetUtcNow().UtcTicks;
            _more = false;
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
            if (e.Kind is DeliveryEventKind.Assign or DeliveryEventKind.Decide or DeliveryEventKind.Unroutable or DeliveryEventKind.Unread or DeliveryEventKind.Unserved or DeliveryEventKind.Adopt)
            {
                Strand(e.Slot);
            }
        }
    }

    private void FinishTurn()
    {
        try
        {
            _blocked = false;
            TakeInbox();
            if (!_draining)
            {
                RunDue();
            }

            StartSettlements();
            Sweep();
            PumpSites();
            CloseIdle();
            if (_more)
            {
                Post(new DeliveryEvent(DeliveryEventKind.Continue));
                return;
            }

            if (!_draining)
            {
                // What is due stays due then: a timer for it would fire without end.
                ArmTimer();
            }
        }
        catch (Exception error)
        {
            _services.Logger.ShardFailed(error, DeliveryEventKind.Timer);
        }

        foreach (TaskCompletionSource barrier in _barriers)
        {
            barrier.TrySetResult();
        }

        _barriers.Clear();
        if (_draining && _workers == 0 && _settling == 0 && _steering == 0 && _failing.Count == 0)
        {
            _drained.TrySetResult();
        }
    }

    private void Handle(in DeliveryEvent e)
    {
        switch (e.Kind)
        {
            case DeliveryEventKind.Assign:
                _router.Taken();
                AssignHere(e.Slot, (Site)e.Subject!);
                break;
            case DeliveryEventKind.Decide or DeliveryEventKind.Unroutable or DeliveryEventKind.Unread or DeliveryEventKind.Unserved:
                Decide(in e);
                break;
            case DeliveryEventKind.Adopt:
                Place(e.Slot);
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
            case DeliveryEventKind.Inbox or DeliveryEventKind.Continue:
                break;
            default:
                HandleOperator(in e);
                break;
        }
    }

    private void HandleOperator(in DeliveryEvent e)
    {
        switch (e.Kind)
        {
            case DeliveryEventKind.Steer:
                Steer((SteerBatch)e.Subject!);
                break;
            case DeliveryEventKind.Steered:
                FinishSteering((SteerBatch)e.Subject!);
                break;
            case DeliveryEventKind.SteerRecipients:
                SteerRecipients((RecipientSteering)e.Subject!);
                break;
            case DeliveryEventKind.ApplyPending:
                ApplyPending(e.Slot);
                break;
            case DeliveryEventKind.Explain:
                Explain((Explaining)e.Subject!);
                break;
        }
    }

    private void ArmTimer()
    {
        long next = Math.Min(_due.FirstDue, _idleOldest is null ? long.MaxValue : _idleOldest.IdleSince + _services.Options.IdleTimeout.Ticks);
        uint wheel = _wheel.NextDue;
        next = wheel == uint.MaxValue ? next : Math.Min(next, DueTime.ToTicks(wheel));
        next = _blocked ? Math.Min(next, _now + Stall) : next;
        next = _jobs.Count > 0 ? Math.Min(next, _sweepAt) : next;
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
