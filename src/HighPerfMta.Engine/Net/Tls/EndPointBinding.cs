using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary><c>tls-server-end-point</c> (RFC 5929 §4.1): the server's certificate under the hash of its signature, MD5 and SHA-1 replaced by SHA-256.</summary>
internal static class EndPointBinding
{
    /// <summary>Null for a signature that has not exactly one hash: then nothing is defined.</summary>
    public static byte[]? Of(X509Certificate2 certificate) => certificate.SignatureAlgorithm.Value switch
    {
        "1.2.840.113549.1.1.4" or "1.2.840.113549.1.1.5" or "1.2.840.113549.1.1.11" or "1.2.840.10045.4.1" or "1.2.840.10045.4.3.2" => SHA256.HashData(certificate.RawDataMemory.Span),
        "1.2.840.113549.1.1.12" or "1.2.840.10045.4.3.3" => SHA384.HashData(certificate.RawDataMemory.Span),
        "1.2.840.113549.1.1.13" or "1.2.840.10045.4.3.4" => SHA512.HashData(certificate.RawDataMemory.Span),
        _ => null,
    };
}
