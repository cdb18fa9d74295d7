using System.Collections.Concurrent;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue.Index;

/// <summary>
/// The queue's own care for the table: what a job says of its message, rings of siblings, references to names, and what of the log is live. Addresses, numbers and siblings of jobs change under the
/// lock of their message (<see cref="LockOf"/>), everything else by the job's owner.
/// </summary>
internal sealed class JobBook(LiveSegments live)
{
    /// <summary>What a message takes in the log besides its octets, at least: its live bytes are never thought larger than they are.</summary>
    private const int LeastOverhead = 96;

    private readonly Lock[] _locks = [.. Enumerable.Range(0, 256).Select(static _ => new Lock())];
    private readonly HashSet<int>[] _changing = [.. Enumerable.Range(0, 256).Select(static _ => new HashSet<int>())];
    private readonly ConcurrentDictionary<ulong, long> _firstChunks = new();
    private long _liveBytes;
    private int _messages;

    public JobTable Jobs { get; } = new();

    public JobNames Names { get; } = new();

    /// <summary>Messages with at least one job.</summary>
    public int Messages => Volatile.Read(ref _messages);

    /// <summary>Bytes of the log that are needed, at least.</summary>
    public long LiveBytes => Interlocked.Read(ref _liveBytes);

    /// <summary>Messages in chunks: the address of the first one.</summary>
    public IReadOnlyDictionary<ulong, long> FirstChunks => _firstChunks;

    public Lock LockOf(ulong id) => _locks[Stripe(id)];

    /// <summary>
    /// Gives the job its next number for a state whose record is about to be appended. Under the message's lock; <see cref="EndChange"/> follows when the job points to the record, or will not.
    /// </summary>
    public byte BeginChange(int slot)
    {
        ref Job job = ref Jobs[slot];
        _changing[Stripe(job.Id)].Add(slot);
        return ++job.Number;
    }

    /// <summary>Under the message's lock.</summary>
    public void EndChange(int slot, ulong id) => _changing[Stripe(id)].Remove(slot);

    /// <summary>Whether a state of the job is on its way to the log: it is not the time to copy it. Under the message's lock.</summary>
    public bool IsChanging(int slot, ulong id) => _changing[Stripe(id)].Contains(slot);

    private static int Stripe(ulong id) => (int)((id ^ (id >> 20)) & 255);

    /// <summary>Puts a new message into the table: one job with all its recipients. Its first record is pinned already.</summary>
    public int Create(Envelope envelope, StoredBody body)
    {
        Job job = new()
        {
            Id = envelope.Id.Value,
            Accepted = body.Accepted.Address,
            Due = DueTime.FromTicks(envelope.FirstDue.UtcTicks),
            Size = (uint)Math.Min(uint.MaxValue, body.Size),
            Sender = AcquireSender(envelope.Sender),
            Place = JobPlace.Entering,
        };
        Describe(ref job, envelope, null);
        if (envelope.Parameters?.DeliverBy is { } by)
        {
            job.SetDeadline(by.At.UtcTicks, by.Notify);
        }

        if (body.Chunks.Length > 0)
        {
            _firstChunks[job.Id] = body.First;
        }

        Interlocked.Add(ref _liveBytes, MessageBytes(job));
        Interlocked.Increment(ref _messages);
        return Jobs.Add(job);
    }

    /// <summary>Takes over a job that a checkpoint holds, its names restored already: counts what it refers to. Once for each job; <paramref name="first"/>: the first of its message.</summary>
    public void Count(in Job job, bool first)
    {
        Names.Domains.AddReference(job.Domain);
        AddSenderReference(job.Sender);
        Names.Reasons.AddReference(job.Reason);
        Names.Routes.AddReference(job.Route);
        Interlocked.Add(ref _liveBytes, job.StateBytes);
        if (first)
        {
            live.PinAt(FirstRecordOf(job));
            Interlocked.Add(ref _liveBytes, MessageBytes(job));
            Interlocked.Increment(ref _messages);
        }
    }

