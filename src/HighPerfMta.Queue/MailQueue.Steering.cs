using System.Collections.Concurrent;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue;

// Changes of whole jobs without their records, and the making of jobs from a job's recipients.
public sealed partial class MailQueue
{
    /// <summary>Most octets that one job takes in a SteeredMany record, and what comes before the jobs besides texts.</summary>
    private const int SteeredJobOctets = 21;
    private const int SteeringOctets = 32;

    /// <summary>What was done to jobs while they were with a courier: their next state must say so too.</summary>
    private readonly ConcurrentDictionary<int, (ulong Id, Steering Steering)> _lent = new();
    private int _lentCount;

    public async ValueTask<RecordRef> SteerAsync(ReadOnlyMemory<int> slots, Steering steering, ReadOnlyMemory<JobRef> lent = default)
    {
        RecordRef last = default;
        int perRecord = JobsOfOneRecord(steering);
        for (int i = 0; i < slots.Length; i += perRecord)
        {
            RecordRef record = await SteerOwnAsync(slots.Slice(i, Math.Min(perRecord, slots.Length - i)), steering);
            last = record.Length > 0 ? record : last;
        }

        for (int i = 0; i < lent.Length; i += perRecord)
        {
            RecordRef record = await SteerLentAsync(lent.Slice(i, Math.Min(perRecord, lent.Length - i)), steering);
            last = record.Length > 0 ? record : last;
        }

        _log.CommitSoon();
        return last;
    }

    public async ValueTask<QueuedMessage[]> SplitAsync(QueuedMessage message, IReadOnlyList<int[]> groups)
    {
        if (groups.Count == 1)
        {
            return [message];
        }

        int change = _changes.Enter();
        try
        {
            byte number;
            lock (_book.LockOf(message.Id.Value))
            {
                number = _book.BeginChange(message.Slot);
            }

            QueuedMessage[] parts = new QueuedMessage[groups.Count];
            RecordRef[] records = new RecordRef[groups.Count];
            long epoch = _ledger.Epoch;
            for (int i = 0; i < parts.Length; i++)
            {
                RecipientState[] states = Array.ConvertAll(groups[i], message.GetRecipient);
                parts[i] = new QueuedMessage(message.Envelope, message.Body, groups[i], states) { Hot = message.Hot };
                records[i] = await AppendPartAsync(parts[i], number);
            }

            Divide(message, parts, records, number);
            parts[0] = message;
            for (int i = 0; i < parts.Length; i++)
            {
                if (!_ledger.Appended(parts[i], records[i], epoch))
                {
                    RewriteIfWell();
                }
            }

            return parts;
        }
        catch (LogUnavailableException)
        {
            EndChanges([message.Slot]);
            throw;
        }
        finally
        {
            _changes.Leave(change);
            _log.CommitSoon();
        }
    }

    private async ValueTask<RecordRef> AppendPartAsync(QueuedMessage part, byte number)
    {
        RecordWriter writer = new(128);
        try
        {
            StateWriter.Write(ref writer, number, part, _log.MaxPayload);
            return await _log.AppendAsync(RecordType.Routed, part.Id.Value, writer.Written);
        }
        finally
        {
            writer.Dispose();
        }
    }

    private void Divide(QueuedMessage message, QueuedMessage[] parts, RecordRef[] records, byte number)
    {
        lock (_book.LockOf(message.Id.Value))
        {
            for (int i = 1; i < parts.Length; i++)
            {
                // Its place is its owner's at once: what is entering is announced by the start (AnnounceRestored).
                Job part = Jobs[message.Slot] with { Site = 0, Domain = 0, Number = number, State = records[i].Address, StateBytes = RecordHeader.Footprint(records[i].Length) };
                _book.Describe(ref part, message.Envelope, parts[i].Recipients);
                parts[i].Slot = _book.AddSibling(message.Slot, part);
                _book.Summarize(ref Jobs[parts[i].Slot], parts[i]);
            }

            ref Job first = ref Jobs[message.Slot];
            _book.EndChange(message.Slot, first.Id);
            _book.SetState(ref first, records[0].Address, RecordHeader.Footprint(records[0].Length));
            _book.Describe(ref first, message.Envelope, parts[0].Recipients);
            message.Narrow(parts[0].Recipients.ToArray());
            _book.Summarize(ref first, message);
        }
    }

    private async ValueTask<RecordRef> SteerOwnAsync(ReadOnlyMemory<int> slots, Steering steering)
    {
        int change = _changes.Enter();
        RecordWriter writer = new(64 + (slots.Length * 8));
        try
        {
            List<SteeredJob> steered = new(slots.Length);
            foreach (int slot in slots.Span)
            {
                if (steering.Applies(Jobs[slot]))
                {
                    steered.Add(Renumber(slot));
                }
            }

            if (steered.Count == 0)
            {
                return default;
            }

            Encode(steered, steering, ref writer);
            RecordRef record = await _log.AppendAsync(RecordType.SteeredMany, 0, writer.Written);
            Apply(slots.Span, steering);
            return record;
        }
        catch (LogUnavailableException)
        {
            EndChanges(slots.Span);
            throw;
        }
        finally
        {
            writer.Dispose();
            _changes.Leave(change);
        }
    }

