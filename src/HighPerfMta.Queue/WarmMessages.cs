namespace HighPerfMta.Queue;

/// <summary>
/// Messages kept in memory for their next use, by slot: a message is displaced by the next one that falls on its place and is then read from the log. At most
/// <see cref="Places"/> messages, of <see cref="MaxWeight"/> recipients together. Safe for concurrent use.
/// </summary>
/// <remarks>
/// One that does not fit is not kept, and displaces nobody: jobs that come round in turn would else each find that it was displaced just before.
/// </remarks>
/// <param name="displaced">Gets what is not kept any more.</param>
/// <param name="isGone">Whether a message's job is not queued any more, so that nobody will ask for it.</param>
internal sealed class WarmMessages(Action<QueuedMessage> displaced, Func<QueuedMessage, bool> isGone)
{
    public const int Places = 8192;

    /// <summary>Recipients of all that is kept, those of the job and those of the envelope: some 200 octets each, as which parameters count too.</summary>
    public const int MaxWeight = 256 << 10;

    private const int OctetsOfOne = 200;

    /// <summary>Places that are looked at, for what nobody will ask for, when there is no room.</summary>
    private const int Sweep = 16;

    private readonly QueuedMessage?[] _messages = new QueuedMessage?[Places];
    private int _weight;
    private int _hand;

    /// <summary>Recipients of what is kept.</summary>
    public int Weight => Volatile.Read(ref _weight);

    /// <summary>False: the message is not kept.</summary>
    public bool Keep(QueuedMessage message)
    {
        if (message.Slot == 0)
        {
            return false;
        }

        ref QueuedMessage? place = ref _messages[PlaceOf(message.Slot)];
        QueuedMessage? there = Volatile.Read(ref place);
        if (ReferenceEquals(there, message))
        {
            return true;
        }

        int weight = message.Recipients.Length + message.RecipientCount + ((message.Envelope.Parameters?.Weight ?? 0) / OctetsOfOne);
        if (Weight - (there?.WarmWeight ?? 0) + weight > MaxWeight)
        {
            DropGone();
            return false;
        }

        message.WarmWeight = weight;
        Interlocked.Add(ref _weight, weight);
        if (Interlocked.Exchange(ref place, message) is { } before)
        {
            Forget(before);
        }

        return true;
    }

    /// <summary>Takes the slot's message out; null when it is not there.</summary>
    public QueuedMessage? Take(int slot, ulong id)
    {
        ref QueuedMessage? place = ref _messages[PlaceOf(slot)];
        QueuedMessage? found = Volatile.Read(ref place);
        if (found is null || found.Slot != slot || found.Id.Value != id || !ReferenceEquals(Interlocked.CompareExchange(ref place, null, found), found))
        {
            return null;
        }

        Interlocked.Add(ref _weight, -found.WarmWeight);
        return found;
    }

    // Slots are given out in a row: neighbours must not meet.
    private static int PlaceOf(int slot) => slot & (Places - 1);

    private void DropGone()
    {
        for (int i = 0; i < Sweep; i++)
        {
            ref QueuedMessage? place = ref _messages[(uint)Interlocked.Increment(ref _hand) % Places];
            if (Volatile.Read(ref place) is { } found && isGone(found) && ReferenceEquals(Interlocked.CompareExchange(ref place, null, found), found))
            {
                Forget(found);
            }
        }
    }

    private void Forget(QueuedMessage message)
    {
        Interlocked.Add(ref _weight, -message.WarmWeight);
        displaced(message);
    }
}
