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

/// <summary>A message that is durable and has at least one recipient that is not final. Owned by the queue; readable from any thread.</summary>
public sealed class QueuedMessage
{
    private readonly RecipientState[] _recipients;
    private int _open;

    internal QueuedMessage(Envelope envelope, StoredBody body, RecipientState[] recipients)
    {
        Envelope = envelope;
        Body = body;
        _recipients = recipients;
        foreach (RecipientState state in recipients)
        {
            _open += state.IsFinal ? 0 : 1;
        }
    }

    public Envelope Envelope { get; }

    public MessageId Id => Envelope.Id;

    /// <summary>Octets of the message as it will be sent, prepended headers included, CRLF line ends, no dot-stuffing.</summary>
    public long Size => Body.Size;

    public int RecipientCount => _recipients.Length;

    /// <summary>State by the index of <see cref="Envelope.Recipients"/>.</summary>
    public RecipientState GetRecipient(int index) => Volatile.Read(ref _recipients[index]);

    /// <summary>Recipients that are not final.</summary>
    public int OpenRecipients => Volatile.Read(ref _open);

    internal StoredBody Body { get; }

    /// <summary>The octets while they are kept in memory for the first delivery; null afterwards.</summary>
    internal HotBody? Hot { get; set; }

    /// <summary>What keeps the message's records from being truncated; see <see cref="LiveSegments"/>.</summary>
    internal long LivePin { get; init; }

    /// <summary>Number of the last update; read and changed under <see cref="Sync"/>.</summary>
    internal uint LastUpdate { get; set; }

    /// <summary>Held while the states of the recipients change together with the record that says so.</summary>
    internal object Sync => _recipients;

    /// <summary>Applies an update to one recipient and returns the state that came of it; the queue alone calls it, under its per-message ordering.</summary>
    internal RecipientState Change(int index, RecipientState update)
    {
        RecipientState after = _recipients[index].Merge(update);
        SetRecipient(index, after);
        return after;
    }

    /// <summary>Replaces one recipient's state; the queue alone calls it, under its per-message ordering.</summary>
    internal void SetRecipient(int index, RecipientState state)
    {
        RecipientState before = _recipients[index];
        Volatile.Write(ref _recipients[index], state);
        if (before.IsFinal != state.IsFinal)
        {
            Interlocked.Add(ref _open, state.IsFinal ? -1 : 1);
        }
    }
}