    private async ValueTask<RecordRef> SteerLentAsync(ReadOnlyMemory<JobRef> lent, Steering steering)
    {
        int change = _changes.Enter();
        RecordWriter writer = new(64 + (lent.Length * 8));
        try
        {
            List<SteeredJob> steered = new(lent.Length);
            foreach ((int slot, MessageId id) in lent.Span)
            {
                if (TryRenumber(slot, id.Value, out SteeredJob job))
                {
                    // Before the record: a state that is written from now on says so itself.
                    NoteLent(slot, id.Value, steering);
                    steered.Add(job);
                }
            }

            if (steered.Count == 0)
            {
                return default;
            }

            Encode(steered, steering, ref writer);
            return await _log.AppendAsync(RecordType.SteeredMany, 0, writer.Written);
        }
        catch (LogUnavailableException)
        {
            foreach ((int slot, _) in lent.Span)
            {
                ForgetLent(slot);
            }

            throw;
        }
        finally
        {
            writer.Dispose();
            _changes.Leave(change);
        }
    }

    private SteeredJob Renumber(int slot)
    {
        ref Job job = ref Jobs[slot];
        lock (_book.LockOf(job.Id))
        {
            return new SteeredJob(job.Id, job.State, _book.BeginChange(slot));
        }
    }

    // Its owner may finish it at any moment: under the lock it is either there or not.
    private bool TryRenumber(int slot, ulong id, out SteeredJob steered)
    {
        lock (_book.LockOf(id))
        {
            bool found = Jobs.TryRead(slot, out Job job) && job.Id == id;
            steered = found ? new SteeredJob(id, job.State, ++Jobs[slot].Number) : default;
            return found;
        }
    }

    private static void Encode(List<SteeredJob> steered, in Steering steering, ref RecordWriter writer)
    {
        SteeringCodec.Begin(ref writer, steering, steered.Count);
        SteeredJob before = default;
        foreach (SteeredJob job in steered)
        {
            SteeringCodec.WriteJob(ref writer, job, before);
            before = job;
        }
    }

    private int JobsOfOneRecord(in Steering steering)
    {
        int texts = 3 * ((steering.NextHop?.Length ?? 0) + (steering.Reason?.Length ?? 0));
        return Math.Clamp((_log.MaxPayload - texts - SteeringOctets) / SteeredJobOctets, 1, SteeringCodec.MaxJobs);
    }

    private void EndChanges(ReadOnlySpan<int> slots)
    {
        foreach (int slot in slots)
        {
            ulong id = Jobs[slot].Id;
            lock (_book.LockOf(id))
            {
                _book.EndChange(slot, id);
            }
        }
    }

    private void Apply(ReadOnlySpan<int> slots, in Steering steering)
    {
        foreach (int slot in slots)
        {
            ref Job job = ref Jobs[slot];
            if (!steering.Applies(job))
            {
                continue;
            }

            ulong id = job.Id;
            if (_warm.Take(slot, id) is { } warm)
            {
                // Its states are those from before.
                Cool(warm);
            }

            if (Volatile.Read(ref _lentCount) > 0)
            {
                ForgetLent(slot);
            }

            QueuedMessage? kept = _ledger.Find(slot, id);
            bool last = false;
            if (steering.Kind == SteeringKind.Drop)
            {
                last = Drop(slot, id);
            }
            else
            {
                _book.Steer(ref job, steering);
                EndChanges([slot]);
            }

            if (kept is not null)
            {
                Restate(kept, steering, last);
            }
        }
    }

    private bool Drop(int slot, ulong id)
    {
        bool last;
        long first;
        lock (_book.LockOf(id))
        {
            _book.EndChange(slot, id);
            last = _book.Remove(slot, out first);
        }

        if (last)
        {
            Forget(first);
        }

        return last;
    }

    /// <summary>Brings the states that wait in memory for the log to what the entry says.</summary>
    private static void Restate(QueuedMessage message, in Steering steering, bool last)
    {
        lock (message.Sync)
        {
            foreach (int index in message.Recipients)
            {
                RecipientState state = message.GetRecipient(index);
                if (!state.IsFinal)
                {
                    message.SetRecipient(index, Steered(state, steering));
                }
            }

            if (steering.Kind == SteeringKind.Drop)
            {
                message.EndsMessage = last;
                message.Slot = 0;
            }
        }
    }

    private static RecipientState Steered(RecipientState state, in Steering steering) => steering.Kind switch
    {
        SteeringKind.Hold => state with { Status = RecipientStatus.Held },
        SteeringKind.Release => state with { Status = RecipientStatus.Pending, DueAt = steering.DueAt },
        SteeringKind.Drop => state with { Status = RecipientStatus.Dropped },
        _ => state with { DueAt = steering.DueAt },
    };

    private void NoteLent(int slot, ulong id, in Steering steering)
    {
        if (_lent.TryAdd(slot, (id, steering)))
        {
            Interlocked.Increment(ref _lentCount);
        }
        else
        {
            _lent[slot] = (id, steering);
        }
    }

    private void ForgetLent(int slot)
    {
        if (_lent.TryRemove(slot, out _))
        {
            Interlocked.Decrement(ref _lentCount);
        }
    }

    /// <summary>A courier's outcome for a job that was held or dropped meanwhile: what was not delivered is held or gone.</summary>
    private void ApplyLentSteering(QueuedMessage message)
    {
        if (Volatile.Read(ref _lentCount) == 0 || !_lent.TryGetValue(message.Slot, out (ulong Id, Steering Steering) noted))
        {
            return;
        }

        bool applies = noted.Id == message.Id.Value;
        if (applies && noted.Steering.Kind is SteeringKind.Hold or SteeringKind.Drop)
        {
            foreach (int index in message.Recipients)
            {
                RecipientState state = message.GetRecipient(index);
                if (!state.IsFinal)
                {
                    message.SetRecipient(index, Steered(state, noted.Steering));
                }
            }
        }

        if (!applies || message.OpenRecipients == 0)
        {
            ForgetLent(message.Slot);
        }
    }
}
