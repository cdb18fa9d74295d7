using System.Collections.Concurrent;
using System.Globalization;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Tests.Engine.Control;

/// <summary>
/// A queue that is nothing but its table, and messages by slot as its records: what a control room looks at. Its jobs are steered as the real one does it. Counts the records that are read.
/// </summary>
internal sealed class TableQueue(TimeProvider time) : IMailQueue, IDelivery
{
    private readonly JobBook _book = new(new LiveSegments(1 << 20, 0));
    private readonly ConcurrentDictionary<int, QueuedMessage> _records = [];
    private readonly Lock _gate = new();
    private int _reads;
    private long _lastId;

    public int Reads => Volatile.Read(ref _reads);

    /// <summary>Records of these messages are damaged.</summary>
    public HashSet<MessageId> Unreadable { get; } = [];

    /// <summary>Keys of sites by their number.</summary>
    public Dictionary<int, string> SiteKeys { get; } = [];

    /// <summary>Domains whose site is not known.</summary>
    public HashSet<string> Unrouted { get; } = [];

    /// <summary>Calls of <see cref="SteerAsync(ReadOnlyMemory{JobRef}, Steering, Memory{bool}, CancellationToken)"/>, by jobs given.</summary>
    public List<int> Steered { get; } = [];

    /// <summary>Asked before anything is steered; may throw.</summary>
    public Action? BeforeSteering { get; set; }

    public Dictionary<MessageId, JobExplanation> Explanations { get; } = [];

    public Dictionary<string, SiteExplanation> SiteExplanations { get; } = [];

    public List<SiteStatus> KnownSites { get; } = [];

    public LogCondition Condition { get; set; }

    public int Count => _book.Messages;

    public JobTable Jobs => _book.Jobs;

    public JobNames Names => _book.Names;

    public bool Loading { get; set; }

    public bool MayAttempt { get; set; } = true;

    public Action<QueuedMessage>? Announce { get; set; }

    public Action<int>? Restored { get; set; }

    public Action<TimeSpan>? Flushed { get; set; }

    public IReadOnlyList<DamagedRange> Damage => [];

    public (int Transactions, int Connections) Activity => (0, 0);

    public IEnumerable<QueuedMessage> Records => _records.Values;

    public QueuedMessage Record(int slot) => _records[slot];

    /// <summary>A message whose jobs have these recipients each, in order; the states are those of its recipients.</summary>
    public MessageId Add(string? sender, DateTimeOffset received, params (string Address, RecipientState State)[][] jobs)
    {
        Envelope envelope = new()
        {
            Id = NextId(received),
            Sender = sender is null ? null : Address(sender),
            Recipients = [.. jobs.SelectMany(static j => j).Select(static r => Address(r.Address))],
            ReceivedAt = received,
        };
        StoredBody body = new() { Accepted = new RecordRef(64, 10), InlineOffset = 0, InlineLength = 10, Size = 1000 + jobs.Length };
        int slot = _book.Create(envelope, body);
        int at = 0;
        for (int i = 0; i < jobs.Length; i++)
        {
            int[] indexes = [.. Enumerable.Range(at, jobs[i].Length)];
            at += jobs[i].Length;
            QueuedMessage message = new(envelope, body, indexes, [.. jobs[i].Select(static r => r.State)]);
            Job part = Jobs[slot] with { Domain = 0, Reason = 0 };
            _book.Describe(ref part, envelope, indexes);
            message.Slot = i == 0 ? slot : _book.AddSibling(slot, part);
            if (i == 0)
            {
                _book.Describe(ref Jobs[slot], envelope, indexes);
            }

            Jobs[message.Slot].Place = JobPlace.Waiting;
            _book.Summarize(ref Jobs[message.Slot], message);
            _records[message.Slot] = message;
        }

        return envelope.Id;
    }

    public MessageId Add(string? sender, params (string Address, RecipientState State)[] recipients) => Add(sender, time.GetUtcNow(), recipients);

    /// <summary>The job's last reply is not kept in memory.</summary>
    public void ForgetReason(int slot) => _book.SetReason(ref Jobs[slot], null);

    /// <summary>Of the job's sender only the domain is kept; or, <paramref name="unknown"/>, nothing.</summary>
    public void ForgetSender(int slot, bool unknown)
    {
        ref Job job = ref Jobs[slot];
        if (job.Sender > 0)
        {
            string domain = Names.Senders.Get(job.Sender)!.Split('@')[^1];
            Names.Senders.Release(job.Sender);
            job.Sender = -(unknown ? JobNames.UnknownDomain : Names.Domains.Acquire(domain));
            Names.Domains.AddReference(unknown ? JobNames.UnknownDomain : 0);
        }
    }

    private static EmailAddress Address(string text) =>
        AddressParser.TryParse(text, out EmailAddress? address, out string error) ? address! : throw new ArgumentException(error, nameof(text));

    private MessageId NextId(DateTimeOffset received)
    {
        _lastId++;
        return new MessageId(((ulong)received.ToUnixTimeMilliseconds() << 20) | (ulong)_lastId);
    }

    public MessageId NextId() => NextId(time.GetUtcNow());

    public IReadOnlyList<int> FindJobs(MessageId id) => [.. _records.Where(r => r.Value.Id == id).Select(static r => r.Key).Order()];

