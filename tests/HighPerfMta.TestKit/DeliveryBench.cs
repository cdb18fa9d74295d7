using System.Collections.Concurrent;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.TestKit;

/// <summary>A delivery room between fakes: queue, resolver (one site a domain), couriers, reports, clock.</summary>
public sealed class DeliveryBench : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private DeliveryRoom? _room;

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 3, 1, 12, 0, 0, TimeSpan.Zero));

    public InstantMailQueue Queue { get; set; } = new();

    public DomainResolver Resolver { get; } = new();

    public ScriptedCouriers Couriers { get; }

    public RecordingReports Reports { get; } = new();

    public RecordingEventLog Events { get; } = new();

    public IEventLog? OtherEvents { get; set; }

    public DeliveryOptions Options { get; set; } = new() { Hostname = "mta.example", Shards = 2 };

    public RetryOptions Retry { get; set; } = new();

    public ILoggerFactory Loggers { get; set; } = NullLoggerFactory.Instance;

    public Random? Random { get; set; } = new(7);

    public DeliveryBench() => Couriers = new ScriptedCouriers(Time);

    public DeliveryRoom Room => _room ??= NewRoom();

    private DeliveryRoom NewRoom() => new(Queue, Resolver, Couriers, Reports, OtherEvents ?? Events, Options, Retry, Time, Loggers, Random);

    /// <summary>What an operator does to a whole message: to each of its jobs.</summary>
    public async Task<int> SteerAsync(MessageId id, SteeringKind kind, string? nextHop = null) =>
        await Room.SteerAsync(Queue.FindJobs(id).Select(s => new JobRef(s, id)).ToArray(), new Steering(kind, Time.GetUtcNow(), nextHop), default, CancellationToken.None);

    /// <summary>What an operator does to some recipients of a message.</summary>
    public async Task<int> SteerSomeAsync(MessageId id, SteeringKind kind, params int[] recipients)
    {
        int changed = 0;
        foreach (int slot in Queue.FindJobs(id))
        {
            changed += await Room.SteerRecipientsAsync(new JobRef(slot, id), recipients, new Steering(kind, Time.GetUtcNow()), CancellationToken.None);
        }

        return changed;
    }

    public static EmailAddress Address(string text) =>
        AddressParser.TryParse(text, out EmailAddress? address, out string error) ? address! : throw new ArgumentException(error, nameof(text));

    /// <summary>A message in the queue, not announced; its recipients are due.</summary>
    public QueuedMessage Message(string? sender, params string[] recipients) => Message(sender, null, recipients);

    public QueuedMessage Message(string? sender, Func<int, RecipientState>? state, params string[] recipients)
    {
        DateTimeOffset now = Time.GetUtcNow();
        Queue.Time = Time;
        Envelope envelope = new()
        {
            Id = Queue.NextId(),
            Sender = sender is null ? null : Address(sender),
            Recipients = [.. recipients.Select(Address)],
            ReceivedAt = now,
        };
        RecipientState[] states = new RecipientState[recipients.Length];
        for (int i = 0; i < states.Length; i++)
        {
            states[i] = state?.Invoke(i) ?? new RecipientState(RecipientStatus.Pending, 0, now, null);
        }

        return Queue.Add(envelope, states);
    }

    public QueuedMessage Send(string? sender, params string[] recipients)
    {
        QueuedMessage message = Message(sender, recipients);
        Room.Enqueue(message);
        return message;
    }

    /// <summary>Moves the clock and lets everything that became due run to its end, as far as the couriers allow.</summary>
    public async Task AdvanceAsync(TimeSpan by)
    {
        Time.Advance(by);
        await CalmAsync();
    }

    /// <summary>Lets everything that is under way come to rest; for couriers that do not hang.</summary>
    public async Task CalmAsync()
    {
        for (int calm = 0; calm < 3;)
        {
            await Room.WorkedOffAsync();
            bool busy = Room.Activity.Transactions > 0 || Room.Writing > 0 || Room.Sites().Any(static s => s.InFlight > 0);
            calm = busy ? 0 : calm + 1;
            await Task.Yield();
        }
    }

    /// <summary>Lets everything that is under way come to rest; for couriers that hang.</summary>
    public async Task CalmButForTransactionsAsync()
    {
        for (int calm = 0; calm < 3;)
        {
            await Room.WorkedOffAsync();
            calm = Room.Writing > 0 ? 0 : calm + 1;
            await Task.Yield();
        }
    }

    /// <summary>Cuts off what is in flight, and starts a new room on the same queue.</summary>
    public async Task RestartAsync()
    {
        await Room.DisposeAsync();
        Queue = Queue.Reopen();
        _room = NewRoom();
        Queue.Restored = Room.Restore;
        Queue.Start();
    }

    public async ValueTask DisposeAsync()
    {
        if (_room is not null)
        {
            await _room.DisposeAsync();
        }
    }
}

