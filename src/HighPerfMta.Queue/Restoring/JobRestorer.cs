using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue.Restoring;

/// <summary>
/// Makes the jobs of messages with several recipients from what the replay mapped, and brings jobs of a checkpoint up to the log's tail. Reads records: runs in the
/// background, before anybody owns the jobs.
/// </summary>
internal sealed class JobRestorer(MailQueue queue, Replayer replayer)
{
    private readonly JobBook _book = queue.Book;

    /// <summary>Jobs whose recipients are not exactly those of their state record: a crash came between two parts of a split. Their states have to be written again.</summary>
    public List<QueuedMessage> Inexact { get; } = [];

    /// <summary>Makes the jobs of one message whose Accepted record the replay found.</summary>
    public async ValueTask RestoreAsync(ulong id, int slot, RecipientMap map, CancellationToken cancellation)
    {
        try
        {
            await DivideAsync(slot, map, [], cancellation);
        }
        catch (Exception e) when (e is RecordUnreadableException or InvalidDataException)
        {
            HoldUnreadable(slot, id, e);
        }
    }

    /// <summary>
    /// Brings the jobs of one message that a checkpoint holds up to the tail of the log. Returns false when the message is finished; its jobs are out of the table then.
    /// </summary>
    public async ValueTask<bool> CatchUpAsync(ulong id, List<int> slots, List<TailChange> changes, CancellationToken cancellation)
    {
        foreach (TailChange change in changes)
        {
            if (change.Type == RecordType.Copied)
            {
                for (int i = 0; i < slots.Count; i++)
                {
                    _book.MoveMessage(ref _book.Jobs[slots[i]], change.Record.Address, change.First == change.Record.Address ? 0 : change.First, repin: i == 0);
                }
            }
        }

        changes.RemoveAll(static c => c.Type == RecordType.Copied);
        if (changes.Count == 0)
        {
            return true;
        }

        // Of several recipients the first one's changes look like those of an only one.
        bool simple = _book.Jobs[slots[0]] is { Count: 1, IsPart: false } && changes.TrueForAll(static c => !c.Many);
        if (simple)
        {
            return CatchUpOnly(slots[0], changes);
        }

        try
        {
            return await CatchUpManyAsync(id, slots, changes, cancellation);
        }
        catch (Exception e) when (e is RecordUnreadableException or InvalidDataException)
        {
            HoldUnreadable(slots[0], id, e);
            return true;
        }
    }

    private bool CatchUpOnly(int slot, List<TailChange> changes)
    {
        foreach (TailChange change in changes)
        {
            bool lives = change.Type == RecordType.SteeredMany
                ? replayer.SteerOnly(slot, change.Number, change.Steering)
                : replayer.ChangeOnly(slot, change.Only!, change.Record, change.Number);
            if (!lives)
            {
                RemoveAll([slot]);
                return false;
            }
        }

        return true;
    }

    private async ValueTask<bool> CatchUpManyAsync(ulong id, List<int> slots, List<TailChange> changes, CancellationToken cancellation)
    {
        using StoredRecord stored = await queue.Log.ReadAsync(_book.Jobs[slots[0]].Accepted, cancellation);
        Envelope envelope = JobReader.ReadAccepted(stored, _book.Jobs[slots[0]]).Envelope;
        RecipientMap map = new(envelope.Recipients.Length);
        map.End();
        Dictionary<long, Job> known = [];
        foreach (int slot in slots)
        {
            Job job = _book.Jobs[slot];
            if (job.State != 0 && job.State < queue.Log.BeginAddress)
            {
                // Compaction moved it: its copy is among the changes.
                continue;
            }

            known[job.State] = job;
            List<RecipientUpdate>? states = job.State == 0 ? null : await queue.Reader.ReadStatesAsync(id, job.State, cancellation);
            for (int i = 0; i < (states?.Count ?? map.Count); i++)
            {
                int index = states?[i].Index ?? i;
                map.Apply(index, job.State, job.Number, states?[i].State.IsFinal ?? false);
                KeepOrders(map, index, job);
            }
        }

        foreach (TailChange change in changes)
        {
            if (change.Type == RecordType.SteeredMany)
            {
                map.Steer(change.SteeredState, change.Number, change.Steering);
            }
            else
            {
                map.Apply(await queue.Reader.ReadStatesAsync(id, change.Record.Address, cancellation), change.Record.Address, change.Number);
            }
        }

        for (int i = 1; i < slots.Count; i++)
        {
            _book.Remove(slots[i], out _);
        }

        return await DivideAsync(slots[0], map, known, cancellation);
    }

