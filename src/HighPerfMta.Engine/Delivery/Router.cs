using System.Collections.Concurrent;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Finds the sites of jobs that are due and tells the shards. A job's domain says where it goes; what the resolver knows is told at once on the caller's thread. Jobs of an unknown domain wait in a
/// list for its one lookup, with at most <see cref="MaxLookups"/> lookups under way; the others wait in a list too, the backlog, so that no job costs memory here. Known destinations pass them by.
/// A lookup ends after <see cref="LookupTimeout"/>; who waits in the backlog is taken out when its time has come (<see cref="TryTakeOut"/>).
/// <c>Router.Mixed.cs</c> has the jobs of several domains. Safe for concurrent use.
/// </summary>
internal sealed partial class Router(DeliveryServices services, IReadOnlyList<DeliveryShard> shards)
{
    /// <summary>Resolutions awaited at once.</summary>
    public const int MaxLookups = 1024;

    /// <summary>Jobs told to shards that have not taken them yet; from then on due jobs stay where they are.</summary>
    public const int MaxTold = 16_384;

    /// <summary>In <see cref="Job.Site"/> of a job that waits in the backlog; no site has this number.</summary>
    public const int InBacklog = -1;

    private const int MaxRoutes = 1024;

    /// <summary>A resolver that takes longer has gone wrong: the job is deferred.</summary>
    public static readonly TimeSpan LookupTimeout = TimeSpan.FromMinutes(5);

    private readonly JobTable _jobs = services.Queue.Jobs;
    private readonly Dictionary<LookupKey, Lookup> _lookups = [];
    private readonly ConcurrentDictionary<string, NextHop> _routes = new(StringComparer.Ordinal);
    private readonly Lock _gate = new();
    private JobList _backlog;
    private int _running;
    private int _told;
    private int _strays;
    private int _decided;

    /// <summary>What a decision depends on.</summary>
    private readonly record struct LookupKey(int Domain, int Route, bool Released);

    private sealed class Lookup(LookupKey key, string domain, RouteChoice choice)
    {
        public readonly LookupKey Key = key;
        public readonly string Domain = domain;
        public readonly RouteChoice Choice = choice;
        public JobList Jobs;
    }

    /// <summary>Whether the shards keep up with what they are told.</summary>
    public bool HasRoom => Volatile.Read(ref _told) < MaxTold && !IsStuck;

    /// <summary>As many decisions as may be wait to be written down: that takes the log's time.</summary>
    public bool IsStuck => Volatile.Read(ref _decided) >= MaxTold;

    /// <summary>A decision waits to be written down, or is written now.</summary>
    public void CountDecided(int change) => Interlocked.Add(ref _decided, change);

    /// <summary>A shard has begun with a job that it was told of.</summary>
    public void Taken() => Interlocked.Decrement(ref _told);

    /// <summary>Jobs that an exception has left in no list, since the start.</summary>
    public int Strays => Volatile.Read(ref _strays);

    public void NoteStray() => Interlocked.Increment(ref _strays);

    public DeliveryShard ShardOf(string siteKey) => shards[JobNames.HashOf(siteKey) % shards.Count];

    /// <summary>The shard of a job that has no site.</summary>
    public DeliveryShard HomeOf(int slot) => shards[slot % shards.Count];

    /// <summary>The shard of a job that waits: its site's, or its home.</summary>
    public DeliveryShard OwnerOf(in Job job, int slot) => services.Registry[job.Site]?.Shard ?? HomeOf(slot);

    /// <summary>A new message's job, which is due.</summary>
    public void Enter(int slot)
    {
        _jobs[slot].Place = JobPlace.Routing;
        if (TryDecide(slot, out SiteDecision decision))
        {
            Tell(slot, decision);
        }
        else
        {
            LookUp(slot);
        }
    }

    /// <summary>Where the job goes, if that is known without waiting. For its owner.</summary>
    public bool TryDecide(int slot, out SiteDecision decision)
    {
        ref Job job = ref _jobs[slot];
        try
        {
            if (!job.Has(JobFlags.Mixed) && services.Queue.Names.Domains.Get(job.Domain) is { } domain)
            {
                return services.Resolver.TryResolve(domain, ChoiceOf(job), out decision);
            }
        }
        catch (Exception error)
        {
            services.Logger.RoutingThrew(error, job.MessageId);
        }

        decision = default;
        return false;
    }

    /// <summary>Takes over a job whose destination has to be looked up; its place is Routing, and it has no site.</summary>
    public void LookUp(int slot)
    {
        ref Job job = ref _jobs[slot];
        string? domain = job.Has(JobFlags.Mixed) ? null : services.Queue.Names.Domains.Get(job.Domain);
        if (domain is null)
        {
            RouteMixed(slot);
            return;
        }

        Lookup? begun = null;
        lock (_gate)
        {
            LookupKey key = KeyOf(job);
            if (_lookups.TryGetValue(key, out Lookup? lookup))
            {
                lookup.Jobs.AddLast(_jobs, slot);
            }
            else if (_running < MaxLookups)
            {
                _running++;
                begun = Begin(key, domain, slot);
            }
            else
            {
                AddToBacklog(slot);
            }
        }

        if (begun is not null)
        {
            _ = LookUpAllAsync(begun);
        }
    }

    // Under the gate, as everything of the backlog.
    private void AddToBacklog(int slot)
    {
        _backlog.AddLast(_jobs, slot);
        _jobs[slot].Site = InBacklog;
    }

