using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue;

/// <summary>State of one recipient of a queued message.</summary>
public enum RecipientStatus : byte
{
    /// <summary>Waiting for its next attempt, due at <see cref="RecipientState.DueAt"/>.</summary>
    Pending = 0,

    Delivered = 1,

    /// <summary>Failed for good; a DSN was made if one was due.</summary>
    Failed = 2,

    /// <summary>Held by a route or an operator; only a release moves it. Expiry still applies.</summary>
    Held = 3,

    /// <summary>Removed by an operator, without a DSN.</summary>
    Dropped = 4,
}

/// <summary>
/// Exact retry state of one recipient. Replaced as a whole by <see cref="IMailQueue"/>, never edited, so that readers on any thread see
/// one consistent state.
/// </summary>
public sealed record RecipientState(
    RecipientStatus Status,
    int Attempts,
    DateTimeOffset DueAt,
    DeliveryOutcome? LastOutcome,
    bool DelayNoticeSent = false)
{
    /// <summary>Nothing more is to be done for the recipient.</summary>
    public bool IsFinal => Status is RecipientStatus.Delivered or RecipientStatus.Failed or RecipientStatus.Dropped;

    /// <summary>
    /// The state after <paramref name="update"/>, which its writer made from a state that may be older than this one: couriers and operators
    /// change a recipient without waiting for each other. What is final stays so, except that a delivery that took place is never denied; a hold
    /// outlives the end of an attempt; attempts are never forgotten, and neither is a delay notice.
    /// </summary>
    internal RecipientState Merge(RecipientState update)
    {
        if (IsFinal)
        {
            return update.Status == RecipientStatus.Delivered && Status != RecipientStatus.Delivered ? update : this;
        }

        if (update.DelayNoticeSent && !DelayNoticeSent && update.Attempts <= Attempts)
        {
            return update.IsFinal ? update : this with { DelayNoticeSent = true };
        }

        RecipientState merged = update;
        if (update.Attempts < Attempts)
        {
            merged = merged with { Attempts = Attempts, LastOutcome = update.IsFinal ? update.LastOutcome : LastOutcome };
        }
        else if (update.Attempts > Attempts && Status == RecipientStatus.Held && update.Status == RecipientStatus.Pending)
        {
            merged = merged with { Status = RecipientStatus.Held };
        }

        return DelayNoticeSent && !merged.DelayNoticeSent ? merged with { DelayNoticeSent = true } : merged;
    }
}

/// <summary>
/// A queued message as one of its jobs sees it: the envelope, and the recipients of that job with their states. Its job's owner has it while he works on the
/// job and changes it through <see cref="IMailQueue"/>; whoever else holds one (a peek) holds a picture of a moment.
/// </summary>
public sealed class QueuedMessage
{
    private static readonly int[] OnlyFirst = [0];

    private int[] _recipients;
    private RecipientState[] _states;
    private int _open;

    /// <param name="envelope">The envelope.</param>
    /// <param name="body">Where its octets are.</param>
    /// <param name="recipients">Indexes into the envelope, ascending; null for all of them.</param>
    /// <param name="states">Their states, in the same order.</param>
    internal QueuedMessage(Envelope envelope, StoredBody body, int[]? recipients, RecipientState[] states)
    {
        Envelope = envelope;
        Body = body;
        _recipients = recipients ?? (states.Length == 1 ? OnlyFirst : [.. Enumerable.Range(0, states.Length)]);
        _states = states;
        foreach (RecipientState state in states)
        {
            _open += state.IsFinal ? 0 : 1;
        }
    }

    public Envelope Envelope { get; }

    public MessageId Id => Envelope.Id;

    /// <summary>The job's slot in <see cref="IMailQueue.Jobs"/>; 0 when the job is finished.</summary>
    public int Slot { get; internal set; }

    /// <summary>What it counts for while it is kept in memory.</summary>
    internal int WarmWeight { get; set; }

    /// <summary>Octets of the message as it will be sent, prepended headers included, CRLF line ends, no dot-stuffing.</summary>
    public long Size => Body.Size;

