using System.Security.Cryptography;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>Octets that are of one TLS connection alone (RFC 5056), by the type that clients name; null: not to be had.</summary>
/// <param name="TlsServerEndPoint"><c>tls-server-end-point</c> (RFC 5929 §4): the hash of the server's certificate.</param>
/// <param name="TlsUnique"><c>tls-unique</c> (RFC 5929 §3): up to TLS 1.2, and only with the extended master secret.</param>
/// <param name="TlsExporter"><c>tls-exporter</c> (RFC 9266): 32 octets of keying material.</param>
public sealed record ChannelBindings(byte[]? TlsServerEndPoint, byte[]? TlsUnique = null, byte[]? TlsExporter = null)
{
    /// <summary>Outside TLS.</summary>
    public static ChannelBindings None { get; } = new((byte[]?)null);

    /// <summary>There is something to bind to, so that -PLUS can be offered.</summary>
    public bool Any => (TlsServerEndPoint ?? TlsUnique ?? TlsExporter) is not null;

    internal byte[]? Find(ReadOnlySpan<byte> type) =>
        type.SequenceEqual("tls-server-end-point"u8) ? TlsServerEndPoint
        : type.SequenceEqual("tls-unique"u8) ? TlsUnique
        : type.SequenceEqual("tls-exporter"u8) ? TlsExporter
        : null;
}

/// <summary>What a mechanism has to know of the server and the connection.</summary>
public sealed class SaslContext
{
    /// <summary>Octets of randomness in a nonce.</summary>
    private const int NonceSize = 18;

    /// <param name="hostname">The server's name.</param>
    /// <param name="decoy">Keys of those who do not exist.</param>
    public SaslContext(string hostname, ScramDecoy decoy)
    {
        Hostname = hostname;
        Decoy = decoy;
    }

    public string Hostname { get; }

    public ScramDecoy Decoy { get; }

    public ChannelBindings Bindings { get; init; } = ChannelBindings.None;

    /// <summary>A -PLUS mechanism was offered: a client that says it can bind but believes that the server cannot has been lied to.</summary>
    public bool OffersPlus { get; init; }

    /// <summary>The scope that the error of OAUTHBEARER and XOAUTH2 names; empty: none.</summary>
    public string Scope { get; init; } = "";

    /// <summary>Where a client of OAUTHBEARER finds its token; empty: not said.</summary>
    public string OpenIdConfiguration { get; init; } = "";

    /// <summary>Makes a nonce: printable ASCII without a comma.</summary>
    public Func<string> MakeNonce { get; init; } = static () => Convert.ToBase64String(RandomNumberGenerator.GetBytes(NonceSize));
}
