using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue.Restoring;

/// <summary>
/// Rebuilds the table from the log behind the checkpoint, or from all of it: each Accepted record makes a job, each state changes one. Messages with several recipients
/// are only mapped; <see cref="JobRestorer"/> makes their jobs afterwards. What belongs to messages of the checkpoint waits until that is read. A chunk without an Accepted
/// record belongs to a message that never existed.
/// </summary>
internal sealed class Replayer(MailQueue queue, bool onCheckpoint)
{
    private readonly JobBook _book = queue.Book;
    private readonly Dictionary<ulong, int> _slots = [];
    private readonly List<SteeredJob> _steered = [];
    private Replayer? _behind;

    /// <summary>Messages whose Accepted record was found, and that are not finished: the slot of their one job so far.</summary>
    public IReadOnlyDictionary<ulong, int> Slots => _slots;

    /// <summary>Of those, the ones with several recipients.</summary>
    public Dictionary<ulong, RecipientMap> Many { get; } = [];

    /// <summary>Finished messages: nothing of them is believed any more.</summary>
    public HashSet<ulong> Ended { get; } = [];

    /// <summary>Changes of messages that the checkpoint holds, in the order of the log.</summary>
    public Dictionary<ulong, List<TailChange>> Foreign { get; } = [];

    /// <summary>Copies of messages that had finished before: their end must be said again behind them, or they come back when the first end is truncated.</summary>
    public List<(ulong Id, long Address)> Orphans { get; } = [];

    /// <summary>Messages of which a copy was found. A crash may have come between the copy and the states that belong to it.</summary>
    public HashSet<ulong> Moved { get; } = [];

    public ulong LastId { get; private set; }

    /// <summary>Leaves out messages that another replay, of the log behind, has found finished or has made itself.</summary>
    public void Skip(Replayer behind)
    {
        _behind = behind;
    }

    public void Visit(scoped in ScannedRecord record)
    {
        if (_behind is not null && (_behind.Ended.Contains(record.MessageId) || _behind._slots.ContainsKey(record.MessageId)))
        {
            return;
        }

        try
        {
            LastId = Math.Max(LastId, record.MessageId);
            switch (record.Type)
            {
                case RecordType.BodyChunk:
                    break;
                case RecordType.Accepted:
                    Accept(record);
                    break;
                case RecordType.Copied:
                    Copy(record);
                    break;
                case RecordType.SteeredMany:
                    Steer(record);
                    break;
                case RecordType.Deferred or RecordType.Completed or RecordType.Steered or RecordType.Routed:
                    Change(record);
                    break;
                default:
                    throw new InvalidDataException($"There is no record type {(byte)record.Type}; this program is older than the record");
            }
        }
        catch (InvalidDataException e)
        {
            queue.SetAside(record.Ref, record.Type, new MessageId(record.MessageId), e);
        }
    }

    private void Accept(scoped in ScannedRecord record)
    {
        if (Ended.Contains(record.MessageId))
        {
            return;
        }

        AcceptedRecord accepted = AcceptedCodec.Read(record.MessageId, record.Payload);
        if (_slots.ContainsKey(record.MessageId))
        {
            throw new InvalidDataException("A message with this id is in the log already");
        }

        if (!IsWhole(accepted))
        {
            return;
        }

        StoredBody body = Body(record, accepted);
        queue.Live.PinAt(body.First);
        _slots.Add(record.MessageId, _book.Create(accepted.Envelope, body));
        if (accepted.Envelope.Recipients.Length > 1)
        {
            Many.Add(record.MessageId, new RecipientMap(accepted.Envelope.Recipients.Length));
        }
    }

    private void Copy(scoped in ScannedRecord record)
    {
        if (Ended.Contains(record.MessageId))
        {
            Orphans.Add((record.MessageId, record.Ref.Address));
            return;
        }

        AcceptedRecord accepted = AcceptedCodec.Read(record.MessageId, record.Payload);
        if (!IsWhole(accepted))
        {
            // The original is still there: it goes only when all of its copy is on stable storage.
            return;
        }

        Moved.Add(record.MessageId);
        StoredBody body = Body(record, accepted);
        if (_slots.TryGetValue(record.MessageId, out int slot))
        {
            _book.MoveMessage(ref _book.Jobs[slot], body.Accepted.Address, body.Chunks.Length > 0 ? body.First : 0);
        }
        else if (onCheckpoint)
        {
            AddForeign(record.MessageId, new TailChange(RecordType.Copied, record.Ref, 0) { First = body.First });
        }
        else
        {
            // The original was truncated.
            Accept(record);
        }
    }

