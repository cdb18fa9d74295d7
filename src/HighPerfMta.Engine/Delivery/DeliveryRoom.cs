using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Delivery: splits messages into jobs by site, gives each site's jobs to the shard that owns it, and steers retries, expiry and reports.
/// </summary>
public sealed partial class DeliveryRoom : IDelivery
{
    private static readonly TimeSpan CutOffTime = TimeSpan.FromSeconds(10);

    private readonly DeliveryServices _services;
    private readonly DeliveryShard[] _shards;
    private readonly Router _router;
    private readonly Lock _gate = new();
    private Task? _drain;
    private bool _disposed;

    /// <param name="queue">Where outcomes are recorded.</param>
    /// <param name="resolver">Finds sites.</param>
    /// <param name="couriers">Makes outbound sessions.</param>
    /// <param name="reports">Makes delivery status notifications.</param>
    /// <param name="events">Gets an event for every change of a recipient.</param>
    /// <param name="options">The <c>[delivery]</c> table.</param>
    /// <param name="retry">The <c>[retry]</c> table.</param>
    /// <param name="time">The clock.</param>
    /// <param name="loggers">For what operators should know.</param>
    /// <param name="random">Jitter; null for a shared source.</param>
    /// <param name="background">Where the shards run; null for the thread pool.</param>
    public DeliveryRoom(
        IMailQueue queue, ISiteResolver resolver, ICourierFactory couriers, IReports reports, IEventLog events,
        DeliveryOptions options, RetryOptions retry, TimeProvider time, ILoggerFactory loggers, Random? random = null, Background? background = null)
    {
        _services = new DeliveryServices(
            queue, resolver, couriers, reports, new OutcomeRecorder(events), options, new RetryPolicy(retry, random), time, loggers.CreateLogger<DeliveryRoom>(), background ?? Background.Threads);
        _shards = new DeliveryShard[options.Shards > 0 ? options.Shards : Environment.ProcessorCount];
        for (int i = 0; i < _shards.Length; i++)
        {
            _shards[i] = new DeliveryShard(i, _services);
        }

        _router = new Router(_services, _shards);
        _services.Begin(_router);
        _services.Permits.Freed = () => PostToAll(new DeliveryEvent(DeliveryEventKind.PermitFree));
        foreach (DeliveryShard shard in _shards)
        {
            shard.Launch(_router, PostToAll);
        }
    }

    public (int Transactions, int Connections) Activity => (_services.Transactions, _services.Permits.Used);

    public void Enqueue(QueuedMessage message)
    {
        ArgumentNullException.ThrowIfNull(message);
        int slot = message.Slot;
        if (_services.Stopping || slot == 0)
        {
            // It is durable: the next start finds it.
            return;
        }

        ref Job job = ref _services.Queue.Jobs[slot];
        if (_router.HasRoom && job is { IsHeld: false, Attempts: 0 } && message.Envelope.Parameters?.ReleaseAt is null)
        {
            _router.Enter(slot);
        }
        else
        {
            _router.HomeOf(slot).AddToInbox(slot);
        }
    }

    public void Restore(int slot)
    {
        if (!_services.Stopping)
        {
            _router.HomeOf(slot).AddToInbox(slot);
        }
    }

    public IReadOnlyList<SiteStatus> Sites()
    {
        List<SiteStatus> sites = [];
        foreach (DeliveryShard shard in _shards)
        {
            foreach (SiteQueue site in shard.Sites)
            {
                sites.Add(site.Status());
            }
        }

        return sites;
    }

    public string? SiteOf(EmailAddress recipient)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        return SiteOf(recipient.Domain);
    }

    public string? SiteOf(string domain)
    {
        if (_services.Resolver.TryResolve(domain, default, out SiteDecision decision))
        {
            return decision.Site?.Key;
        }

        ValueTask<SiteDecision> resolving = _services.Resolver.ResolveAsync(domain, default, _services.Cancellation);
        if (resolving.IsCompletedSuccessfully)
        {
            return resolving.GetAwaiter().GetResult().Site?.Key;
        }

        return null;
    }

    public string? SiteKey(int number) => _services.Registry[number]?.Key;

    public int SiteNumber(string key) => _services.Registry.Find(key)?.Number ?? 0;

    public Task DrainAsync(CancellationToken cancellation)
    {
        lock (_gate)
        {
            return _drain ??= DrainOnceAsync(cancellation);
        }
    }

    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
        }

        await DrainAsync(new CancellationToken(canceled: true));
        foreach (DeliveryShard shard in _shards)
        {
            await shard.CloseAsync();
        }

        await _services.CancelAsync();
        _services.Dispose();
    }

    /// <summary>Settlements, operators' changes and splits under way: for tests, which must see that nothing is.</summary>
    internal int Writing
    {
        get
        {
            int writing = _router.Splitting;
            foreach (DeliveryShard shard in _shards)
            {
                writing += shard.Writing;
            }

            return writing;
        }
    }

    /// <summary>Turns of all shards so far.</summary>
    internal long Turns
    {
        get
        {
            long turns = 0;
            foreach (DeliveryShard shard in _shards)
            {
                turns += shard.Turns;
            }

            return turns;
        }
    }

    /// <summary>Completes when the shards have worked off what was posted so far: for tests, which must see that nothing happens.</summary>
    internal Task WorkedOffAsync()
    {
        Task[] barriers = new Task[_shards.Length];
        for (int i = 0; i < barriers.Length; i++)
        {
            TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
            _shards[i].Post(new DeliveryEvent(DeliveryEventKind.Barrier, done));
            barriers[i] = done.Task;
        }

        return Task.WhenAll(barriers);
    }

    private async Task DrainOnceAsync(CancellationToken cancellation)
    {
        _services.Stop();
        PostToAll(new DeliveryEvent(DeliveryEventKind.Drain));
        Task drained = QuietAsync();
        if (await EndsAsync(drained, _services.Options.DrainTimeout, cancellation))
        {
            return;
        }

        // A hurried stop comes here before the shards have said that nothing is in flight: only what is cut off is worth a warning.
        int cutOff = _services.Transactions;
        if (cutOff > 0)
        {
            _services.Logger.DrainCutOff(cutOff);
        }

        await _services.CancelAsync();
        if (!await EndsAsync(drained, CutOffTime, CancellationToken.None))
        {
            _services.Logger.DrainUnfinished(CutOffTime.TotalSeconds, _services.Permits.Used);
        }
    }

    private async Task QuietAsync()
    {
        Task quiet = _router.QuietAsync();
        foreach (DeliveryShard shard in _shards)
        {
            await shard.Drained;
        }

        await quiet;
    }

    private async Task<bool> EndsAsync(Task task, TimeSpan limit, CancellationToken cancellation)
    {
        try
        {
            await task.WithinAsync(limit, _services.Time, cancellation);
            return true;
        }
        catch (Exception error) when (error is TimeoutException or OperationCanceledException)
        {
            return task.IsCompleted;
        }
    }

    private void PostToAll(DeliveryEvent e)
    {
        foreach (DeliveryShard shard in _shards)
        {
            shard.Post(e);
        }
    }
}
