using System.Collections.Concurrent;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.TestKit;

/// <summary>
/// A queue in memory, without a log: applies changes at once and keeps a list of them. For tests of the rooms above the queue. What <see cref="Add(Envelope, RecipientState[], byte[])"/> returns
/// is a picture of the whole message that is kept up to date; owners of jobs load messages of their own.
/// </summary>
public sealed partial class InstantMailQueue : IMailQueue
{
    private readonly ConcurrentDictionary<MessageId, Stored> _stored = [];
    private readonly ConcurrentDictionary<int, QueuedMessage> _warm = [];
    private readonly Lock _gate = new();
    private long _lastId;
    private bool _closed;
    private long _lastRecord;

    private sealed record Stored(QueuedMessage Whole, byte[] Octets);

    /// <summary>Every update in order, with the picture of its message; not kept when <see cref="KeepUpdates"/> is off.</summary>
    public ConcurrentQueue<(QueuedMessage Message, RecipientUpdate Update)> Updates { get; private init; } = [];

    /// <summary>Every steering in order; not kept when <see cref="KeepUpdates"/> is off.</summary>
    public ConcurrentQueue<(Steering Steering, int[] Slots, JobRef[] Lent)> Steerings { get; private init; } = [];

    public bool KeepUpdates { get; set; } = true;

    /// <summary>Called before an update is applied; what it throws is thrown to the caller.</summary>
    public Action<QueuedMessage, ReadOnlyMemory<RecipientUpdate>>? BeforeUpdate { get; set; }

    /// <summary>Called before a steering is applied; what it throws is thrown to the caller.</summary>
    public Action<Steering, int[]>? BeforeSteer { get; set; }

    /// <summary>Called before a split; what it throws is thrown to the caller.</summary>
    public Action<QueuedMessage>? BeforeSplit { get; set; }

    /// <summary>Awaited before a job is loaded; what it throws is thrown to the caller.</summary>
    public Func<int, ValueTask>? BeforeLoad { get; set; }

    /// <summary>Bodies of these messages cannot be read.</summary>
    public HashSet<MessageId> Unreadable { get; } = [];

    /// <summary>Neither can their envelopes.</summary>
    public ConcurrentDictionary<MessageId, bool> UnreadableRecords { get; } = [];

    /// <summary>Nothing is kept in memory: every load makes a message from the stored states.</summary>
    public bool Cold { get; set; }

    /// <summary>For the ids of new messages, whose upper bits are the time.</summary>
    public TimeProvider? Time { get; set; }

    public int Loads => Volatile.Read(ref _loads);

    private int _loads;

    public LogCondition Condition { get; set; }

    public int Count => _stored.Count;

    public JobTable Jobs { get; } = new();

    public JobNames Names { get; } = new();

    public bool Loading => false;

    public QueueStatistics Statistics { get; set; } = QueueStatistics.None;

    public bool MayAttempt { get; set; } = true;

    public Action<QueuedMessage>? Announce { get; set; }

    public Action<TimeSpan>? Flushed { get; set; }

    public Action<int>? Restored { get; set; }

    /// <summary>The pictures of all messages.</summary>
    public IEnumerable<QueuedMessage> Messages => _stored.Values.Select(static s => s.Whole);

    public IReadOnlyList<DamagedRange> Damage => [];

    public QueuedMessage? Find(MessageId id) => _stored.GetValueOrDefault(id)?.Whole;

    /// <summary>Puts a message into the queue as one job, without announcing it.</summary>
    public QueuedMessage Add(Envelope envelope, RecipientState[] recipients, byte[]? octets = null)
    {
        octets ??= "Subject: test\r\n\r\ntext\r\n"u8.ToArray();
        StoredBody body = new() { Accepted = new RecordRef(64, octets.Length), InlineOffset = 0, InlineLength = octets.Length, Size = octets.Length };
        QueuedMessage whole = new(envelope, body, null, recipients);
        QueuedMessage view = new(envelope, body, null, [.. recipients]);
        Job job = new()
        {
            Id = envelope.Id.Value,
            Accepted = 64,
            Size = (uint)octets.Length,
            Sender = envelope.Sender is null ? 0 : Names.Senders.Acquire(envelope.Sender.ToString()),
            Place = JobPlace.Entering,
        };
        Summarize(ref job, view);
        if (envelope.Parameters?.DeliverBy is { } by)
        {
            job.SetDeadline(by.At.UtcTicks, by.Notify);
        }

        _stored[envelope.Id] = new Stored(whole, octets);
        int slot = Jobs.Add(job);
        whole.Slot = slot;
        view.Slot = slot;
        _warm[slot] = view;
        return whole;
    }

