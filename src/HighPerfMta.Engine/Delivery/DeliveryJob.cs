using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

internal enum JobPlace : byte
{
    /// <summary>In the shard's free list, or being worked on by the shard's loop.</summary>
    None,

    /// <summary>Due and in its site's queue; also in the due heap, for expiry and delay notice.</summary>
    Waiting,

    /// <summary>In the due heap alone.</summary>
    Parked,

    /// <summary>With a courier.</summary>
    InFlight,

    /// <summary>Being settled: a report or a state is written.</summary>
    Settling,
}

/// <summary>
/// One message × one site (or, before its first attempt is due, a message with no site yet) with its recipients. Reused by its shard; a job
/// that is not in flight and not being settled is in the shard's due heap, so that expiry holds in every state. An open recipient belongs to
/// exactly one job.
/// </summary>
internal sealed class DeliveryJob : Timed
{
    internal QueuedMessage Message = null!;

    /// <summary>The site of the last routing; null before it.</summary>
    internal SiteQueue? Site;

    /// <summary>Links of the site's queue; <see cref="Next"/> also links the free list.</summary>
    internal DeliveryJob? Next;

    internal DeliveryJob? Previous;

    internal JobPlace Place;

    /// <summary>Attempts that ended in an exception: a poison message is set aside (see <see cref="DeliveryShard"/>).</summary>
    internal byte Throws;

    /// <summary>Times the job went back to the head of its queue because the site would take no further connection.</summary>
    internal byte Requeues;

    private int _single;
    private int[]? _many;

    /// <summary>The recipients' indexes in the envelope.</summary>
    internal ReadOnlySpan<int> Recipients => _many is null ? new ReadOnlySpan<int>(in _single) : _many;

    internal void Set(QueuedMessage message, int single, int[]? many)
    {
        Message = message;
        _single = single;
        _many = many;
    }

    internal void SetRecipients(ReadOnlySpan<int> recipients)
    {
        if (recipients.Length == 1)
        {
            _single = recipients[0];
            _many = null;
        }
        else
        {
            _many = recipients.ToArray();
        }
    }

    internal void Clear()
    {
        Message = null!;
        Site = null;
        Next = null;
        Previous = null;
        Place = JobPlace.None;
        Throws = 0;
        Requeues = 0;
        _many = null;
    }
}