/// <summary>One site a domain, <c>mx:DOMAIN</c>, unless a test says otherwise.</summary>
public sealed class DomainResolver : ISiteResolver
{
    private readonly ConcurrentDictionary<string, SiteDecision> _sites = [];

    /// <summary>Decisions by domain.</summary>
    public ConcurrentDictionary<string, SiteDecision> Decisions { get; } = [];

    /// <summary>Awaited before an answer, for domains whose DNS is slow; then nothing is known at once.</summary>
    public Func<string, Task>? Slow { get; set; }

    /// <summary>Called first; may throw.</summary>
    public Action<string>? Before { get; set; }

    public int Lookups => Volatile.Read(ref _lookups);

    private int _lookups;

    public bool TryResolve(string domain, in RouteChoice choice, out SiteDecision decision)
    {
        Before?.Invoke(domain);
        decision = Slow?.Invoke(domain) is { IsCompleted: false } ? default : Decide(domain, choice);
        return decision != default;
    }

    public ValueTask<SiteDecision> ResolveAsync(string domain, in RouteChoice choice, CancellationToken cancellation)
    {
        Before?.Invoke(domain);
        return Slow?.Invoke(domain) is { } slow ? ResolveSlowlyAsync(slow, domain, choice, cancellation) : new ValueTask<SiteDecision>(Decide(domain, choice));
    }

    private async ValueTask<SiteDecision> ResolveSlowlyAsync(Task slow, string domain, RouteChoice choice, CancellationToken cancellation)
    {
        Interlocked.Increment(ref _lookups);
        await slow.WaitAsync(cancellation);
        return Decide(domain, choice);
    }

    private SiteDecision Decide(string domain, in RouteChoice choice)
    {
        if (choice.To is { } to)
        {
            return to.Kind == NextHopKind.Smtp ? new SiteDecision(new Site(to.ToString(), [new SiteHost(to.Host, 0, to.Port)]), to.Kind, null) : new SiteDecision(null, to.Kind, null);
        }

        return Decisions.TryGetValue(domain, out SiteDecision decision) && !(choice.Released && decision.Kind == NextHopKind.Hold) ? decision : SiteOf(domain);
    }

    private SiteDecision SiteOf(string domain) =>
        _sites.GetOrAdd(domain, static d => new SiteDecision(new Site($"mx:{d}", [new SiteHost(d, 10, 25)]), NextHopKind.Mx, null));
}

/// <summary>Keeps what would have been reported.</summary>
public sealed class RecordingReports : IReports
{
    public ConcurrentQueue<(ReportKind Kind, QueuedMessage Message, (int Recipient, DeliveryOutcome Outcome)[] Recipients)> Sent { get; } = [];

    /// <summary>Called before a report is kept; may throw.</summary>
    public Action<QueuedMessage>? Before { get; set; }

    public ValueTask<bool> SendAsync(ReportKind kind, QueuedMessage message, IReadOnlyList<(int Recipient, DeliveryOutcome Outcome)> recipients, CancellationToken cancellation)
    {
        Before?.Invoke(message);
        if (message.Envelope.Sender is null)
        {
            return new ValueTask<bool>(false);
        }

        Sent.Enqueue((kind, message, [.. recipients]));
        return new ValueTask<bool>(true);
    }
}