    private void KeepOrders(RecipientMap map, int index, in Job job)
    {
        if (job.Has(JobFlags.Bouncing))
        {
            map.Order(index, new Steering(SteeringKind.Bounce, default));
        }

        if (job.Has(JobFlags.Rerouted))
        {
            map.Order(index, new Steering(SteeringKind.Reroute, default, _book.Names.Routes.Get(job.Route)));
        }
    }

    /// <summary>Makes one job of each group of open recipients that share a record. False: there is none, the message is finished.</summary>
    private async ValueTask<bool> DivideAsync(int slot, RecipientMap map, Dictionary<long, Job> known, CancellationToken cancellation)
    {
        Dictionary<long, List<int>> groups = map.Groups();
        if (groups.Count == 0)
        {
            RemoveAll([slot]);
            return false;
        }

        Job before = _book.Jobs[slot];
        using StoredRecord stored = await queue.Log.ReadAsync(before.Accepted, cancellation);
        AcceptedRecord accepted = JobReader.ReadAccepted(stored, before);
        StoredBody body = JobReader.BodyOf(stored, accepted);
        int at = slot;
        bool first = true;
        foreach ((long state, List<int> recipients) in groups)
        {
            QueuedMessage message = await MakeAsync(accepted.Envelope, body, state, recipients, cancellation);
            if (!first)
            {
                at = _book.AddSibling(slot, before with { Place = JobPlace.Entering, Domain = 0, Reason = 0, Route = 0, Flags = JobFlags.None, State = 0, StateBytes = 0 });
            }

            first = false;
            Describe(at, message, map, state, known);
        }

        return true;
    }

    private async ValueTask<QueuedMessage> MakeAsync(Envelope envelope, StoredBody body, long state, List<int> recipients, CancellationToken cancellation)
    {
        int[]? indexes = recipients.Count == envelope.Recipients.Length ? null : [.. recipients];
        RecipientState[] states = new RecipientState[recipients.Count];
        if (state == 0)
        {
            Array.Fill(states, new RecipientState(RecipientStatus.Pending, 0, envelope.FirstDue, null));
            return new QueuedMessage(envelope, body, indexes, states) { IsExact = indexes is null };
        }

        List<RecipientUpdate> updates = await queue.Reader.ReadStatesAsync(envelope.Id.Value, state, cancellation);
        int open = 0;
        foreach (RecipientUpdate update in updates)
        {
            int at = recipients.BinarySearch(update.Index);
            open += update.State.IsFinal ? 0 : 1;
            if (at >= 0)
            {
                states[at] = update.State;
            }
        }

        return new QueuedMessage(envelope, body, indexes, states) { IsExact = open == recipients.Count };
    }

    private void Describe(int slot, QueuedMessage message, RecipientMap map, long state, Dictionary<long, Job> known)
    {
        ref Job job = ref _book.Jobs[slot];
        // The slot may have had another part of the message.
        _book.ClearOrders(ref job);
        job.Number = map.NumberOf(message.Recipients[0]);
        _book.Describe(ref job, message.Envelope, message.Recipients);
        _book.Summarize(ref job, message);
        uint due = job.Due;
        if (known.TryGetValue(state, out Job entry))
        {
            // What the checkpoint's entry said was newer than its record.
            job.Flags = (job.Flags & JobFlags.Mixed) | (entry.Flags & (JobFlags.Held | JobFlags.NoticeSent));
            due = entry.Due;
        }

        (JobFlags flags, string? route) = map.OrdersOf(message.Recipients[0]);
        job.Flags |= flags;
        if (route is not null)
        {
            _book.Steer(ref job, new Steering(SteeringKind.Reroute, DateTimeOffset.UnixEpoch, route));
        }

        job.Due = due;
        foreach ((long steered, Steering steering) in map.Steerings)
        {
            if (steered == state)
            {
                _book.Steer(ref job, steering);
            }
        }

        message.Slot = slot;
        if (message.IsExact)
        {
            _book.SetState(ref job, state, state == 0 ? 0 : StateWriter.Measure(message));
        }
        else
        {
            Inexact.Add(message);
        }
    }

    private void RemoveAll(List<int> slots)
    {
        long first = 0;
        foreach (int slot in slots)
        {
            _book.Remove(slot, out first);
        }

        queue.Live.UnpinQuietly(first);
    }

    private void HoldUnreadable(int slot, ulong id, Exception error)
    {
        ref Job job = ref _book.Jobs[slot];
        _book.Steer(ref job, new Steering(SteeringKind.Hold, DateTimeOffset.UnixEpoch, Reason: $"set aside: {error.Message}"));
        queue.ReportUnreadable(new MessageId(id), error);
    }
}