    private int TakeFromBacklog()
    {
        int slot = _backlog.TakeFirst(_jobs);
        if (slot != 0)
        {
            _jobs[slot].Site = 0;
        }

        return slot;
    }

    /// <summary>Gives the job to the caller if it waits in the backlog.</summary>
    public bool TryTakeOut(int slot, MessageId id)
    {
        lock (_gate)
        {
            if (!_jobs.TryRead(slot, out Job job) || job.MessageId != id || job is not { Place: JobPlace.Routing, Site: InBacklog })
            {
                return false;
            }

            _backlog.Remove(_jobs, slot);
            _jobs[slot].Site = 0;
            return true;
        }
    }

    private static LookupKey KeyOf(in Job job) => new(job.Domain, job.Has(JobFlags.Rerouted) ? job.Route : 0, WasReleased(job));

    /// <summary>A hold route holds mail once, before its first attempt: what comes back was released by an operator.</summary>
    private static bool WasReleased(in Job job) => job.Attempts > 0 || job.Reason != 0;

    private RouteChoice ChoiceOf(in Job job) => new(WasReleased(job), job.Has(JobFlags.Rerouted) ? RouteOf(job.Route) : null);

    private NextHop? RouteOf(int number)
    {
        if (services.Queue.Names.Routes.Get(number) is not { } text)
        {
            return null;
        }

        if (_routes.TryGetValue(text, out NextHop? hop))
        {
            return hop;
        }

        if (!NextHop.TryParse(text, out hop, out _))
        {
            return null;
        }

        if (_routes.Count >= MaxRoutes)
        {
            _routes.Clear();
        }

        return _routes.GetOrAdd(text, hop);
    }

    private Lookup Begin(LookupKey key, string domain, int slot)
    {
        Lookup lookup = new(key, domain, ChoiceOf(_jobs[slot]));
        lookup.Jobs.AddLast(_jobs, slot);
        _lookups.Add(key, lookup);
        return lookup;
    }

    private async Task LookUpAllAsync(Lookup? lookup)
    {
        while (lookup is not null)
        {
            SiteDecision decision = await ResolveAsync(lookup.Domain, lookup.Choice, null);
            JobList found;
            lock (_gate)
            {
                _lookups.Remove(lookup.Key);
                found = lookup.Jobs;
            }

            for (int slot = found.TakeFirst(_jobs); slot != 0; slot = found.TakeFirst(_jobs))
            {
                Tell(slot, decision);
            }

            lookup = TakeBacklog();

            // The caller of LookUp must not work off the backlog.
            await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    /// <summary>The next lookup of the backlog; null, and one less is running, when there is none.</summary>
    private Lookup? TakeBacklog()
    {
        while (true)
        {
            int mixed;
            lock (_gate)
            {
                mixed = services.Stopping ? 0 : TakeFromBacklog();
                if (mixed == 0)
                {
                    _running--;
                    return null;
                }

                ref Job job = ref _jobs[mixed];
                LookupKey key = KeyOf(job);
                if (!job.Has(JobFlags.Mixed) && services.Queue.Names.Domains.Get(job.Domain) is { } domain)
                {
                    if (!_lookups.TryGetValue(key, out Lookup? lookup))
                    {
                        return Begin(key, domain, mixed);
                    }

                    lookup.Jobs.AddLast(_jobs, mixed);
                    continue;
                }
            }

            RouteMixed(mixed);
        }
    }

    private async ValueTask<SiteDecision> ResolveAsync(string domain, RouteChoice choice, MessageId? id)
    {
        try
        {
            ValueTask<SiteDecision> resolving = services.Resolver.ResolveAsync(domain, choice, services.Cancellation);
            return resolving.IsCompleted
                ? await resolving
                : await resolving.AsTask().WithinAsync(LookupTimeout, services.Time, services.Cancellation);
        }
        catch (TimeoutException)
        {
            return new SiteDecision(null, NextHopKind.Mx, SiteOutcomes.DnsFailed(domain, $"no answer within {LookupTimeout.TotalMinutes} minutes"));
        }
        catch (Exception error)
        {
            if (!services.Cancellation.IsCancellationRequested)
            {
                services.Logger.ResolverThrew(error, domain, id?.ToString() ?? "");
            }

            return new SiteDecision(null, NextHopKind.Mx, RouteOutcomes.ResolverFailed);
        }
    }

    /// <summary>Hands the job to the shard of its site or, when its route is an outcome already, to its home.</summary>
    public void Tell(int slot, in SiteDecision decision)
    {
        if (!HasRoom)
        {
            // It is asked for again when its turn comes.
            HomeOf(slot).AddToInbox(slot);
            return;
        }

        Interlocked.Increment(ref _told);
        if (decision.Site is { } site)
        {
            ShardOf(site.Key).Post(new DeliveryEvent(DeliveryEventKind.Assign, site, slot));
        }
        else
        {
            HomeOf(slot).Post(new DeliveryEvent(DeliveryEventKind.Decide, OutcomeOf(decision), slot) { Route = decision.Kind });
        }
    }

    public static DeliveryOutcome? OutcomeOf(in SiteDecision decision) => decision.Outcome ?? decision.Kind switch
    {
        NextHopKind.Reject => RouteOutcomes.Rejected,
        NextHopKind.Discard or NextHopKind.Hold => null,
        _ => RouteOutcomes.ResolverFailed,
    };
}