    /// <summary>Recipients of the envelope, other jobs' among them.</summary>
    public int RecipientCount => Envelope.Recipients.Length;

    /// <summary>The job's recipients, final ones among them: indexes of <see cref="Envelope.Recipients"/>, ascending.</summary>
    public ReadOnlySpan<int> Recipients => _recipients;

    /// <summary>State of one of the job's recipients, by its index in <see cref="Envelope.Recipients"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is another job's.</exception>
    public RecipientState GetRecipient(int index) => Volatile.Read(ref _states[Find(index)]);

    /// <summary>Whether the recipient is one of the job's.</summary>
    public bool Has(int index) => _recipients.Length == RecipientCount || Array.BinarySearch(_recipients, index) >= 0;

    /// <summary>The job's recipients that are not final.</summary>
    public int OpenRecipients => Volatile.Read(ref _open);

    internal StoredBody Body { get; set; }

    /// <summary>The octets while they are kept in memory for the first delivery; null afterwards.</summary>
    internal HotBody? Hot { get; set; }

    /// <summary>Found at start: the recipients are exactly those open ones that the state record lists.</summary>
    internal bool IsExact { get; init; }

    /// <summary>For a finished job: the number of its last state, and the first record of its message.</summary>
    internal byte EndNumber { get; set; }

    internal long EndFirst { get; set; }

    /// <summary>The finished job was its message's last.</summary>
    internal bool EndsMessage { get; set; }

    /// <summary>Held while the states of the recipients change together with the record that says so: the owner changes them, and after a failure of the log the queue writes them again.</summary>
    internal object Sync => this;

    /// <summary>Leaves the job these of its recipients (ascending); the others are another job's from now on.</summary>
    internal void Narrow(int[] recipients)
    {
        RecipientState[] states = Array.ConvertAll(recipients, GetRecipient);
        _states = states;
        _recipients = recipients;
        _open = states.Count(static s => !s.IsFinal);
    }

    /// <summary>Applies an update to one recipient and returns the state that came of it; the queue alone calls it.</summary>
    internal RecipientState Change(int index, RecipientState update)
    {
        RecipientState after = _states[Find(index)].Merge(update);
        SetRecipient(index, after);
        return after;
    }

    /// <summary>Replaces one recipient's state; the queue alone calls it.</summary>
    internal void SetRecipient(int index, RecipientState state)
    {
        int at = Find(index);
        RecipientState before = _states[at];
        Volatile.Write(ref _states[at], state);
        if (before.IsFinal != state.IsFinal)
        {
            Interlocked.Add(ref _open, state.IsFinal ? -1 : 1);
        }
    }

    /// <summary>What the job's entry says of hold, due time and notice is newer than what a record said.</summary>
    internal void Overlay(in Index.Job job)
    {
        long due = long.MaxValue;
        foreach (RecipientState state in _states)
        {
            due = state.IsFinal ? due : Math.Min(due, state.DueAt.UtcTicks);
        }

        // The entry's time is rounded: the states' are the exact ones unless the entry was changed since.
        bool moved = Index.DueTime.FromTicks(due) != job.Due;
        for (int i = 0; i < _states.Length; i++)
        {
            RecipientState state = _states[i];
            if (state.IsFinal)
            {
                continue;
            }

            if (job.IsHeld != (state.Status == RecipientStatus.Held))
            {
                state = state with { Status = job.IsHeld ? RecipientStatus.Held : RecipientStatus.Pending };
            }

            state = job.Has(Index.JobFlags.NoticeSent) && !state.DelayNoticeSent ? state with { DelayNoticeSent = true } : state;
            Volatile.Write(ref _states[i], moved ? state with { DueAt = new DateTimeOffset(job.DueAt, TimeSpan.Zero) } : state);
        }
    }

    private int Find(int index)
    {
        int at = _recipients.Length == RecipientCount ? index : Array.BinarySearch(_recipients, index);
        ArgumentOutOfRangeException.ThrowIfNegative(at, nameof(index));
        return at;
    }
}