    /// <summary>Puts a job into the table without a message: that is made from the entry when it is loaded.</summary>
    public int AddBare(string? sender, string domain, DateTimeOffset due, int attempts)
    {
        Job job = new()
        {
            Id = NextId().Value,
            Accepted = 64,
            Size = 100,
            Sender = sender is null ? 0 : Names.Senders.Acquire(sender),
            Domain = Names.Domains.Acquire(domain),
            Count = 1,
            Due = DueTime.FromTicks(due.UtcTicks),
            Attempts = (byte)attempts,
            Place = JobPlace.Entering,
        };
        return Jobs.Add(job);
    }

    /// <summary>
    /// The queue of the next process: the same messages in a table of its own, so that what a room of before may still do to its jobs reaches nobody. The pictures stay the ones that were handed out.
    /// </summary>
    public InstantMailQueue Reopen()
    {
        InstantMailQueue next = new()
        {
            Updates = Updates,
            Steerings = Steerings,
            KeepUpdates = KeepUpdates,
            BeforeUpdate = BeforeUpdate,
            BeforeSteer = BeforeSteer,
            BeforeSplit = BeforeSplit,
            BeforeLoad = BeforeLoad,
            Cold = Cold,
            Time = Time,
            MayAttempt = MayAttempt,
            Condition = Condition,
            Statistics = Statistics,
            _lastId = _lastId,
        };
        next.Unreadable.UnionWith(Unreadable);
        foreach (MessageId id in UnreadableRecords.Keys)
        {
            next.UnreadableRecords[id] = true;
        }

        lock (_gate)
        {
            // What is still to come from a room of before changes nothing: that process is dead.
            _closed = true;
            foreach ((MessageId id, Stored stored) in _stored)
            {
                next._stored[id] = stored;
            }

            foreach (int slot in Slots())
            {
                Adopt(next, slot);
            }
        }

        return next;
    }

    private void Adopt(InstantMailQueue next, int slot)
    {
        Job job = Jobs[slot];
        int at = next.Jobs.Add(job with
        {
            Domain = Names.Domains.Get(job.Domain) is { } domain ? next.Names.Domains.Acquire(domain) : 0,
            Sender = Names.Senders.Get(job.Sender) is { } sender ? next.Names.Senders.Acquire(sender) : 0,
            Reason = Names.Reasons.Get(job.Reason) is { } reason ? (ushort)next.Names.Reasons.Acquire(reason) : (ushort)0,
            Route = Names.Routes.Get(job.Route) is { } route ? (ushort)next.Names.Routes.Acquire(route) : (ushort)0,
            Place = JobPlace.Entering,
            Site = 0,
        });
        if (_warm.TryGetValue(slot, out QueuedMessage? message))
        {
            int[] recipients = [.. message.Recipients];
            next._warm[at] = new QueuedMessage(message.Envelope, message.Body, recipients, [.. recipients.Select(message.GetRecipient)]) { Slot = at };
        }
    }

    /// <summary>Every job is told of as one from before the start.</summary>
    public void Start()
    {
        // Jobs that the receiver splits off are not from before.
        int[] before = [.. Slots()];
        foreach (int slot in before)
        {
            ref Job job = ref Jobs[slot];
            job.Place = JobPlace.Entering;
            job.Site = 0;
            job.Next = 0;
            job.Previous = 0;
        }

        foreach (int slot in before)
        {
            Restored?.Invoke(slot);
        }
    }

    public IReadOnlyList<int> FindJobs(MessageId id) => [.. Slots().Where(s => Jobs[s].MessageId == id)];

    /// <summary>All jobs there are.</summary>
    public IEnumerable<int> Slots()
    {
        for (int chunk = 0; chunk < Jobs.Chunks; chunk++)
        {
            for (int i = 0; i < JobTable.ChunkJobs; i++)
            {
                int slot = (chunk * JobTable.ChunkJobs) + i;
                if (Jobs.TryRead(slot, out _))
                {
                    yield return slot;
                }
            }
        }
    }

    public IncomingMessage Begin() => throw new NotSupportedException();

