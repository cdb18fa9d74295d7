using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.TestKit;

/// <summary>How entries and messages follow from each other.</summary>
public sealed partial class InstantMailQueue
{
    public ValueTask<RecordRef> SteerAsync(ReadOnlyMemory<int> slots, Steering steering, ReadOnlyMemory<JobRef> lent = default)
    {
        int[] all = slots.ToArray();
        BeforeSteer?.Invoke(steering, all);
        if (KeepUpdates)
        {
            Steerings.Enqueue((steering, all, lent.ToArray()));
        }

        int changed = lent.Length;
        lock (_gate)
        {
            foreach (int slot in all)
            {
                if (!_closed && steering.Applies(Jobs[slot]))
                {
                    Steer(slot, steering);
                    changed++;
                }
            }
        }

        return new ValueTask<RecordRef>(changed == 0 ? default : new RecordRef(Interlocked.Increment(ref _lastRecord), 1));
    }

    private void Steer(int slot, in Steering steering)
    {
        ref Job job = ref Jobs[slot];
        MessageId id = job.MessageId;
        switch (steering.Kind)
        {
            case SteeringKind.Hold:
                job.Flags |= JobFlags.Held;
                SetReason(ref job, steering.Reason ?? Names.Reasons.Get(job.Reason));
                break;
            case SteeringKind.Release:
                job.Flags &= ~JobFlags.Held;
                job.Due = DueTime.FromTicks(steering.DueAt.UtcTicks);
                SetReason(ref job, Names.Reasons.Get(job.Reason) ?? "released by an operator");
                break;
            case SteeringKind.Retry:
                job.Due = DueTime.FromTicks(steering.DueAt.UtcTicks);
                break;
            case SteeringKind.Bounce:
                job.Flags |= JobFlags.Bouncing;
                break;
            case SteeringKind.Reroute:
                int before = job.Route;
                job.Route = (ushort)Names.Routes.Acquire(steering.NextHop!);
                Names.Routes.Release(before);
                job.Flags |= JobFlags.Rerouted;
                job.Due = DueTime.FromTicks(steering.DueAt.UtcTicks);
                break;
            default:
                Drop(slot);
                return;
        }

        if (_stored.ContainsKey(id))
        {
            Load(slot, job);
        }
    }

    private void Drop(int slot)
    {
        Job job = Jobs[slot];
        if (_stored.TryGetValue(job.MessageId, out Stored? stored))
        {
            QueuedMessage message = Load(slot, job);
            foreach (int recipient in message.Recipients)
            {
                if (!message.GetRecipient(recipient).IsFinal)
                {
                    stored.Whole.SetRecipient(recipient, message.GetRecipient(recipient) with { Status = RecipientStatus.Dropped });
                }
            }
        }

        Remove(slot, job.MessageId);
    }

    /// <summary>The job's message with what its entry says, which the picture shows then too.</summary>
    private QueuedMessage Load(int slot, in Job job)
    {
        if (!_stored.TryGetValue(job.MessageId, out Stored? stored))
        {
            return Make(slot, job);
        }

        QueuedMessage message = _warm[slot];
        if (Cold)
        {
            int[] recipients = [.. message.Recipients];
            message = new QueuedMessage(message.Envelope, message.Body, recipients, [.. recipients.Select(stored.Whole.GetRecipient)]) { Slot = slot };
            _warm[slot] = message;
        }

        lock (_gate)
        {
            Overlay(message, _closed ? message : stored.Whole, job);
        }

        return message;
    }

