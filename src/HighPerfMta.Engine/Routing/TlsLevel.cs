using System.Diagnostics.CodeAnalysis;

namespace HighPerfMta.Engine.Routing;

/// <summary>How connections to a next hop are secured; each level asks for more than the one before.</summary>
public enum TlsLevel
{
    /// <summary>In plain text, whatever the peer offers.</summary>
    Off,

    /// <summary>TLS where the peer offers it, with any certificate; plain text where it does not, or where the handshake fails (RFC 7435).</summary>
    Opportunistic,

    /// <summary>TLS with any certificate, or no delivery.</summary>
    Required,

    /// <summary>TLS with a certificate of the host's name that a trusted authority has issued, or no delivery.</summary>
    Verified,
}

/// <summary>The words for levels in configuration, commands and names of sites.</summary>
public static class TlsLevels
{
    public const string Allowed = "off, opportunistic, required or verified";

    public static string ToWord(TlsLevel level) => level switch
    {
        TlsLevel.Off => "off",
        TlsLevel.Opportunistic => "opportunistic",
        TlsLevel.Required => "required",
        _ => "verified",
    };

    /// <summary>Reads what stands behind the "?" of a next hop: <c>tls=LEVEL</c>, in either case.</summary>
    internal static bool TryParseOption(ReadOnlySpan<char> text, [NotNullWhen(true)] out TlsLevel? level)
    {
        level = null;
        foreach (TlsLevel known in Enum.GetValues<TlsLevel>())
        {
            if (text.StartsWith("tls=", StringComparison.OrdinalIgnoreCase) && text["tls=".Length..].Equals(ToWord(known), StringComparison.OrdinalIgnoreCase))
            {
                level = known;
            }
        }

        return level is not null;
    }
}
