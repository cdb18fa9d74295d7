using System.Text.Json;

namespace HighPerfMta.Engine.Auth;

/// <summary>Reads what a token says, whether it is signed or comes from its issuer.</summary>
internal static class TokenClaims
{
    /// <summary>The user, when everything is as the rules want it; null otherwise.</summary>
    /// <param name="claims">The members.</param>
    /// <param name="rules">What they must say.</param>
    /// <param name="now">The time.</param>
    /// <param name="needsExpiry">A token that never expires is refused.</param>
    public static string? Read(JsonElement claims, TokenRules rules, DateTimeOffset now, bool needsExpiry)
    {
        bool isTimely = ExpiryOf(claims) is { } expiry ? now < expiry + rules.Leeway : !needsExpiry && !claims.TryGetProperty("exp", out _);
        bool hasBegun = !claims.TryGetProperty("nbf", out _) || (TimeOf(claims, "nbf") is { } begin && now >= begin - rules.Leeway);
        bool isOurs = (rules.Issuer.Length == 0 || StringOf(claims, "iss") == rules.Issuer)
            && (rules.Audience.Length == 0 || Values(claims, "aud", splits: false).Contains(rules.Audience))
            && (rules.Scope.Length == 0 || Values(claims, "scope", splits: true).Concat(Values(claims, "scp", splits: true)).Contains(rules.Scope));

        // An address that nobody has verified is what its owner typed (OpenID Connect Core §5.1): it names nobody.
        bool isVerified = rules.NameClaim != "email" || !claims.TryGetProperty("email_verified", out JsonElement verified) || verified.ValueKind == JsonValueKind.True
            || (verified.ValueKind == JsonValueKind.String && verified.GetString() == "true");
        return isTimely && hasBegun && isOurs && isVerified && StoredCredentials.TryName(StringOf(claims, rules.NameClaim), out string name) ? name : null;
    }

    /// <summary>When the token ends; null: it does not say.</summary>
    public static DateTimeOffset? ExpiryOf(JsonElement claims) => TimeOf(claims, "exp");

    /// <summary>A NumericDate (RFC 7519 §2); null when it is not there or is none.</summary>
    private static DateTimeOffset? TimeOf(JsonElement claims, string name) =>
        claims.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double seconds) && seconds is > 0 and < 253_402_300_000
            ? DateTimeOffset.FromUnixTimeSeconds((long)seconds)
            : null;

    private static string StringOf(JsonElement claims, string name) =>
        claims.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";

    private static IEnumerable<string> Values(JsonElement claims, string name, bool splits)
    {
        if (!claims.TryGetProperty(name, out JsonElement value))
        {
            return [];
        }

        return value.ValueKind switch
        {
            JsonValueKind.String => splits ? value.GetString()!.Split(' ') : [value.GetString()!],
            JsonValueKind.Array => value.EnumerateArray().Where(static v => v.ValueKind == JsonValueKind.String).Select(static v => v.GetString()!),
            _ => [],
        };
    }
}
