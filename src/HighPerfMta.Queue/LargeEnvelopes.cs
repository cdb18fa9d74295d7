using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Queue;

/// <summary>
/// Envelopes of many recipients that somebody works with, by the address of their record. A list of a hundred thousand recipients is a record of megabytes and a job for each site: without this
/// each job would read and parse all of it. Nothing is kept alive but where the octets are; an envelope goes when the last message with it does. Safe for concurrent use.
/// </summary>
internal sealed class LargeEnvelopes
{
    /// <summary>Envelopes at most; a further one displaces another.</summary>
    public const int Places = 64;

    /// <summary>Smaller envelopes are parsed in a moment.</summary>
    public const int LeastRecipients = 256;

    private readonly Entry?[] _entries = new Entry?[Places];

    private sealed record Entry(ulong Id, long Address, WeakReference<Envelope> Envelope, StoredBody Body);

    public void Keep(Envelope envelope, StoredBody body)
    {
        if (envelope.Recipients.Length >= LeastRecipients)
        {
            Volatile.Write(ref _entries[PlaceOf(body.Accepted.Address)], new Entry(envelope.Id.Value, body.Accepted.Address, new WeakReference<Envelope>(envelope), body));
        }
    }

    /// <summary>The envelope of the message whose record is at the address, and where its octets are; null when it is not known.</summary>
    public (Envelope Envelope, StoredBody Body)? Find(ulong id, long address) =>
        Volatile.Read(ref _entries[PlaceOf(address)]) is { } entry && entry.Id == id && entry.Address == address && entry.Envelope.TryGetTarget(out Envelope? envelope)
            ? (envelope, entry.Body)
            : null;

    // Records begin at multiples of 4 at least; those of large envelopes are far apart.
    private static int PlaceOf(long address) => (int)(((ulong)address * 0x9E3779B97F4A7C15) >> 58);
}
