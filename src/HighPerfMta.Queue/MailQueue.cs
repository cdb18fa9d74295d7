using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue;

/// <summary>
/// The durable queue on a record log. Owns the log: disposing the queue makes the last updates durable and closes it. A queued message is in
/// memory as its jobs in the table; envelope, states and octets are in the log, and stay warm for a short while after acceptance.
/// </summary>
public sealed partial class MailQueue : IMailQueue
{
    /// <summary>A body that nobody wanted for so long is read from the log instead.</summary>
    private static readonly TimeSpan KeepHot = TimeSpan.FromSeconds(30);

    private readonly IRecordLog _log;
    private readonly QueueOptions _options;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly Background _background;
    private readonly UpdateLedger _ledger;
    private readonly LiveSegments _live;
    private readonly HotBodies _hot;
    private readonly WarmMessages _warm;
    private readonly JobBook _book;
    private readonly JobReader _reader;
    private readonly ChangeGate _changes = new();
    private readonly Func<long> _tail;
    private readonly List<DamagedRange> _damage;
    private readonly Lock _rewriteGate = new();
    private Task _rewriting = Task.CompletedTask;
    private bool _closing;
    private long _lastId;

    private MailQueue(IRecordLog log, QueueOptions options, TimeProvider time, ILogger logger, Background background)
    {
        _log = log;
        _options = options;
        _logger = logger;
        _time = time;
        _background = background;
        _tail = () => log.TailAddress;
        _ledger = new UpdateLedger(log);
        _live = new LiveSegments(options.SegmentSize, log.BeginAddress);
        _hot = new HotBodies(options.HotBodies, KeepHot, time);
        _warm = new WarmMessages(Cool, message => !Jobs.TryRead(message.Slot, out Job job) || job.Id != message.Id.Value);
        _book = new JobBook(_live);
        _reader = new JobReader(log, _book);
        _damage = [.. log.Damage];
        ChunkSize = Math.Min(options.ChunkSize, log.MaxPayload);
        ArgumentOutOfRangeException.ThrowIfLessThan(ChunkSize, IncomingRecord.Headroom * 2, nameof(options));
    }

    public LogCondition Condition => _log.Condition;

    public int Count => _book.Messages;

    public JobTable Jobs => _book.Jobs;

    public JobNames Names => _book.Names;

    public bool MayAttempt => _ledger.HasRoom;

    public bool DiskFails => _log.Condition == LogCondition.Failing || _log.ReadsFail;

    public int ReadsWaiting => _log.ReadsWaiting;

    public Action<QueuedMessage>? Announce { get; set; }

    public Action<int>? Restored { get; set; }

    public Action<TimeSpan>? Flushed
    {
        get => _log.Flushed;
        set => _log.Flushed = value;
    }

    public IReadOnlyList<DamagedRange> Damage
    {
        get
        {
            lock (_damage)
            {
                return [.. _damage];
            }
        }
    }

    /// <summary>Octets of a message kept in one record at most.</summary>
    internal int ChunkSize { get; }

    internal IRecordLog Log => _log;

    internal JobBook Book => _book;

    internal JobReader Reader => _reader;

    internal UpdateLedger Ledger => _ledger;

    internal LiveSegments Live => _live;

    internal HotBodies Hot => _hot;

    internal ChangeGate Changes => _changes;

    internal QueueOptions Options => _options;

    internal TimeProvider Time => _time;

    internal ILogger Logger => _logger;

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

    /// <summary>The highest id given so far; ids from now on are above it.</summary>
    internal ulong LastId
    {
        get => (ulong)Interlocked.Read(ref _lastId);
        set => Interlocked.Exchange(ref _lastId, (long)Math.Max(value, LastId));
    }

    public IncomingMessage Begin() => new IncomingRecord(this, _log);

    public IReadOnlyList<int> FindJobs(MessageId id)
    {
        List<int> found = [];
        for (int chunk = 0; chunk < Jobs.Chunks; chunk++)
        {
            ReadOnlySpan<Job> jobs = Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                if (jobs[i].Id == id.Value)
                {
                    found.Add((chunk * JobTable.ChunkJobs) + i);
                }
            }
        }