    public MessageId NextId()
    {
        long milliseconds = Time?.GetUtcNow().ToUnixTimeMilliseconds() ?? 1_772_366_400_000;
        return new(((ulong)milliseconds << 20) | (ulong)(Interlocked.Increment(ref _lastId) & 0xFFFFF));
    }

    public async ValueTask<QueuedMessage> LoadAsync(int slot, CancellationToken cancellation = default)
    {
        Interlocked.Increment(ref _loads);
        if (BeforeLoad is { } before)
        {
            await before(slot);
        }

        Job job = Jobs[slot];
        if (UnreadableRecords.ContainsKey(job.MessageId))
        {
            throw new RecordUnreadableException("told to be unreadable");
        }

        return Load(slot, job);
    }

    /// <summary>Messages that their jobs' owners did not need after all, in order.</summary>
    public ConcurrentQueue<MessageId> Kept { get; } = [];

    public void Keep(QueuedMessage message)
    {
        if (KeepUpdates)
        {
            Kept.Enqueue(message.Id);
        }
    }

    public async ValueTask<QueuedMessage?> PeekAsync(int slot, MessageId id, CancellationToken cancellation = default) =>
        Jobs.TryRead(slot, out Job job) && job.MessageId == id ? await LoadAsync(slot, cancellation) : null;

    public ValueTask UpdateAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates)
    {
        BeforeUpdate?.Invoke(message, updates);
        lock (_gate)
        {
            if (_closed)
            {
                return default;
            }

            QueuedMessage whole = _stored[message.Id].Whole;
            foreach (RecipientUpdate update in updates.Span)
            {
                RecipientState after = message.Change(update.Index, update.State);
                whole.SetRecipient(update.Index, after);
                if (KeepUpdates)
                {
                    Updates.Enqueue((whole, update with { State = after }));
                }
            }

            if (message.OpenRecipients == 0)
            {
                Remove(message.Slot, message.Id);
                message.Slot = 0;
            }
            else
            {
                Summarize(ref Jobs[message.Slot], message);
            }
        }

        return default;
    }

    public ValueTask UpdateDurablyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates) => UpdateAsync(message, updates);

    public ValueTask<QueuedMessage[]> SplitAsync(QueuedMessage message, IReadOnlyList<int[]> groups)
    {
        BeforeSplit?.Invoke(message);
        QueuedMessage[] parts = new QueuedMessage[groups.Count];
        lock (_gate)
        {
            Job original = Jobs[message.Slot];
            for (int i = 1; i < parts.Length; i++)
            {
                // Before the first part may let go of a name.
                AddReferences(original);
            }

            for (int i = 0; i < parts.Length; i++)
            {
                parts[i] = new QueuedMessage(message.Envelope, message.Body, groups[i], [.. groups[i].Select(message.GetRecipient)]);
                int slot = message.Slot;
                if (i > 0)
                {
                    slot = Jobs.Add(original with { Site = 0 });
                }

                parts[i].Slot = slot;
                Summarize(ref Jobs[slot], parts[i]);
                _warm[slot] = parts[i];
            }
        }

        return new ValueTask<QueuedMessage[]>(parts);
    }

    public ValueTask WaitDurableAsync(RecordRef record) => default;

    /// <summary>Most octets of a message that are read at once.</summary>
    public int PieceSize { get; set; } = int.MaxValue;

    public BodyReader OpenBody(QueuedMessage message) =>
        new Pieces(Unreadable.Contains(message.Id) ? null : _stored.GetValueOrDefault(message.Id)?.Octets ?? [], PieceSize);

    public ValueTask DisposeAsync() => default;

    /// <summary>Each piece is overwritten when it is not valid any more: who still sends it sends something else.</summary>
    private sealed class Pieces(byte[]? octets, int size) : BodyReader
    {
        private byte[] _given = [];
        private int _at;

        public override ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancellation = default)
        {
            if (octets is null)
            {
                throw new RecordUnreadableException("told to be unreadable");
            }

            _given.AsSpan().Fill((byte)'!');
            _given = octets.AsSpan(_at, Math.Min(size, octets.Length - _at)).ToArray();
            _at += _given.Length;
            return new ValueTask<ReadOnlyMemory<byte>>(_given);
        }

        public override ReadOnlyMemory<byte> Whole => octets is null || octets.Length > size ? default : octets;

        protected override void Dispose(bool disposing) => _given.AsSpan().Fill((byte)'!');
    }
}