    /// <summary>The message's records are elsewhere now: an Accepted record, and the first chunk if it has any (else 0). Under its lock, once for each of its jobs with <paramref name="repin"/> at one of them.</summary>
    public void MoveMessage(ref Job job, long accepted, long firstChunk, bool repin = true)
    {
        if (repin)
        {
            long before = FirstRecordOf(job);
            live.PinAt(firstChunk == 0 ? accepted : Math.Min(firstChunk, accepted));
            live.UnpinQuietly(before);
            if (firstChunk != 0)
            {
                _firstChunks[job.Id] = Math.Min(firstChunk, accepted);
            }
        }

        job.Accepted = accepted;
    }

    public void SetFirstChunk(ulong id, long address) => _firstChunks[id] = address;

    /// <summary>Sets what the job says of its recipients. Null: all of the envelope's.</summary>
    public void Describe(ref Job job, Envelope envelope, ReadOnlySpan<int> recipients, bool all = false)
    {
        int before = job.Domain;
        int count = all ? envelope.Recipients.Length : recipients.Length;
        EmailAddress first = envelope.Recipients[all ? 0 : recipients[0]];
        bool mixed = false;
        for (int i = 1; i < count && !mixed; i++)
        {
            mixed = envelope.Recipients[all ? i : recipients[i]].Domain != first.Domain;
        }

        job.Domain = mixed ? 0 : Names.Domains.Acquire(first.Domain);
        job.Flags = job.Domain == 0 ? job.Flags | JobFlags.Mixed : job.Flags & ~JobFlags.Mixed;
        job.Count = count;
        job.IsPart = count < envelope.Recipients.Length;
        job.RecipientHash = count == 1 ? JobNames.HashOf(first.LocalPart) : (ushort)0;
        Names.Domains.Release(before);
    }

    public void Describe(ref Job job, Envelope envelope, int[]? recipients) => Describe(ref job, envelope, recipients, recipients is null);

    /// <summary>Puts a part that was split off beside its job; under the message's lock.</summary>
    public int AddSibling(int slot, in Job part)
    {
        AddSenderReference(part.Sender);
        Names.Reasons.AddReference(part.Reason);
        Names.Routes.AddReference(part.Route);
        Interlocked.Add(ref _liveBytes, part.StateBytes);
        int added = Jobs.Add(part);
        Jobs[added].Sibling = Jobs[slot].Sibling;
        Jobs[slot].Sibling = added;
        return added;
    }

    /// <summary>The job points to another state record; under the message's lock.</summary>
    public void SetState(ref Job job, long address, int bytes)
    {
        int before = job.StateBytes;
        job.State = address;
        job.StateBytes = bytes;
        Interlocked.Add(ref _liveBytes, job.StateBytes - before);
    }

    /// <summary>Sets what the job says of its state from the states of its open recipients.</summary>
    public void Summarize(ref Job job, QueuedMessage message)
    {
        bool held = false;
        bool noticed = true;
        int attempts = 0;
        int open = 0;
        long due = long.MaxValue;
        DeliveryOutcome? last = null;
        foreach (int index in message.Recipients)
        {
            RecipientState state = message.GetRecipient(index);
            if (state.IsFinal)
            {
                continue;
            }

            open++;
            held |= state.Status == RecipientStatus.Held;
            noticed &= state.DelayNoticeSent;
            attempts = Math.Max(attempts, state.Attempts);
            due = Math.Min(due, state.DueAt.UtcTicks);
            last ??= state.LastOutcome;
        }

        if (open != job.Count && open < Job.MostCount)
        {
            int[] left = [.. message.Recipients];
            Describe(ref job, message.Envelope, Array.FindAll(left, i => !message.GetRecipient(i).IsFinal));
        }

        Set(ref job, held, noticed, attempts, due, last?.Reply);
    }

    public void Set(ref Job job, bool held, bool noticed, int attempts, long due, string? reason)
    {
        JobFlags flags = job.Flags & ~(JobFlags.Held | JobFlags.NoticeSent);
        flags |= held ? JobFlags.Held : JobFlags.None;
        flags |= noticed ? JobFlags.NoticeSent : JobFlags.None;
        job.Flags = flags;
        job.Attempts = (byte)Math.Min(byte.MaxValue, attempts);
        job.Due = DueTime.FromTicks(due);
        SetReason(ref job, reason);
    }

