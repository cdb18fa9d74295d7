using System.Collections.Concurrent;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.TestKit;

/// <summary>A transaction as <see cref="ScriptedCouriers"/> saw it.</summary>
public sealed record Attempt(string Site, MessageId Message, int[] Recipients, DateTimeOffset Time);

/// <summary>Couriers without a network: a script says how each transaction ends. Counts connections and transactions.</summary>
public sealed class ScriptedCouriers(TimeProvider time) : ICourierFactory
{
    private readonly ConcurrentDictionary<string, int> _open = [];
    private readonly ConcurrentDictionary<string, int> _most = [];
    private int _allOpen;
    private int _allMost;
    private int _quits;

    /// <summary>The outcome for a recipient of a task; delivered when null.</summary>
    public Func<Site, DeliveryTask, int, DeliveryOutcome>? Outcome { get; set; }

    /// <summary>Awaited before the outcomes, for transactions that hang.</summary>
    public Func<Site, DeliveryTask, CancellationToken, ValueTask>? Before { get; set; }

    /// <summary>Asked when a courier without a connection begins a transaction: the failure to connect, or null.</summary>
    public Func<Site, DeliveryOutcome?>? Connect { get; set; }

    /// <summary>The connection is gone after a transaction that ended with a site's fault.</summary>
    public bool CloseOnSiteFailure { get; set; } = true;

    /// <summary>How much of a task is sent with the end of the one before; nothing when null.</summary>
    internal Func<Site, DeliveryTask, SentAhead>? Ahead { get; set; }

    public bool KeepAttempts { get; set; } = true;

    /// <summary>What was linked behind each transaction when it began, in order: the ids of messages.</summary>
    public ConcurrentQueue<MessageId[]> Linked { get; } = [];

    /// <summary>Messages that were sent ahead and given up, with how much of them was sent.</summary>
    internal ConcurrentQueue<(MessageId Message, SentAhead Sent)> GivenUp { get; } = [];

    /// <summary>Transactions that were begun with the one before.</summary>
    public ConcurrentQueue<MessageId> Begun { get; } = [];

    public ConcurrentQueue<Attempt> Attempts { get; } = [];

    /// <summary>The sites in the order in which they were given a connection; unlike <see cref="Attempts"/>, no scheduling of threads changes it within a shard.</summary>
    public ConcurrentQueue<string> Created { get; } = [];

    public int Quits => Volatile.Read(ref _quits);

    /// <summary>Most couriers that existed at once.</summary>
    public int MostOpen => Volatile.Read(ref _allMost);

    public int Open => Volatile.Read(ref _allOpen);

    public int MostOpenOf(string site) => _most.GetValueOrDefault(site);

    public int OpenOf(string site) => _open.GetValueOrDefault(site);

    public static DeliveryOutcome Delivered { get; } =
        new(DeliveryStatus.Delivered, DeliveryStage.FinalDot, FaultOwner.None, 250, new EnhancedCode(2, 0, 0), "ok", "mx.example[192.0.2.1]");

    public static DeliveryOutcome Deferred { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 451, new EnhancedCode(4, 2, 1), "try later", "mx.example[192.0.2.1]");

    public static DeliveryOutcome Failed { get; } =
        new(DeliveryStatus.Failed, DeliveryStage.RcptTo, FaultOwner.Recipient, 550, new EnhancedCode(5, 1, 1), "no such user", "mx.example[192.0.2.1]");

    public static DeliveryOutcome SiteDown { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Site, 0, new EnhancedCode(4, 4, 1), "connection refused");

    public static DeliveryOutcome TooManyRecipients { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 452, new EnhancedCode(4, 5, 3), "too many recipients");

    public static DeliveryOutcome Cancelled { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Body, FaultOwner.Local, 0, new EnhancedCode(4, 3, 2), "shutting down");

    public ICourier Create(Site site)
    {
        if (KeepAttempts)
        {
            Created.Enqueue(site.Key);
        }

        Raise(_most, site.Key, _open.AddOrUpdate(site.Key, 1, static (_, n) => n + 1));
        int all = Interlocked.Increment(ref _allOpen);
        int most;
        while (all > (most = Volatile.Read(ref _allMost)) && Interlocked.CompareExchange(ref _allMost, all, most) != most)
        {
        }

        return new Courier(this, site);
    }

