using System.Collections.Concurrent;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Jobs whose recipients are of several domains: read, grouped by where they go, and split. At most <see cref="MaxMixed"/> are read and split at once, and as many as there are lookups wait for DNS;
/// the others wait in a list.
/// </summary>
internal sealed partial class Router
{
    /// <summary>Messages read at once to be split.</summary>
    public const int MaxMixed = 64;

    /// <summary>Lookups of one message at once: one with ten thousand domains must not fill the resolver's queue before everybody else.</summary>
    public const int MaxLookupsEach = 32;

    /// <summary>After a log that could not take a split.</summary>
    private static readonly TimeSpan MixedPause = TimeSpan.FromSeconds(5);

    private JobList _mixed;
    private int _mixedRunning;
    private bool _mixedPaused;
    private int _splits;
    private readonly TaskCompletionSource _quiet = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Completes when, after the stop, no message is being split any more.</summary>
    public Task QuietAsync()
    {
        Interlocked.Increment(ref _splits);
        EndSplit();
        return _quiet.Task;
    }

    /// <summary>Jobs being read or split now.</summary>
    public int Splitting => Volatile.Read(ref _mixedRunning);

    private void RouteMixed(int slot)
    {
        lock (_gate)
        {
            if (_mixedPaused || _mixedRunning >= MaxMixed)
            {
                _mixed.AddLast(_jobs, slot);
                return;
            }

            _mixedRunning++;
        }

        _ = RouteMixedAsync(slot);
    }

