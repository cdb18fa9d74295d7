using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Queue;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Delivery: splits messages into jobs by site, gives each site's jobs to the shard that owns it, and steers retries, expiry and reports.
/// </summary>
public sealed class DeliveryRoom : IDelivery
{
    private const int MaxStackRecipients = 128;
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
    public DeliveryRoom(
        IMailQueue queue, ISiteResolver resolver, ICourierFactory couriers, IReports reports, IEventLog events,
        DeliveryOptions options, RetryOptions retry, TimeProvider time, ILoggerFactory loggers, Random? random = null)
    {
        _services = new DeliveryServices(
            queue, resolver, couriers, reports, new OutcomeRecorder(events), options, new RetryPolicy(retry, random), time, loggers.CreateLogger<DeliveryRoom>());
        _shards = new DeliveryShard[options.Shards > 0 ? options.Shards : Environment.ProcessorCount];
        for (int i = 0; i < _shards.Length; i++)
        {
            _shards[i] = new DeliveryShard(_services);
        }

        _router = new Router(_services, _shards);
        _services.Permits.Freed = () => PostToAll(new DeliveryEvent(DeliveryEventKind.PermitFree));
        foreach (DeliveryShard shard in _shards)
        {
            shard.Launch(_router, PostToAll);
        }
    }

    public (int Transactions, int Connections) Activity => (_services.Transactions, _services.Permits.Used);

    public void Enqueue(QueuedMessage message)
    {
        if (_services.Stopping)
        {
            // It is durable: the next start finds it.
            return;
        }

        int count = message.RecipientCount;
        Span<int> due = count <= MaxStackRecipients ? stackalloc int[MaxStackRecipients] : new int[count];
        Span<int> later = count <= MaxStackRecipients ? stackalloc int[MaxStackRecipients] : new int[count];
        int dueCount = 0;
        int laterCount = 0;
        DateTimeOffset now = _services.Time.GetUtcNow();
        for (int i = 0; i < count; i++)
        {
            RecipientState state = message.GetRecipient(i);
            if (state.Status == RecipientStatus.Pending && state.DueAt <= now)
            {
                due[dueCount++] = i;
            }
            else if (!state.IsFinal)
            {
                later[laterCount++] = i;
            }
        }

        if (laterCount > 0)
        {
            _router.Park(message, later[..laterCount]);
        }

        if (dueCount > 0)
        {
            _router.Route(message, due[..dueCount], 0);
        }
    }

    public void Reconsider(QueuedMessage message) => PostToAll(new DeliveryEvent(DeliveryEventKind.Reconsider) { Message = message });

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
        if (_services.Resolver.TryResolve(recipient, out SiteDecision decision))
        {
            return decision.Site?.Key;
        }

        ValueTask<SiteDecision> resolving = _services.Resolver.ResolveAsync(recipient, _services.Cancellation);
        if (resolving.IsCompletedSuccessfully)
        {
            return resolving.GetAwaiter().GetResult().Site?.Key;
        }

        return null;
    }

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
        Task drained = Task.WhenAll(_shards.Select(static s => s.Drained));
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

    private async Task<bool> EndsAsync(Task task, TimeSpan limit, CancellationToken cancellation)
    {
        try
        {
            await task.WaitAsync(limit, _services.Time, cancellation);
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
