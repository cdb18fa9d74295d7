using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>
/// Remembers the updates that are not on stable storage yet. When the log fails, what was appended and not durable is gone: the jobs of
/// those updates, and of the ones that could not be appended at all, are written again when the log is well. Until then their messages stay in memory: the log does not
/// have their states. Bounded by one commit's worth of updates and, while the log fails, by <see cref="Limit"/>, at which no further attempt begins. Safe for concurrent use.
/// </summary>
internal sealed class UpdateLedger(IRecordLog log)
{
    /// <summary>Jobs whose states wait for a failing log; those under way then come on top.</summary>
    public const int Limit = 10_000;

    private readonly Lock _gate = new();
    private readonly Queue<(RecordRef Record, QueuedMessage Message)> _unconfirmed = [];
    private readonly Dictionary<int, QueuedMessage> _lost = [];
    private HashSet<QueuedMessage> _dirty = [];
    private bool _suspect;
    private bool _holding;
    private long _epoch;

    /// <summary>Rises each time the log fails: what was appended in an earlier epoch may be gone.</summary>
    public long Epoch => Interlocked.Read(ref _epoch);

    /// <summary>Updates appended and not known to be durable.</summary>
    public int Unconfirmed
    {
        get
        {
            lock (_gate)
            {
                return _unconfirmed.Count;
            }
        }
    }

    /// <summary>The last record in the log that is not known to be durable; null if there is none.</summary>
    public RecordRef? LastUnconfirmed
    {
        get
        {
            lock (_gate)
            {
                RecordRef? last = null;
                foreach ((RecordRef record, _) in _unconfirmed)
                {
                    last = last is { } found && found.Address > record.Address ? last : record;
                }

                return last;
            }
        }
    }

    /// <summary>Jobs whose states have to be written again.</summary>
    public int Dirty
    {
        get
        {
            lock (_gate)
            {
                return _dirty.Count;
            }
        }
    }

    /// <summary>False when further attempts should wait for the log.</summary>
    public bool HasRoom => !Volatile.Read(ref _holding) || Dirty < Limit;

    /// <summary>The job's message, if the log may not have its state; null otherwise.</summary>
    public QueuedMessage? Find(int slot, ulong id)
    {
        if (!Volatile.Read(ref _holding))
        {
            return null;
        }

        lock (_gate)
        {
            return _lost.TryGetValue(slot, out QueuedMessage? message) && message.Slot == slot && message.Id.Value == id ? message : null;
        }
    }

    /// <summary>As <see cref="Find"/>, also among updates that the log lost a moment ago and has not told of yet.</summary>
    /// <param name="slot">The job.</param>
    /// <param name="id">Its message.</param>
    /// <param name="state">Address of its state record: a message that an earlier record was made of has not its latest state.</param>
    public QueuedMessage? FindUnconfirmed(int slot, ulong id, long state)
    {
        lock (_gate)
        {
            foreach ((RecordRef record, QueuedMessage message) in _unconfirmed)
            {
                if (record.Address == state && message.Slot == slot && message.Id.Value == id)
                {
                    return message;
                }
            }

            return _lost.TryGetValue(slot, out QueuedMessage? lost) && lost.Slot == slot && lost.Id.Value == id ? lost : null;
        }
    }

    /// <summary>Notes an update that was appended. False when the log failed since <paramref name="epoch"/> was read: it has to be written again.</summary>
    public bool Appended(QueuedMessage message, RecordRef record, long epoch)
    {
        lock (_gate)
        {
            if (epoch != _epoch)
            {
                AddDirty(message);
                return false;
            }

            // The durable address of a log that failed and was re-opened says nothing about records from before.
            long durable = _suspect ? 0 : log.DurableAddress;
            while (_unconfirmed.TryPeek(out (RecordRef Record, QueuedMessage) head) && head.Record.Address < durable)
            {
                _unconfirmed.Dequeue();
            }

            _unconfirmed.Enqueue((record, message));
            return true;
        }
    }

    /// <summary>Notes an update that could not be appended.</summary>
    public void NotAppended(QueuedMessage message)
    {
        lock (_gate)
        {
            AddDirty(message);
        }
    }

    /// <summary>The log failed.</summary>
    public void Failed()
    {
        lock (_gate)
        {
            _epoch++;
            _suspect = true;
            Volatile.Write(ref _holding, true);
            // What is durable may have been read back and changed since: this is not its latest state.
            long durable = log.DurableAddress;
            for (int i = _unconfirmed.Count; i > 0; i--)
            {
                (RecordRef Record, QueuedMessage Message) update = _unconfirmed.Dequeue();
                if (update.Record.Address >= durable)
                {
                    _unconfirmed.Enqueue(update);
                    _lost[update.Message.Slot] = update.Message;
                }
            }
        }
    }

    /// <summary>The log is well again. True when there are messages to write again.</summary>
    public bool Recovered()
    {
        lock (_gate)
        {
            if (_suspect)
            {
                _suspect = false;
                while (_unconfirmed.TryDequeue(out (RecordRef, QueuedMessage Message) lost))
                {
                    AddDirty(lost.Message);
                }
            }

            return _dirty.Count > 0;
        }
    }

    /// <summary>Takes the messages that have to be written again; <see cref="EndRewrite"/> follows.</summary>
    public HashSet<QueuedMessage> TakeDirty()
    {
        lock (_gate)
        {
            HashSet<QueuedMessage> taken = _dirty;
            _dirty = [];
            return taken;
        }
    }

    /// <summary>What was taken is in the log, or noted again.</summary>
    public void EndRewrite()
    {
        lock (_gate)
        {
            if (_suspect || _dirty.Count > 0)
            {
                return;
            }

            Volatile.Write(ref _holding, false);
            _lost.Clear();
        }
    }

    private void AddDirty(QueuedMessage message)
    {
        _dirty.Add(message);
        _lost[message.Slot] = message;
        Volatile.Write(ref _holding, true);
    }
}
