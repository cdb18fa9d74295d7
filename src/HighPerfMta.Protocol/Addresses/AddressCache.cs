using System.Text;

namespace HighPerfMta.Protocol.Addresses;

/// <summary>
/// Addresses and domains met lately, found by their octets: most mail comes from few senders and goes to few domains, and an address that was parsed once is parsed for ever.
/// One place for each hash, the newest takes it: bounded, without a lock, and nothing that a client sends makes a search longer. Only ASCII texts in their one form are found.
/// </summary>
internal static class AddressCache
{
    /// <summary>Places for addresses, and as many for domains.</summary>
    public const int Places = 1024;

    private static readonly EmailAddress?[] Addresses = new EmailAddress?[Places];
    private static readonly string?[] Domains = new string?[Places];

    /// <summary>The address whose text these octets are; null when it is not known.</summary>
    public static EmailAddress? FindAddress(ReadOnlySpan<byte> text) =>
        Volatile.Read(ref Addresses[PlaceOf(text)]) is { } known && Ascii.Equals(text, known.ToString()) ? known : null;

    public static void Add(ReadOnlySpan<byte> text, EmailAddress address) => Volatile.Write(ref Addresses[PlaceOf(text)], address);

    /// <summary>The domain whose one form these octets are; null when it is not known.</summary>
    public static string? FindDomain(ReadOnlySpan<byte> text) => Volatile.Read(ref Domains[PlaceOf(text)]) is { } known && Ascii.Equals(text, known) ? known : null;

    public static void Add(ReadOnlySpan<byte> text, string domain) => Volatile.Write(ref Domains[PlaceOf(text)], domain);

    // Seeded anew in each process.
    private static int PlaceOf(ReadOnlySpan<byte> text)
    {
        HashCode hash = default;
        hash.AddBytes(text);
        return (int)((uint)hash.ToHashCode() % Places);
    }
}
