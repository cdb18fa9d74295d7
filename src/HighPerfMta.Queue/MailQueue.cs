using System.Collections.Concurrent;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue;

/// <summary>
/// The durable queue on a record log. Owns the log: disposing the queue makes the last updates durable and closes it.
/// A message is in memory as its envelope, its states and the addresses of its records; its octets stay hot for a short while.
/// </summary>
public sealed partial class MailQueue : IMailQueue
{
    /// <summary>A body that nobody wanted for so long is read from the log instead.</summary>
    private static readonly TimeSpan KeepHot = TimeSpan.FromSeconds(30);

    private readonly IRecordLog _log;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<MessageId, QueuedMessage> _messages = new();
    private readonly UpdateLedger _ledger;
    private readonly LiveSegments _live;
    private readonly HotBodies _hot;
    private readonly Func<long> _tail;
    private readonly List<DamagedRange> _damage;
    private readonly Lock _rewriteGate = new();
    private Task _rewriting = Task.CompletedTask;
    private bool _closing;
    private long _lastId;
    private int _count;

    private MailQueue(IRecordLog log, QueueOptions options, TimeProvider time, ILogger logger)
    {
        _log = log;
        _logger = logger;
        _time = time;
        _tail = () => log.TailAddress;
        _ledger = new UpdateLedger(log);
        _live = new LiveSegments(options.SegmentSize, log.BeginAddress);
        _hot = new HotBodies(options.HotBodies, KeepHot, time);
        _damage = [.. log.Damage];
        ChunkSize = Math.Min(options.ChunkSize, log.MaxPayload);
        ArgumentOutOfRangeException.ThrowIfLessThan(ChunkSize, IncomingRecord.Headroom * 2, nameof(options));
    }

    public LogCondition Condition => _log.Condition;

    public int Count => Volatile.Read(ref _count);

    public Action<QueuedMessage>? Announce { get; set; }

    public IEnumerable<QueuedMessage> Messages
    {
        get
        {
            // Enumerating the dictionary itself takes no locks; its Values property would copy everything under all of them.
            foreach ((_, QueuedMessage message) in _messages)
            {
                yield return message;
            }
        }
    }

    public IReadOnlyList<DamagedRange> Damage => _damage;

    /// <summary>Octets of a message kept in one record at most.</summary>
    internal int ChunkSize { get; }

    internal UpdateLedger Ledger => _ledger;

    internal LiveSegments Live => _live;

    internal HotBodies Hot => _hot;

    /// <summary>Replays the log and returns the queue with every unfinished message in its exact state.</summary>
    public static MailQueue Open(IRecordLog log, QueueOptions options, TimeProvider time, ILogger logger)
    {
        MailQueue queue = new(log, options, time, logger);
        new Replayer(queue).Run();
        log.ConditionChanged += queue.OnCondition;
        return queue;
    }

    public void Start()
    {
        if (_live.FindHead(_log.TailAddress) is > 0 and long head)
        {
            _log.TruncateBefore(head);
        }

        if (Announce is { } announce)
        {
            foreach (QueuedMessage message in _messages.Values.OrderBy(static m => m.Id.Value))
            {
                announce(message);
            }
        }
    }

    public IncomingMessage Begin() => new IncomingRecord(this, _log);

    /// <summary>Milliseconds since the Unix epoch in the upper 44 bits, a number within the millisecond below; always above every id in the log.</summary>
    public MessageId NextId()
    {
        long now = _time.GetUtcNow().ToUnixTimeMilliseconds() << 20;
        while (true)
        {
            long last = Interlocked.Read(ref _lastId);
            long next = Math.Max(last + 1, now);
            if (Interlocked.CompareExchange(ref _lastId, next, last) == last)
            {
                return new MessageId((ulong)next);
            }
        }
    }

    public QueuedMessage? Find(MessageId id) => _messages.GetValueOrDefault(id);

    public BodyReader OpenBody(QueuedMessage message) => new StoredBodyReader(_log, message);

    public async ValueTask DisposeAsync()
    {
        Task rewriting;
        lock (_rewriteGate)
        {
            _closing = true;
            rewriting = _rewriting;
        }

        await rewriting;
        try
        {
            await MakeUpdatesDurableAsync();
            ReportLost(null, _ledger.Dirty);
        }
        catch (LogUnavailableException e)
        {
            ReportLost(e, _ledger.Unconfirmed + _ledger.Dirty);
        }

        _log.ConditionChanged -= OnCondition;
        await _log.DisposeAsync();
    }