    public ValueTask<QueuedMessage?> PeekAsync(int slot, MessageId id, CancellationToken cancellation = default)
    {
        Interlocked.Increment(ref _reads);
        if (Unreadable.Contains(id))
        {
            throw new RecordUnreadableException("told to be unreadable");
        }

        return new ValueTask<QueuedMessage?>(_records.TryGetValue(slot, out QueuedMessage? message) && message.Id == id ? message : null);
    }

    public ValueTask<int> SteerAsync(ReadOnlyMemory<JobRef> jobs, Steering steering, Memory<bool> changed, CancellationToken cancellation)
    {
        BeforeSteering?.Invoke();
        lock (_gate)
        {
            Steered.Add(jobs.Length);
            int count = 0;
            for (int i = 0; i < jobs.Length; i++)
            {
                JobRef job = jobs.Span[i];
                if (Jobs.TryRead(job.Slot, out Job now) && now.Id == job.Id.Value && steering.Applies(now))
                {
                    Steer(job.Slot, steering);
                    changed.Span[i] = true;
                    count++;
                }
            }

            return new ValueTask<int>(count);
        }
    }

    public ValueTask<int> SteerRecipientsAsync(JobRef job, IReadOnlyList<int> recipients, Steering steering, CancellationToken cancellation)
    {
        BeforeSteering?.Invoke();
        lock (_gate)
        {
            QueuedMessage message = _records[job.Slot];
            int[] steered = [.. recipients.Where(i => !message.GetRecipient(i).IsFinal)];
            int[] others = [.. message.Recipients.ToArray().Except(steered)];
            QueuedMessage part = new(message.Envelope, message.Body, steered, Array.ConvertAll(steered, message.GetRecipient));
            QueuedMessage rest = new(message.Envelope, message.Body, others, Array.ConvertAll(others, message.GetRecipient)) { Slot = job.Slot };
            Job entry = Jobs[job.Slot] with { Domain = 0 };
            _book.Describe(ref entry, message.Envelope, steered);
            part.Slot = _book.AddSibling(job.Slot, entry);
            _book.Describe(ref Jobs[job.Slot], message.Envelope, others);
            _records[job.Slot] = rest;
            _records[part.Slot] = part;
            Steer(part.Slot, steering);
            return new ValueTask<int>(steered.Length);
        }
    }

    private void Steer(int slot, Steering steering)
    {
        if (!_records.TryGetValue(slot, out QueuedMessage? message))
        {
            _book.Steer(ref Jobs[slot], steering);
            return;
        }

        if (steering.Kind == SteeringKind.Drop)
        {
            _book.Remove(slot, out _);
            _records.TryRemove(slot, out _);
            return;
        }

        _book.Steer(ref Jobs[slot], steering);
        foreach (int index in message.Recipients)
        {
            RecipientState state = message.GetRecipient(index);
            if (!state.IsFinal)
            {
                RecipientStatus status = Jobs[slot].IsHeld ? RecipientStatus.Held : RecipientStatus.Pending;
                message.SetRecipient(index, state with { Status = status, DueAt = new DateTimeOffset(Jobs[slot].DueAt, TimeSpan.Zero) });
            }
        }
    }

    public IReadOnlyList<SiteStatus> Sites() => KnownSites;

    public string? SiteOf(EmailAddress recipient) => SiteOf(recipient.Domain);

    public string? SiteOf(string domain) => Unrouted.Contains(domain) ? null : "site:" + domain;

    public string? SiteKey(int number) => SiteKeys.GetValueOrDefault(number);

    public int SiteNumber(string key) => SiteKeys.FirstOrDefault(s => s.Value == key).Key;

    public ValueTask<JobExplanation?> ExplainAsync(JobRef job, CancellationToken cancellation) =>
        new(Explanations.GetValueOrDefault(job.Id, new JobExplanation(Jobs[job.Slot].Place, JobWait.Turn, string.Create(CultureInfo.InvariantCulture, $"its turn, slot {job.Slot}"))));

    public ValueTask<SiteExplanation?> ExplainSiteAsync(string key, CancellationToken cancellation) => new(SiteExplanations.GetValueOrDefault(key));

    public BodyReader OpenBody(QueuedMessage message) => new OneText($"octets of {message.Id}");

    public void Start() => throw new NotSupportedException();

    public IncomingMessage Begin() => throw new NotSupportedException();

    public ValueTask<QueuedMessage> LoadAsync(int slot, CancellationToken cancellation = default) => throw new NotSupportedException();

    public void Keep(QueuedMessage message) => throw new NotSupportedException();

    public ValueTask UpdateAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates) => throw new NotSupportedException();

    public ValueTask UpdateDurablyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates) => throw new NotSupportedException();

    public ValueTask<QueuedMessage[]> SplitAsync(QueuedMessage message, IReadOnlyList<int[]> groups) => throw new NotSupportedException();

    public ValueTask<RecordRef> SteerAsync(ReadOnlyMemory<int> slots, Steering steering, ReadOnlyMemory<JobRef> lent = default) => throw new NotSupportedException();

    public ValueTask WaitDurableAsync(RecordRef record) => default;

    public void Enqueue(QueuedMessage message) => throw new NotSupportedException();

    public void Restore(int slot) => throw new NotSupportedException();

    public Task DrainAsync(CancellationToken cancellation) => Task.CompletedTask;

    public ValueTask DisposeAsync() => default;

    private sealed class OneText(string text) : BodyReader
    {
        private bool _read;

        public override ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancellation = default)
        {
            byte[] octets = _read ? [] : System.Text.Encoding.ASCII.GetBytes(text);
            _read = true;
            return new ValueTask<ReadOnlyMemory<byte>>(octets);
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
