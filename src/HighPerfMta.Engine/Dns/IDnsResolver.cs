using System.Diagnostics.CodeAnalysis;
using System.Net;

namespace HighPerfMta.Engine.Dns;

public enum DnsStatus
{
    /// <summary>Records were found.</summary>
    Found,

    /// <summary>The name exists without records of the type (RFC 2308 NODATA).</summary>
    NoData,

    /// <summary>NXDOMAIN: permanent.</summary>
    NoSuchName,

    /// <summary>Time-out, SERVFAIL, REFUSED, malformed answer: temporary.</summary>
    TemporaryFailure,
}

/// <summary>An answer; <see cref="Explanation"/> says in words what failed.</summary>
public sealed record DnsAnswer<T>(DnsStatus Status, IReadOnlyList<T> Records, bool Secure = false, string Explanation = "");

public readonly record struct MxRecord(ushort Preference, string Exchange);

/// <summary>Lookups with a bounded cache. Names are lower-case A-labels without a trailing dot. Never throws for a DNS failure.</summary>
public interface IDnsResolver
{
    /// <summary>MX records, unsorted. A null MX (RFC 7505) is one record with exchange "".</summary>
    ValueTask<DnsAnswer<MxRecord>> LookupMxAsync(string domain, CancellationToken cancellation);

    /// <summary>A (<paramref name="ipv6"/> false) or AAAA records, CNAMEs followed.</summary>
    ValueTask<DnsAnswer<IPAddress>> LookupAddressesAsync(string host, bool ipv6, CancellationToken cancellation);

    /// <summary>The MX answer if it is known now; starts no lookup. The same instance as long as it is valid.</summary>
    bool TryGetMx(string domain, [NotNullWhen(true)] out DnsAnswer<MxRecord>? answer)
    {
        answer = null;
        return false;
    }
}

/// <summary>The <c>[dns]</c> table.</summary>
public sealed record DnsOptions
{
    /// <summary>Servers to ask; empty: the system's.</summary>
    public IReadOnlyList<IPEndPoint> Servers { get; init; } = [];

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>Entries of the cache.</summary>
    public int CacheSize { get; init; } = 100_000;

    /// <summary>Lookups under way at once; more wait.</summary>
    public int Concurrency { get; init; } = 512;

    /// <summary>Security bits are believed (trust-ad) or ignored (off).</summary>
    public bool TrustAuthenticData { get; init; } = true;
}
