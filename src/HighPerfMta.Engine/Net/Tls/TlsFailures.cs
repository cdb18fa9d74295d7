using System.Security.Authentication;
using System.Security.Cryptography;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>Why there is no TLS session.</summary>
public enum TlsFailure
{
    None,

    /// <summary>The peer sent something else than a handshake.</summary>
    Plaintext,

    /// <summary>The peer closed or reset the connection.</summary>
    Closed,

    /// <summary>It took too long.</summary>
    Timeout,

    /// <summary>The peer speaks no version that is allowed here.</summary>
    Version,

    /// <summary>There is no cipher suite that both have, or no certificate of a kind that the client takes.</summary>
    Cipher,

    /// <summary>The peer refused, for a certificate that it does not trust as a rule.</summary>
    Alert,

    /// <summary>What came makes no handshake.</summary>
    Protocol,

    /// <summary>Too many others wait for theirs.</summary>
    Busy,

    /// <summary>The peer's certificate is not trusted here.</summary>
    Untrusted,
}

/// <summary>Makes failures of the runtime's exceptions.</summary>
internal static class TlsFailures
{
    private static readonly string[] Causes = [.. Enum.GetNames<TlsFailure>().Select(static n => n.ToLowerInvariant())];

    /// <summary>The name of a failure, as it is counted.</summary>
    public static string CauseOf(TlsFailure failure) => Causes[(int)failure];

    /// <summary>What a handshake throws for a peer's sake.</summary>
    public static bool IsExpected(Exception e) =>
        e is AuthenticationException or CryptographicException or IOException or System.Net.Sockets.SocketException or InvalidOperationException or NotSupportedException;

    /// <summary>By the words of OpenSSL: the runtime has no codes for them.</summary>
    public static TlsFailure Classify(Exception e)
    {
        // The runtime asks for the certificate only where it finds a ClientHello, and does without one elsewhere; a peer's own certificate may be nonsense.
        if (e is NotSupportedException or CryptographicException)
        {
            return TlsFailure.Protocol;
        }

        if (e is not AuthenticationException)
        {
            return TlsFailure.Closed;
        }

        string words = Innermost(e);
        return words switch
        {
            _ when Has("unsupported protocol") || Has("version too low") || Has("wrong version number") || Has("no protocols available") || Has("alert protocol version") => TlsFailure.Version,
            _ when Has("no shared cipher") || Has("no suitable signature") || Has("no shared signature") || Has("no suitable key share") => TlsFailure.Cipher,
            _ when Has(" alert ") => TlsFailure.Alert,
            _ => TlsFailure.Protocol,
        };

        bool Has(string part) => words.Contains(part, StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>What else is known of a failure; may be empty.</summary>
    public static string DetailOf(Exception e) => e is AuthenticationException ? Innermost(e) : "";

    private static string Innermost(Exception e)
    {
        while (e.InnerException is { } inner)
        {
            e = inner;
        }

        return e.Message;
    }
}