        return found;
    }

    public ValueTask WaitDurableAsync(RecordRef record) => record.Length == 0 ? default : _log.WaitDurableAsync(record);

    public BodyReader OpenBody(QueuedMessage message) => new StoredBodyReader(_log, _reader, message);

    public void Keep(QueuedMessage message)
    {
        _reader.Know(message);
        if (!_warm.Keep(message))
        {
            Cool(message);
        }
    }

    public async ValueTask<QueuedMessage> LoadAsync(int slot, CancellationToken cancellation = default)
    {
        ulong id = Jobs[slot].Id;
        if (_warm.Take(slot, id) is { } warm)
        {
            return warm;
        }

        // What the log does not hold, or may have lost, is in the ledger.
        return _ledger.Find(slot, id) ?? await ReadJobAsync(slot, id, cancellation);
    }

    private async ValueTask<QueuedMessage> ReadJobAsync(int slot, ulong id, CancellationToken cancellation)
    {
        try
        {
            return await _reader.LoadAsync(slot, id, _hot, cancellation)
                ?? throw new InvalidOperationException($"Slot {slot} has no job: only the owner loads one");
        }
        catch (RecordUnreadableException)
        {
            // Only the newest state counts, and what an operator did since is in the entry.
            Job job = Jobs[slot];
            if (_ledger.FindUnconfirmed(slot, id, job.State) is not { } unconfirmed)
            {
                throw;
            }

            unconfirmed.Overlay(job);
            return unconfirmed;
        }
    }

    public async ValueTask<QueuedMessage?> PeekAsync(int slot, MessageId id, CancellationToken cancellation = default) =>
        await _reader.LoadAsync(slot, id.Value, null, cancellation);

    public async ValueTask DisposeAsync()
    {
        Task rewriting;
        lock (_rewriteGate)
        {
            _closing = true;
            rewriting = _rewriting;
        }

        await StopHousekeepingAsync();
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
    internal async ValueTask RevokeAsync(ulong id, long address)
    {
        RecordWriter writer = new(16);
        try
        {
            UpdateCodec.WriteFinished(ref writer, 1);
            RecordRef revoked = await _log.AppendAsync(RecordType.Completed, id, writer.Written);
            await _log.WaitDurableAsync(revoked);
        }
        catch (LogUnavailableException e)
        {
            NotRevoked(_logger, e, new MessageId(id), address);
            throw;
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>A record that passed its checksum and cannot be understood: it stays in the log and is reported as damage.</summary>
    internal void SetAside(RecordRef record, RecordType type, MessageId id, InvalidDataException error)
    {
        if (type is RecordType.Accepted or RecordType.Copied)
        {
            // Never unpinned: the log keeps the message for a program that can read it.
            _live.PinAt(record.Address);
        }

        lock (_damage)
        {
            _damage.Add(new DamagedRange(record.Address, record.Address + record.Length, $"{type} record of message {id}: {error.Message}"));
        }

        RecordSetAside(_logger, error, type, id, record.Address);
    }

    /// <summary>Pins the log's tail for a message whose first record is about to be appended.</summary>
    internal long Pin() => _live.Pin(_tail);

    internal void Unpin(long pin) => Truncate(_live.Unpin(pin, _tail));

    /// <summary>Keeps the payload's octets for the first delivery. False: the buffer stays the caller's.</summary>
    internal bool KeepHotBody(QueuedMessage message, byte[] buffer, int start)
    {
        message.Hot = _hot.Add(buffer, start + message.Body.InlineOffset, message.Body.InlineLength);
        return message.Hot is not null;
    }

    /// <summary>Puts a durable message into the table and tells of it. Its pin is by its first record's address from now on.</summary>
    internal void Enter(QueuedMessage message, long pin)
    {
        _live.Settle(pin, message.Body.First);
        message.Slot = _book.Create(message.Envelope, message.Body);
        EndRest();
    }

    /// <summary>A finished message's records, from the given address on, may be truncated.</summary>
    internal void Forget(long first) => Truncate(_live.UnpinAt(first, _tail));

    private void Truncate(long head)
    {
        if (head > 0)
        {
            _log.TruncateBefore(head);
        }
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
