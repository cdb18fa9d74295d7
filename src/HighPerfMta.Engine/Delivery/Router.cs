using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Finds the sites of recipients that are due and tells the shards. What the resolver knows is told at once on the caller's thread; the rest
/// waits for DNS with at most <see cref="MaxLookups"/> lookups under way, the others in a backlog bounded by the queue. Known destinations
/// pass the backlog by. Safe for concurrent use.
/// </summary>
internal sealed class Router(DeliveryServices services, IReadOnlyList<DeliveryShard> shards)
{
    /// <summary>Resolutions awaited at once.</summary>
    public const int MaxLookups = 1024;

    private readonly Queue<Lookup> _backlog = new();
    private readonly Lock _gate = new();
    private int _running;

    private readonly record struct Lookup(QueuedMessage Message, int Recipient, int[]? Recipients, byte Throws);

    /// <summary>Recipients waiting for DNS that no shard knows of.</summary>
    public int Backlog
    {
        get
        {
            lock (_gate)
            {
                return _backlog.Count + _running;
            }
        }
    }

    public void Route(QueuedMessage message, ReadOnlySpan<int> recipients, byte throws)
    {
        if (recipients.Length == 1)
        {
            if (TryDecide(message, recipients[0], out SiteDecision decision))
            {
                Tell(message, recipients[0], null, decision, throws);
            }
            else
            {
                LookUp(new Lookup(message, recipients[0], null, throws));
            }

            return;
        }

        RouteMany(message, recipients, throws);
    }

    private void RouteMany(QueuedMessage message, ReadOnlySpan<int> recipients, byte throws)
    {
        DecisionGroups groups = new();
        List<int>? unknown = null;
        foreach (int recipient in recipients)
        {
            if (TryDecide(message, recipient, out SiteDecision decision))
            {
                groups.Add(recipient, decision);
            }
            else
            {
                (unknown ??= []).Add(recipient);
            }
        }

        Tell(message, groups, throws);
        if (unknown is not null)
        {
            LookUp(new Lookup(message, 0, [.. unknown], throws));
        }
    }

    private bool TryDecide(QueuedMessage message, int recipient, out SiteDecision decision)
    {
        try
        {
            if (!WasReleased(message, recipient))
            {
                return services.Resolver.TryResolve(message.Envelope.Recipients[recipient], out decision);
            }
        }
        catch (Exception error)
        {
            services.Logger.RoutingThrew(error, message.Id);
        }

        decision = default;
        return false;
    }

    /// <summary>A hold route holds mail once, before its first attempt: what comes back was released by an operator.</summary>
    private static bool WasReleased(QueuedMessage message, int recipient)
    {
        RecipientState state = message.GetRecipient(recipient);
        return state.Attempts > 0 || state.LastOutcome is not null;
    }

    private void LookUp(Lookup lookup)
    {
        lock (_gate)
        {
            if (_running >= MaxLookups)
            {
                _backlog.Enqueue(lookup);
                return;
            }

            _running++;
        }

        _ = LookUpAllAsync(lookup);
    }

    private async Task LookUpAllAsync(Lookup lookup)
    {
        while (true)
        {
            await LookUpAsync(lookup);
            lock (_gate)
            {
                if (services.Stopping || !_backlog.TryDequeue(out lookup))
                {
                    _running--;
                    return;
                }
            }

            // The caller of Route must not work off the backlog.
            await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }
    }

    private async ValueTask LookUpAsync(Lookup lookup)
    {
        QueuedMessage message = lookup.Message;
        if (lookup.Recipients is null)
        {
            SiteDecision decision = await ResolveAsync(message, lookup.Recipient);
            Tell(message, lookup.Recipient, null, decision, lookup.Throws);
            return;
        }

        DecisionGroups groups = new();
        Task<SiteDecision>[] all = new Task<SiteDecision>[lookup.Recipients.Length];
        for (int i = 0; i < all.Length; i++)
        {
            int recipient = lookup.Recipients[i];
            all[i] = ResolveAsync(message, recipient).AsTask();
        }

        for (int i = 0; i < all.Length; i++)
        {
            groups.Add(lookup.Recipients[i], await all[i]);
        }

        Tell(message, groups, lookup.Throws);
    }

    private async ValueTask<SiteDecision> ResolveAsync(QueuedMessage message, int recipient)
    {
        EmailAddress address = message.Envelope.Recipients[recipient];
        try
        {
            return WasReleased(message, recipient)
                ? await services.Resolver.ResolveReleasedAsync(address, services.Cancellation)
                : await services.Resolver.ResolveAsync(address, services.Cancellation);
        }
        catch (Exception error)
        {
            if (!services.Cancellation.IsCancellationRequested)
            {
                services.Logger.RoutingThrew(error, message.Id);
            }

            return new SiteDecision(null, NextHopKind.Mx, RouteOutcomes.ResolverFailed);
        }
    }

    private void Tell(QueuedMessage message, DecisionGroups groups, byte throws)
    {
        foreach ((SiteDecision decision, List<int> recipients) in groups.All)
        {
            if (recipients.Count == 1)
            {
                Tell(message, recipients[0], null, decision, throws);
            }
            else
            {
                Tell(message, 0, [.. recipients], decision, throws);
            }
        }
    }

    private void Tell(QueuedMessage message, int recipient, int[]? recipients, in SiteDecision decision, byte throws)
    {
        if (decision.Site is { } site)
        {
            ShardOf(site.Key).Post(new DeliveryEvent(DeliveryEventKind.Assign, site) { Message = message, Recipient = recipient, Recipients = recipients, Throws = throws });
            return;
        }

        DeliveryOutcome? outcome = decision.Outcome ?? decision.Kind switch
        {
            NextHopKind.Reject => RouteOutcomes.Rejected,
            NextHopKind.Discard or NextHopKind.Hold => null,
            _ => RouteOutcomes.ResolverFailed,
        };
        ShardOf(message).Post(new DeliveryEvent(DeliveryEventKind.Decide, outcome) { Message = message, Recipient = recipient, Recipients = recipients, Throws = throws, Route = decision.Kind });
    }

    /// <summary>Recipients that are not due: their shard only waits.</summary>
    public void Park(QueuedMessage message, ReadOnlySpan<int> recipients) =>
        ShardOf(message).Post(new DeliveryEvent(DeliveryEventKind.Park)
        {
            Message = message,
            Recipient = recipients[0],
            Recipients = recipients.Length == 1 ? null : recipients.ToArray(),
        });

    private DeliveryShard ShardOf(string siteKey) => shards[(int)((uint)string.GetHashCode(siteKey, StringComparison.Ordinal) % (uint)shards.Count)];

    private DeliveryShard ShardOf(QueuedMessage message) => shards[(int)(message.Id.Value % (uint)shards.Count)];

    /// <summary>The recipients of one message by what was decided for them.</summary>
    private sealed class DecisionGroups
    {
        private readonly Dictionary<(string?, NextHopKind, DeliveryOutcome?), List<int>> _byDecision = [];

        public List<(SiteDecision Decision, List<int> Recipients)> All { get; } = [];

        public void Add(int recipient, in SiteDecision decision)
        {
            (string?, NextHopKind, DeliveryOutcome?) key = (decision.Site?.Key, decision.Kind, decision.Outcome);
            if (!_byDecision.TryGetValue(key, out List<int>? recipients))
            {
                _byDecision.Add(key, recipients = []);
                All.Add((decision, recipients));
            }

            recipients.Add(recipient);
        }
    }
}
