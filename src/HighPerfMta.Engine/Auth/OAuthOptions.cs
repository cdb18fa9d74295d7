namespace HighPerfMta.Engine.Auth;

/// <summary>What a token must say.</summary>
public sealed record TokenRules
{
    /// <summary>Empty: any (introspection only).</summary>
    public string Issuer { get; init; } = "";

    /// <summary>Empty: any.</summary>
    public string Audience { get; init; } = "";

    /// <summary>One word; empty: none is needed.</summary>
    public string Scope { get; init; } = "";

    /// <summary>The member that names the user.</summary>
    public string NameClaim { get; init; } = "email";

    /// <summary>By how much clocks may differ.</summary>
    public TimeSpan Leeway { get; init; } = TimeSpan.FromSeconds(60);
}

/// <summary>Token introspection (RFC 7662).</summary>
/// <param name="Endpoint">Where tokens are asked about.</param>
public sealed record IntrospectionOptions(Uri Endpoint)
{
    public TokenRules Rules { get; init; } = new() { NameClaim = "username" };

    /// <summary>This server's name there; empty: it does not say who it is.</summary>
    public string ClientId { get; init; } = "";

    public string ClientSecret { get; init; } = "";

    /// <summary>For which an answer is believed.</summary>
    public TimeSpan CacheTime { get; init; } = TimeSpan.FromMinutes(1);

    public int CacheSize { get; init; } = 10_000;

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Questions under way at once.</summary>
    public int Connections { get; init; } = 16;

    public override string ToString() => Endpoint.ToString();
}

/// <summary>Signed tokens (RFC 7519) and where the keys are (RFC 7517).</summary>
/// <param name="Keys">A file, or an http(s) URL.</param>
public sealed record JwtOptions(Uri Keys)
{
    public TokenRules Rules { get; init; } = new();

    /// <summary>Age at which keys are fetched again.</summary>
    public TimeSpan KeyTime { get; init; } = TimeSpan.FromHours(1);

    /// <summary>Keys of before serve for so long while new ones cannot be had.</summary>
    public TimeSpan StaleTime { get; init; } = TimeSpan.FromHours(24);

    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);
}
