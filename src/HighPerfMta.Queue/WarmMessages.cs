namespace HighPerfMta.Queue;

/// <summary>
/// Messages kept in memory for their next use, by slot: a message is displaced by the next one that falls on its place and is then read from the log. At most
/// <see cref="Places"/> messages of at most <see cref="MaxRecipients"/> recipients. Safe for concurrent use.
/// </summary>
internal sealed class WarmMessages(Action<QueuedMessage> displaced)
{
    public const int Places = 8192;
    public const int MaxRecipients = 16;

    private readonly QueuedMessage?[] _messages = new QueuedMessage?[Places];

    /// <summary>False: the message is not kept.</summary>
    public bool Keep(QueuedMessage message)
    {
        if (message.Slot == 0 || message.Recipients.Length > MaxRecipients || message.RecipientCount > 8 * MaxRecipients)
        {
            return false;
        }

        QueuedMessage? before = Interlocked.Exchange(ref _messages[PlaceOf(message.Slot)], message);
        if (before is not null && !ReferenceEquals(before, message))
        {
            displaced(before);
        }

        return true;
    }

    /// <summary>Takes the slot's message out; null when it is not there.</summary>
    public QueuedMessage? Take(int slot, ulong id)
    {
        ref QueuedMessage? place = ref _messages[PlaceOf(slot)];
        QueuedMessage? found = Volatile.Read(ref place);
        return found is not null && found.Slot == slot && found.Id.Value == id
            && ReferenceEquals(Interlocked.CompareExchange(ref place, null, found), found)
            ? found
            : null;
    }

    // Slots are given out in a row: neighbours must not meet.
    private static int PlaceOf(int slot) => slot & (Places - 1);
}