    /// <summary>Does to the job what the steering says; not for drop.</summary>
    public void Steer(ref Job job, in Steering steering)
    {
        switch (steering.Kind)
        {
            case SteeringKind.Hold:
                job.Flags |= JobFlags.Held;
                if (steering.Reason is { } reason)
                {
                    SetReason(ref job, reason);
                }

                return;
            case SteeringKind.Release:
                job.Flags &= ~JobFlags.Held;
                break;
            case SteeringKind.Bounce:
                job.Flags |= JobFlags.Bouncing;
                break;
            case SteeringKind.Reroute:
                ushort before = job.Route;
                job.Route = (ushort)Names.Routes.Acquire(steering.NextHop);
                job.Flags = job.Route == 0 ? job.Flags & ~JobFlags.Rerouted : job.Flags | JobFlags.Rerouted;
                Names.Routes.Release(before);
                break;
        }

        job.Due = DueTime.FromTicks(steering.DueAt.UtcTicks);
    }

    /// <summary>Forgets that the job is bouncing or rerouted.</summary>
    public void ClearOrders(ref Job job)
    {
        Names.Routes.Release(job.Route);
        job.Route = 0;
        job.Flags &= ~(JobFlags.Bouncing | JobFlags.Rerouted);
    }

    public void SetReason(ref Job job, string? reason)
    {
        int before = job.Reason;
        if (reason is null || Names.Reasons.Get(before) != reason)
        {
            job.Reason = reason is null ? (ushort)0 : (ushort)Names.Reasons.Acquire(reason);
            Names.Reasons.Release(before);
        }
    }

    /// <summary>
    /// Takes the job out; true when its message has no other and is finished: <paramref name="first"/> is the address of the first record that it needed, to be unpinned.
    /// Under the message's lock; nothing may refer to the slot afterwards.
    /// </summary>
    public bool Remove(int slot, out long first)
    {
        Job job = Jobs[slot];
        bool last = job.Sibling == slot;
        first = FirstRecordOf(job);
        if (!last)
        {
            int before = job.Sibling;
            while (Jobs[before].Sibling != slot)
            {
                before = Jobs[before].Sibling;
            }

            Jobs[before].Sibling = job.Sibling;
        }

        Jobs.Remove(slot);
        Names.Domains.Release(job.Domain);
        ReleaseSender(job.Sender);
        Names.Reasons.Release(job.Reason);
        Names.Routes.Release(job.Route);
        Interlocked.Add(ref _liveBytes, -(job.StateBytes + (last ? MessageBytes(job) : 0)));
        if (last)
        {
            Interlocked.Decrement(ref _messages);
            _firstChunks.TryRemove(job.Id, out _);
        }

        return last;
    }

    /// <summary>Address of the first record that the message needs: its first chunk, or its Accepted record.</summary>
    public long FirstRecordOf(in Job job) => _firstChunks.GetValueOrDefault(job.Id, job.Accepted);

    private static long MessageBytes(in Job job) => job.Size + (long)LeastOverhead;

    private int AcquireSender(EmailAddress? sender)
    {
        if (sender is null)
        {
            return 0;
        }

        Span<char> address = stackalloc char[320];
        int length = sender.LocalPart.Length + 1 + sender.Domain.Length;
        if (length <= address.Length)
        {
            sender.LocalPart.CopyTo(address);
            address[sender.LocalPart.Length] = '@';
            sender.Domain.CopyTo(address[(sender.LocalPart.Length + 1)..]);
            int number = Names.Senders.Acquire(sender.Domain.Length == 0 ? sender.LocalPart : address[..length]);
            if (number != 0)
            {
                return number;
            }
        }

        int domain = Names.Domains.Acquire(sender.Domain);
        if (domain == 0)
        {
            // It must not look like the null sender, whose mail is never returned.
            domain = JobNames.UnknownDomain;
            Names.Domains.AddReference(domain);
        }

        return -domain;
    }

    private void AddSenderReference(int sender)
    {
        if (sender > 0)
        {
            Names.Senders.AddReference(sender);
        }
        else
        {
            Names.Domains.AddReference(-sender);
        }
    }

    private void ReleaseSender(int sender)
    {
        if (sender > 0)
        {
            Names.Senders.Release(sender);
        }
        else
        {
            Names.Domains.Release(-sender);
        }
    }
}