    /// <exception cref="LogUnavailableException">New mail cannot be taken now.</exception>
    internal void ThrowIfNoNewMail()
    {
        LogCondition condition = _log.Condition;
        if (condition != LogCondition.Healthy)
        {
            throw new LogUnavailableException($"The log takes no new mail: it is {condition}", condition);
        }
    }

    /// <summary>Writes that the message of an Accepted record that must not be believed is finished, and waits until that is durable.</summary>
    internal async ValueTask RevokeAsync(Envelope envelope, RecordRef accepted)
    {
        RecordWriter writer = new(16);
        try
        {
            UpdateCodec.WriteFinished(ref writer, 1);
            RecordRef revoked = await _log.AppendAsync(RecordType.Completed, envelope.Id.Value, writer.Written);
            await _log.WaitDurableAsync(revoked);
        }
        catch (LogUnavailableException e)
        {
            NotRevoked(_logger, e, envelope.Id, accepted.Address);
            throw;
        }
        finally
        {
            writer.Dispose();
        }
    }

    internal void Replay(RecordVisitor visitor) => _log.Replay(visitor);

    /// <summary>Puts a message found in the log into the queue, before it starts.</summary>
    internal void Restore(QueuedMessage message)
    {
        _messages[message.Id] = message;
        _count++;
    }

    /// <summary>Ids from now on are above one found in the log.</summary>
    internal void RaiseId(ulong found) => _lastId = (long)Math.Max((ulong)_lastId, found);

    /// <summary>A record that passed its checksum and cannot be understood: it stays in the log and is reported as damage.</summary>
    internal void SetAside(RecordRef record, RecordType type, MessageId id, InvalidDataException error)
    {
        if (type == RecordType.Accepted)
        {
            // Never unpinned: the log keeps the message for a program that can read it.
            _live.PinAt(record.Address);
        }

        _damage.Add(new DamagedRange(record.Address, record.Address + record.Length, $"{type} record of message {id}: {error.Message}"));
        RecordSetAside(_logger, error, type, id, record.Address);
    }

    /// <summary>Pins the log's tail for a message whose first record is about to be appended.</summary>
    internal long Pin() => _live.Pin(_tail);

    internal void Unpin(long pin)
    {
        long head = _live.Unpin(pin, _tail);
        if (head > 0)
        {
            _log.TruncateBefore(head);
        }
    }

    /// <summary>Keeps the payload's octets for the first delivery. False: the buffer stays the caller's.</summary>
    internal bool KeepHotBody(QueuedMessage message, byte[] buffer, int start)
    {
        message.Hot = _hot.Add(buffer, start + message.Body.InlineOffset, message.Body.InlineLength);
        return message.Hot is not null;
    }

    /// <summary>Puts a durable message into the queue and tells of it.</summary>
    internal void Enter(QueuedMessage message)
    {
        if (!_messages.TryAdd(message.Id, message))
        {
            throw new InvalidOperationException($"Message {message.Id} is in the queue already");
        }

        Interlocked.Increment(ref _count);
        Announce?.Invoke(message);
    }

    /// <summary>Takes a finished message out of the queue; its records may be truncated.</summary>
    private void Leave(QueuedMessage message)
    {
        if (!_messages.TryRemove(message.Id, out _))
        {
            return;
        }

        Interlocked.Decrement(ref _count);
        Cool(message);
        Unpin(message.LivePin);
    }

    private void ReportLost(Exception? error, int count)
    {
        if (count > 0)
        {
            LostUpdates(_logger, error, count);
        }
    }

    private void Cool(QueuedMessage message)
    {
        HotBody? hot = message.Hot;
        if (hot is not null)
        {
            message.Hot = null;
            _hot.Remove(hot);
        }
    }

    [LoggerMessage(5, LogLevel.Error, "The {Type} record of message {Id} at {Address} cannot be understood; it stays in the log and is not used")]
    private static partial void RecordSetAside(ILogger logger, Exception error, RecordType type, MessageId id, long address);

    [LoggerMessage(6, LogLevel.Error, "Message {Id} was refused because the log lost a part of it, and its record at {Address} could not be revoked: it will be reported as unreadable after the next start")]
    private static partial void NotRevoked(ILogger logger, Exception error, MessageId id, long address);

    [LoggerMessage(1, LogLevel.Error, "{Count} updates could not be made durable: their recipients may get their mail again after the next start")]
    private static partial void LostUpdates(ILogger logger, Exception? error, int count);
}
