using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>Whether a listener offers AUTH, and what of it while TLS is off.</summary>
public enum AuthMode
{
    /// <summary>It does not.</summary>
    Off,

    /// <summary>Nothing before TLS.</summary>
    Tls,

    /// <summary>Before TLS those mechanisms that do not show the password to who reads along.</summary>
    Challenge,

    /// <summary>Everything, always.</summary>
    All,
}

/// <summary>The <c>[auth]</c> table.</summary>
public sealed record AuthOptions
{
    public IReadOnlyList<SaslMechanismKind> Mechanisms { get; init; } = [.. SaslMechanisms.All.Where(static m => m != SaslMechanismKind.CramMd5)];

    /// <summary>Wait for one backend's answer.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Scope that a refused token is told to need; empty: none.</summary>
    public string Scope { get; init; } = "";

    /// <summary>Where a refused client finds its token; empty: not told.</summary>
    public string OpenIdConfiguration { get; init; } = "";

    public FailureOptions Failures { get; init; } = new();

    public HashingOptions Hashing { get; init; } = new();
}

/// <summary>How failures are limited. Counts leak: one is forgotten every <see cref="Window"/> / limit.</summary>
public sealed record FailureOptions
{
    /// <summary>Time in which a full count is forgotten.</summary>
    public TimeSpan Window { get; init; } = TimeSpan.FromMinutes(15);

    /// <summary>Failures of an address (IPv4), or of a /64 (IPv6).</summary>
    public int PerAddress { get; init; } = 10;

    /// <summary>Failures of a /24 (IPv4).</summary>
    public int PerNetwork { get; init; } = 50;

    /// <summary>Failures for a name. Addresses from which it was right before are not held up by it.</summary>
    public int PerUser { get; init; } = 20;

    /// <summary>Delay of the reply to the first failure; it doubles with each further one.</summary>
    public TimeSpan Delay { get; init; } = TimeSpan.FromSeconds(1);

    public TimeSpan MaxDelay { get; init; } = TimeSpan.FromSeconds(16);

    /// <summary>Entries of each table; the one that failed least lately goes.</summary>
    public int TableSize { get; init; } = 100_000;
}

/// <summary>How passwords are hashed.</summary>
public sealed record HashingOptions
{
    /// <summary>Hashes under way at once, each a processor and, with Argon2id, its memory; 0: half the processors, at least one.</summary>
    public int Concurrency { get; init; }

    /// <summary>Sessions that wait for their turn; more are told to come back.</summary>
    public int Waiting { get; init; } = 64;

    /// <summary>Verified passwords that are remembered, as a keyed hash only.</summary>
    public int CacheSize { get; init; } = 10_000;

    public TimeSpan CacheTime { get; init; } = TimeSpan.FromMinutes(5);

    internal int EffectiveConcurrency => Concurrency > 0 ? Concurrency : Math.Max(1, Environment.ProcessorCount / 2);
}
