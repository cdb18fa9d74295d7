using System.Collections.Concurrent;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.TestKit;

/// <summary>A queue in memory, without a log: applies updates at once and keeps a list of them. For tests of the rooms above the queue.</summary>
public sealed class InstantMailQueue : IMailQueue
{
    private readonly ConcurrentDictionary<MessageId, QueuedMessage> _messages = [];
    private readonly ConcurrentDictionary<MessageId, byte[]> _octets = [];
    private readonly Lock _gate = new();
    private long _lastId;

    /// <summary>Every update in order; not kept when <see cref="KeepUpdates"/> is off.</summary>
    public ConcurrentQueue<(QueuedMessage Message, RecipientUpdate Update)> Updates { get; } = [];

    public bool KeepUpdates { get; set; } = true;

    /// <summary>Called before an update is applied; what it throws is thrown to the caller.</summary>
    public Action<QueuedMessage, ReadOnlyMemory<RecipientUpdate>>? BeforeUpdate { get; set; }

    /// <summary>Bodies of these messages cannot be read.</summary>
    public HashSet<MessageId> Unreadable { get; } = [];

    public LogCondition Condition { get; set; }

    public int Count => _messages.Count;

    public Action<QueuedMessage>? Announce { get; set; }

    public IEnumerable<QueuedMessage> Messages => _messages.Values;

    public IReadOnlyList<DamagedRange> Damage => [];

    /// <summary>Puts a message into the queue without announcing it.</summary>
    public QueuedMessage Add(Envelope envelope, RecipientState[] recipients, byte[]? octets = null)
    {
        octets ??= "Subject: test\r\n\r\ntext\r\n"u8.ToArray();
        StoredBody body = new() { Accepted = new RecordRef(64, octets.Length), InlineOffset = 0, InlineLength = octets.Length, Size = octets.Length };
        QueuedMessage message = new(envelope, body, recipients);
        _octets[envelope.Id] = octets;
        _messages[envelope.Id] = message;
        return message;
    }

    public void Start()
    {
        foreach (QueuedMessage message in Messages)
        {
            Announce?.Invoke(message);
        }
    }

    public IncomingMessage Begin() => throw new NotSupportedException();

    public MessageId NextId() => new((ulong)Interlocked.Increment(ref _lastId));

    public QueuedMessage? Find(MessageId id) => _messages.GetValueOrDefault(id);

    public ValueTask UpdateAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates)
    {
        BeforeUpdate?.Invoke(message, updates);
        lock (_gate)
        {
            foreach (RecipientUpdate update in updates.Span)
            {
                RecipientState after = message.Change(update.Index, update.State);
                if (KeepUpdates)
                {
                    Updates.Enqueue((message, update with { State = after }));
                }
            }
        }

        if (message.OpenRecipients == 0)
        {
            _messages.TryRemove(message.Id, out _);
            _octets.TryRemove(message.Id, out _);
        }

        return default;
    }

    public ValueTask UpdateDurablyAsync(QueuedMessage message, ReadOnlyMemory<RecipientUpdate> updates) => UpdateAsync(message, updates);

    public BodyReader OpenBody(QueuedMessage message) =>
        new OnePiece(Unreadable.Contains(message.Id) ? null : _octets.GetValueOrDefault(message.Id, []));

    public ValueTask DisposeAsync() => default;

    private sealed class OnePiece(byte[]? octets) : BodyReader
    {
        private bool _read;

        public override ValueTask<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancellation = default)
        {
            if (octets is null)
            {
                throw new RecordUnreadableException("told to be unreadable");
            }

            ReadOnlyMemory<byte> piece = _read ? ReadOnlyMemory<byte>.Empty : octets;
            _read = true;
            return new ValueTask<ReadOnlyMemory<byte>>(piece);
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