    private static void Raise(ConcurrentDictionary<string, int> most, string key, int value) => most.AddOrUpdate(key, value, (_, n) => Math.Max(n, value));

    private sealed class Courier(ScriptedCouriers owner, Site site) : ICourier
    {
        private bool _disposed;
        private DeliveryTask? _ahead;

        public CourierState State { get; private set; } = CourierState.Closed;

        public bool SendsAhead => State == CourierState.Ready && owner.Ahead is not null;

        public async ValueTask DeliverAsync(DeliveryTask task, CancellationToken cancellation)
        {
            if (owner.KeepAttempts)
            {
                owner.Attempts.Enqueue(new Attempt(site.Key, task.Message.Id, task.RecipientIndexes[..task.RecipientCount], owner.Time.GetUtcNow()));
                owner.Linked.Enqueue([.. After(task).Select(static t => t.Message.Id)]);
            }

            await TakeTurnAsync(task);
            if (State == CourierState.Closed && owner.Connect?.Invoke(site) is { } failure)
            {
                task.Outcomes.AsSpan(0, task.RecipientCount).Fill(failure);
                return;
            }

            bool cancelled = false;
            if (owner.Before is { } before)
            {
                try
                {
                    await before(site, task, cancellation);
                }
                catch (OperationCanceledException)
                {
                    cancelled = true;
                }
            }

            State = CourierState.Ready;
            SendAhead(task);
            for (int i = 0; i < task.RecipientCount; i++)
            {
                DeliveryOutcome outcome = cancelled ? Cancelled : owner.Outcome?.Invoke(site, task, i) ?? Delivered;
                task.Outcomes[i] = outcome;
                if (cancelled || (outcome.Fault == FaultOwner.Site && owner.CloseOnSiteFailure))
                {
                    State = CourierState.Closed;
                }
            }

            if (State == CourierState.Closed)
            {
                Forget();
            }
        }

        private async ValueTask TakeTurnAsync(DeliveryTask task)
        {
            if (_ahead is null)
            {
                return;
            }

            if (_ahead != task)
            {
                await AbandonAheadAsync();
                return;
            }

            owner.Begun.Enqueue(task.Message.Id);
            task.Ahead = SentAhead.None;
            _ahead = task.Next is { Ahead: not SentAhead.None } next ? next : null;
        }

        private void SendAhead(DeliveryTask task)
        {
            if (_ahead is not null || owner.Ahead is not { } ahead)
            {
                return;
            }

            foreach (DeliveryTask next in After(task))
            {
                next.Ahead = ahead(site, next);
                if (next.Ahead == SentAhead.None)
                {
                    return;
                }

                _ahead ??= next;
                if (next.Ahead == SentAhead.Envelope)
                {
                    return;
                }
            }
        }

        /// <summary>The connection is gone, and what was sent ahead over it.</summary>
        private void Forget()
        {
            for (DeliveryTask? task = _ahead; task is { Ahead: not SentAhead.None }; task = task.Next)
            {
                owner.GivenUp.Enqueue((task.Message.Id, task.Ahead));
                task.Ahead = SentAhead.None;
            }

            _ahead = null;
        }

        private static IEnumerable<DeliveryTask> After(DeliveryTask task)
        {
            for (DeliveryTask? next = task.Next; next is not null; next = next.Next)
            {
                yield return next;
            }
        }

        public ValueTask AbandonAheadAsync()
        {
            if (_ahead is not null)
            {
                State = CourierState.Closed;
                Forget();
            }

            return default;
        }

        public ValueTask QuitAsync()
        {
            if (State == CourierState.Ready && _ahead is null)
            {
                Interlocked.Increment(ref owner._quits);
            }

            Forget();
            State = CourierState.Closed;
            return default;
        }

        public ValueTask DisposeAsync()
        {
            if (!_disposed)
            {
                _disposed = true;
                owner._open.AddOrUpdate(site.Key, 0, static (_, n) => n - 1);
                Interlocked.Decrement(ref owner._allOpen);
            }

            return default;
        }
    }

    private TimeProvider Time { get; } = time;
}