    private async Task RouteMixedAsync(int slot)
    {
        // The caller may be a session that waits for nothing more than the commit of its message.
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.ContinueOnCapturedContext);
        while (slot != 0)
        {
            await RouteOneAsync(slot);
            lock (_gate)
            {
                slot = services.Stopping || _mixedPaused ? 0 : _mixed.TakeFirst(_jobs);
                if (slot == 0)
                {
                    _mixedRunning--;
                }
            }
        }
    }

    /// <summary>What is known goes its way at once; the rest becomes a job that waits for DNS. Never throws.</summary>
    private async ValueTask RouteOneAsync(int slot)
    {
        MessageId id = _jobs[slot].MessageId;
        try
        {
            QueuedMessage message = await services.LoadAsync(slot);
            RouteChoice choice = ChoiceOf(_jobs[slot]);
            DecisionGroups groups = new();
            List<int>? unknown = null;
            foreach (int recipient in message.Recipients)
            {
                if (message.GetRecipient(recipient).IsFinal)
                {
                    continue;
                }

                if (services.Resolver.TryResolve(message.Envelope.Recipients[recipient].Domain, choice, out SiteDecision decision))
                {
                    groups.Add(recipient, decision);
                }
                else
                {
                    (unknown ??= []).Add(recipient);
                }
            }

            await SplitAsync(message, groups, unknown);
        }
        catch (Exception error)
        {
            GiveBack(slot, id, error);
        }
    }

    private async ValueTask SplitAsync(QueuedMessage message, DecisionGroups groups, List<int>? unknown)
    {
        int slot = message.Slot;
        List<int[]> sets = [.. groups.All.Select(static g => g.Recipients.ToArray())];
        if (unknown is not null)
        {
            sets.Add([.. unknown]);
        }

        if (sets.Count <= 1)
        {
            Go(message, 0, groups);
            return;
        }

        Interlocked.Increment(ref _splits);
        try
        {
            if (!services.Stopping)
            {
                await SplitAsync(message, slot, sets, groups);
            }
        }
        finally
        {
            EndSplit();
        }
    }

    private void EndSplit()
    {
        if (Interlocked.Decrement(ref _splits) == 0 && services.Stopping)
        {
            _quiet.TrySetResult();
        }
    }

    private async ValueTask SplitAsync(QueuedMessage message, int slot, List<int[]> sets, DecisionGroups groups)
    {
        QueuedMessage[] parts = await services.Queue.SplitAsync(message, sets);
        for (int i = 1; i < parts.Length; i++)
        {
            services.Pending.Copy(new JobRef(slot, message.Id), new JobRef(parts[i].Slot, message.Id));
        }

        for (int i = 0; i < parts.Length; i++)
        {
            int part = parts[i].Slot;
            try
            {
                Go(parts[i], i, groups);
            }
            catch (Exception error)
            {
                services.Logger.RoutingThrew(error, message.Id);
                HomeOf(part).AddToInbox(part);
            }
        }
    }

    /// <summary>The part with the group's decision; the one after the last group is what has to be looked up.</summary>
    private void Go(QueuedMessage part, int group, DecisionGroups groups)
    {
        if (group < groups.All.Count)
        {
            services.Queue.Keep(part);
            Tell(part.Slot, groups.All[group].Decision);
        }
        else if (!_jobs[part.Slot].Has(JobFlags.Mixed))
        {
            services.Queue.Keep(part);
            LookUp(part.Slot);
        }
        else
        {
            Await(part);
        }
    }

    /// <summary>Looks up the domains of a job none of which is known.</summary>
    private void Await(QueuedMessage message)
    {
        lock (_gate)
        {
            if (_running >= MaxLookups)
            {
                services.Queue.Keep(message);
                AddToBacklog(message.Slot);
                return;
            }

            _running++;
        }

        _ = AwaitAsync(message);
    }

    private async Task AwaitAsync(QueuedMessage message)
    {
        int slot = message.Slot;
        MessageId id = message.Id;
        try
        {
            RouteChoice choice = ChoiceOf(_jobs[slot]);
            ConcurrentDictionary<string, SiteDecision> found = new(StringComparer.Ordinal);
            int[] open = [.. message.Recipients];
            open = Array.FindAll(open, i => !message.GetRecipient(i).IsFinal);
            EmailAddress[] addresses = message.Envelope.Recipients;
            ConcurrentQueue<string> domains = new(open.Select(i => addresses[i].Domain).Distinct(StringComparer.Ordinal));
            Task[] lookups = new Task[Math.Min(MaxLookupsEach, domains.Count)];
            for (int i = 0; i < lookups.Length; i++)
            {
                lookups[i] = ResolveAllAsync(domains, found, choice, id);
            }

            foreach (Task ended in lookups)
            {
                await ended;
            }

            DecisionGroups groups = new();
            foreach (int recipient in open)
            {
                groups.Add(recipient, found[addresses[recipient].Domain]);
            }

            await SplitAsync(message, groups, null);
        }
        catch (Exception error)
        {
            GiveBack(slot, id, error);
        }

        if (TakeBacklog() is { } lookup)
        {
            await LookUpAllAsync(lookup);
        }
    }

    private async Task ResolveAllAsync(ConcurrentQueue<string> domains, ConcurrentDictionary<string, SiteDecision> found, RouteChoice choice, MessageId id)
    {
        while (domains.TryDequeue(out string? domain))
        {
            found[domain] = await ResolveAsync(domain, choice, id);
        }
    }

    /// <summary>Nothing came of the job's routing: it is as it was.</summary>
    private void GiveBack(int slot, MessageId id, Exception error)
    {
        switch (error)
        {
            case RecordUnreadableException unreadable:
                Interlocked.Increment(ref _told);
                DeliveryEventKind kind = unreadable.IsUnserved ? DeliveryEventKind.Unserved
                    : unreadable.IsRefusedByDisk ? DeliveryEventKind.Unread : DeliveryEventKind.Unroutable;
                HomeOf(slot).Post(new DeliveryEvent(kind, $"the message cannot be read back: {error.Message}", slot));
                break;
            case OperationCanceledException when services.Cancellation.IsCancellationRequested:
                break;
            case LogUnavailableException:
                services.Logger.SettlementDelayed(id, error.Message);
                PauseMixed(slot);
                break;
            default:
                services.Logger.RoutingThrew(error, id);
                Tell(slot, new SiteDecision(null, Routing.NextHopKind.Mx, RouteOutcomes.ResolverFailed));
                break;
        }
    }

    private void PauseMixed(int slot)
    {
        lock (_gate)
        {
            _mixed.AddFirst(_jobs, slot);
            if (_mixedPaused)
            {
                return;
            }

            _mixedPaused = true;
        }

        _ = ResumeMixedAsync();
    }

    private async Task ResumeMixedAsync()
    {
        await Task.Delay(MixedPause, services.Time, services.Cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        lock (_gate)
        {
            _mixedPaused = false;
        }

        for (int i = 0; i < MaxMixed; i++)
        {
            int slot;
            lock (_gate)
            {
                slot = services.Stopping || _mixedPaused || _mixedRunning >= MaxMixed ? 0 : _mixed.TakeFirst(_jobs);
                if (slot == 0)
                {
                    return;
                }

                _mixedRunning++;
            }

            _ = RouteMixedAsync(slot);
        }
    }

    /// <summary>The recipients of one message by what was decided for them.</summary>
    private sealed class DecisionGroups
    {
        private readonly Dictionary<(string?, Routing.NextHopKind, DeliveryOutcome?), List<int>> _byDecision = [];

        public List<(SiteDecision Decision, List<int> Recipients)> All { get; } = [];

        public void Add(int recipient, in SiteDecision decision)
        {
            (string?, Routing.NextHopKind, DeliveryOutcome?) key = (decision.Site?.Key, decision.Kind, decision.Outcome);
            if (!_byDecision.TryGetValue(key, out List<int>? recipients))
            {
                _byDecision.Add(key, recipients = []);
                All.Add((decision, recipients));
            }

            recipients.Add(recipient);
        }
    }
}