    private QueuedMessage Make(int slot, in Job job)
    {
        string? sender = Names.Senders.Get(job.Sender);
        Envelope envelope = new()
        {
            Id = job.MessageId,
            Sender = sender is null ? null : DeliveryBench.Address(sender),
            Recipients = [DeliveryBench.Address("bare@" + Names.Domains.Get(job.Domain))],
            ReceivedAt = new DateTimeOffset(job.ReceivedAt, TimeSpan.Zero),
        };
        RecipientState state = new(job.IsHeld ? RecipientStatus.Held : RecipientStatus.Pending, job.Attempts, new DateTimeOffset(job.DueAt, TimeSpan.Zero), null, job.Has(JobFlags.NoticeSent));
        StoredBody body = new() { Accepted = new RecordRef(64, 4), InlineOffset = 0, InlineLength = 4, Size = 4 };
        QueuedMessage message = new(envelope, body, null, [state]) { Slot = slot };
        _stored[envelope.Id] = new Stored(new QueuedMessage(envelope, body, null, [state]) { Slot = slot }, "\r\nx\r\n"u8.ToArray());
        _warm[slot] = message;
        return message;
    }

    private static void Overlay(QueuedMessage message, QueuedMessage whole, in Job job)
    {
        long due = long.MaxValue;
        foreach (int recipient in message.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            due = state.IsFinal ? due : Math.Min(due, state.DueAt.UtcTicks);
        }

        bool moved = DueTime.FromTicks(due) != job.Due;
        foreach (int recipient in message.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            if (!state.IsFinal)
            {
                state = moved ? state with { DueAt = new DateTimeOffset(job.DueAt, TimeSpan.Zero) } : state;
                state = job.IsHeld != (state.Status == RecipientStatus.Held) ? state with { Status = job.IsHeld ? RecipientStatus.Held : RecipientStatus.Pending } : state;
                message.SetRecipient(recipient, state);
                whole.SetRecipient(recipient, state);
            }
        }
    }

    private void Summarize(ref Job job, QueuedMessage message)
    {
        EmailAddress[] addresses = message.Envelope.Recipients;
        string? domain = null;
        string? reason = null;
        bool held = false;
        bool mixed = false;
        bool told = true;
        long due = long.MaxValue;
        int attempts = 0;
        int open = 0;
        foreach (int recipient in message.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            if (state.IsFinal)
            {
                continue;
            }

            open++;
            mixed |= domain is not null && domain != addresses[recipient].Domain;
            domain ??= addresses[recipient].Domain;
            held |= state.Status == RecipientStatus.Held;
            told &= state.DelayNoticeSent;
            due = Math.Min(due, state.DueAt.UtcTicks);
            attempts = Math.Max(attempts, state.Attempts);
            reason ??= state.LastOutcome?.Text;
        }

        int before = job.Domain;
        job.Domain = mixed ? 0 : Names.Domains.Acquire(domain!);
        Names.Domains.Release(before);
        JobFlags flags = job.Flags & ~(JobFlags.Held | JobFlags.NoticeSent | JobFlags.Mixed);
        job.Flags = flags | (held ? JobFlags.Held : 0) | (told ? JobFlags.NoticeSent : 0) | (mixed ? JobFlags.Mixed : 0);
        job.Due = DueTime.FromTicks(due);
        job.Attempts = (byte)Math.Min(byte.MaxValue, attempts);
        job.Count = (ushort)open;
        SetReason(ref job, reason);
    }

    private void SetReason(ref Job job, string? reason)
    {
        int before = job.Reason;
        job.Reason = reason is null ? (ushort)0 : (ushort)Names.Reasons.Acquire(reason);
        Names.Reasons.Release(before);
    }

    private void AddReferences(in Job job)
    {
        Names.Domains.AddReference(job.Domain);
        Names.Senders.AddReference(job.Sender);
        Names.Reasons.AddReference(job.Reason);
        Names.Routes.AddReference(job.Route);
    }

    private void Remove(int slot, MessageId id)
    {
        Job job = Jobs[slot];
        Names.Domains.Release(job.Domain);
        Names.Senders.Release(job.Sender);
        Names.Reasons.Release(job.Reason);
        Names.Routes.Release(job.Route);

        // From its removal on the slot may be another's.
        _warm.TryRemove(slot, out _);
        Jobs.Remove(slot);
        if (_stored.TryGetValue(id, out Stored? stored) && stored.Whole.OpenRecipients == 0 && _stored.TryRemove(id, out _))
        {
            stored.Whole.Slot = 0;
        }
    }
}