    /// <summary>False for a message whose record reached the disk in a power failure, and a chunk before it did not: nobody was told that it is accepted.</summary>
    private bool IsWhole(in AcceptedRecord accepted) => !Array.Exists(accepted.Chunks, c => queue.Log.IsUnfinished(c.Address));

    private void Change(scoped in ScannedRecord record)
    {
        if (Ended.Contains(record.MessageId))
        {
            return;
        }

        List<RecipientUpdate>? updates = UpdateCodec.Read(record.Payload, out uint wide);
        byte number = (byte)wide;
        if (updates is null)
        {
            End(record.MessageId);
        }
        else if (!_slots.TryGetValue(record.MessageId, out int slot))
        {
            if (onCheckpoint)
            {
                AddForeign(record.MessageId, new TailChange(record.Type, record.Ref, number) { Only = updates.Count == 1 ? updates[0].State : null, Many = updates.Count != 1 || updates[0].Index != 0 });
            }
        }
        else if (Many.TryGetValue(record.MessageId, out RecipientMap? map))
        {
            map.Apply(updates, record.Ref.Address, number);
        }
        else if (updates.Count == 1 && updates[0].Index == 0)
        {
            if (!ChangeOnly(slot, updates[0].State, record.Ref, number))
            {
                End(record.MessageId);
            }
        }
        else
        {
            throw new InvalidDataException("The message has one recipient");
        }
    }

    /// <summary>Sets a job with one recipient to a state; false when that is a final one.</summary>
    internal bool ChangeOnly(int slot, RecipientState state, RecordRef record, byte number)
    {
        ref Job job = ref _book.Jobs[slot];
        if (!TailChange.IsNotOlder(number, job.Number))
        {
            return true;
        }

        job.Number = number;
        if (state.IsFinal)
        {
            return false;
        }

        _book.SetState(ref job, record.Address, RecordHeader.Footprint(record.Length));
        _book.Set(ref job, state.Status == RecipientStatus.Held, state.DelayNoticeSent, state.Attempts, state.DueAt.UtcTicks, state.LastOutcome?.Reply);
        return true;
    }

    /// <summary>Does to a job with one recipient what an operator did; false when it was dropped.</summary>
    internal bool SteerOnly(int slot, byte number, in Steering steering)
    {
        ref Job job = ref _book.Jobs[slot];
        if (!TailChange.IsNotOlder(number, job.Number))
        {
            return true;
        }

        job.Number = number;
        if (steering.Kind == SteeringKind.Drop)
        {
            return false;
        }

        _book.Steer(ref job, steering);
        return true;
    }

    private void Steer(scoped in ScannedRecord record)
    {
        _steered.Clear();
        Steering steering = SteeringCodec.Read(record.Payload, _steered);
        foreach (SteeredJob job in _steered)
        {
            // No id that the log knows is given away again, also when nothing else is left of its message.
            LastId = Math.Max(LastId, job.Id);
            if (Ended.Contains(job.Id))
            {
                continue;
            }

            if (!_slots.TryGetValue(job.Id, out int slot))
            {
                if (onCheckpoint)
                {
                    AddForeign(job.Id, new TailChange(RecordType.SteeredMany, record.Ref, job.Number) { Steering = steering, SteeredState = job.State });
                }
            }
            else if (Many.TryGetValue(job.Id, out RecipientMap? map))
            {
                map.Steer(job.State, job.Number, steering);
            }
            else if (!SteerOnly(slot, job.Number, steering))
            {
                End(job.Id);
            }
        }
    }

    // A finished message stays finished, whatever the order in which its records reached the log.
    private void End(ulong id)
    {
        Ended.Add(id);
        Many.Remove(id);
        Foreign.Remove(id);
        if (_slots.Remove(id, out int slot))
        {
            _book.Remove(slot, out long first);
            queue.Live.UnpinAt(first, static () => 0);
        }
    }

    private void AddForeign(ulong id, TailChange change)
    {
        if (!Foreign.TryGetValue(id, out List<TailChange>? changes))
        {
            Foreign.Add(id, changes = []);
        }

        changes.Add(change);
    }

    private static StoredBody Body(scoped in ScannedRecord record, in AcceptedRecord accepted)
    {
        long size = record.Payload.Length - accepted.InlineOffset;
        foreach (RecordRef chunk in accepted.Chunks)
        {
            size += chunk.Length;
        }

        return new StoredBody
        {
            Accepted = record.Ref,
            Type = record.Type,
            Chunks = accepted.Chunks,
            ChunkOwner = accepted.ChunkOwner,
            InlineOffset = accepted.InlineOffset,
            InlineLength = record.Payload.Length - accepted.InlineOffset,
            Size = size,
        };
    }
}
