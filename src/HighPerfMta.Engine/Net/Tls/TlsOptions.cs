using System.Security.Authentication;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>One certificate: PEM files of its own.</summary>
/// <param name="Certificate">The certificate, then the intermediate ones up to the root, which may be left out.</param>
/// <param name="Key">Its key (RSA or ECDSA), not encrypted; may be the same file.</param>
public sealed record CertificateFiles(string Certificate, string Key);

/// <summary>The <c>[tls]</c> table.</summary>
public sealed record TlsOptions
{
    /// <summary>Chosen by the name that the client asks for (RFC 6066 §3); the first one serves every other client.</summary>
    public IReadOnlyList<CertificateFiles> Certificates { get; init; } = [];

    /// <summary>TLS 1.0 and 1.1 cannot be had (RFC 8996).</summary>
    public SslProtocols Protocols { get; init; } = SslProtocols.Tls12 | SslProtocols.Tls13;

    /// <summary>A handshake, from its beginning.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Handshakes that are computed at once; 0: as many as there are processors. What waits for its client does not count.</summary>
    public int Handshakes { get; init; }

    /// <summary>Handshakes that wait for that; more are given up.</summary>
    public int HandshakesWaiting { get; init; } = 1000;

    /// <summary>How often the files are looked at.</summary>
    public TimeSpan ReloadInterval { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>A certificate that ends within this time is warned of, once a day.</summary>
    public TimeSpan ExpiryWarning { get; init; } = TimeSpan.FromDays(14);

    /// <summary>Certificates that name an OCSP responder are sent with its answer (RFC 6066 §8), which is fetched and renewed in the background.</summary>
    public bool OcspStapling { get; init; } = true;
}

/// <summary>What a client's handshake established.</summary>
/// <param name="Protocol">"TLSv1.3".</param>
/// <param name="Cipher">The cipher suite's name of the IANA registry, such as "TLS_AES_256_GCM_SHA384".</param>
/// <param name="ClientCertificate">Of the certificate that the client showed, whose key it has; null: none. Nobody has verified by whom it was issued.</param>
public sealed record TlsSession(string Protocol, string Cipher, CertificateFingerprint? ClientCertificate)
{
    /// <summary>The certificate that the client showed, DER; null: none.</summary>
    public byte[]? CertificateData { get; init; }

    /// <summary>"TLSv1.3 TLS_AES_256_GCM_SHA384", as the event log has it.</summary>
    public string Description { get; } = $"{Protocol} {Cipher}";
}

/// <summary>SHA-256 of a certificate and of its public key (SubjectPublicKeyInfo), each as 64 lower-case hexadecimal digits.</summary>
public sealed record CertificateFingerprint(string Certificate, string PublicKey);
