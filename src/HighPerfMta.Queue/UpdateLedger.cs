using HighPerfMta.Queue.Log;

namespace HighPerfMta.Queue;

/// <summary>
/// Remembers the updates that are not on stable storage yet. When the log fails, what was appended and not durable is gone: the messages of
/// those updates, and of the ones that could not be appended at all, are written again when the log is well. Bounded by one commit's worth of
/// updates, and by the messages of the queue while the log fails. Safe for concurrent use.
/// </summary>
internal sealed class UpdateLedger(IRecordLog log)
{
    private readonly Lock _gate = new();
    private readonly Queue<(RecordRef Record, QueuedMessage Message)> _unconfirmed = [];
    private HashSet<QueuedMessage> _dirty = [];
    private bool _suspect;
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

    /// <summary>Messages whose states have to be written again.</summary>
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

    /// <summary>Notes an update that was appended. False when the log failed since <paramref name="epoch"/> was read: it has to be written again.</summary>
    public bool Appended(QueuedMessage message, RecordRef record, long epoch)
    {
        lock (_gate)
        {
            if (epoch != _epoch)
            {
                _dirty.Add(message);
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
            _dirty.Add(message);
        }
    }

    /// <summary>The log failed.</summary>
    public void Failed()
    {
        lock (_gate)
        {
            _epoch++;
            _suspect = true;
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
                    _dirty.Add(lost.Message);
                }
            }

            return _dirty.Count > 0;
        }
    }

    /// <summary>Takes the messages that have to be written again.</summary>
    public HashSet<QueuedMessage> TakeDirty()
    {
        lock (_gate)
        {
            HashSet<QueuedMessage> taken = _dirty;
            _dirty = [];
            return taken;
        }
    }
}
