using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace HighPerfMta.LoadGen.Load;

/// <summary>What a sink shows in handshakes.</summary>
internal static class SinkCertificate
{
    private static readonly TimeSpan Validity = TimeSpan.FromDays(30);

    /// <param name="file">PEM of a certificate and its key; null: one of ECDSA with P-256, signed by itself.</param>
    /// <exception cref="CryptographicException">The file holds something else.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static SslStreamCertificateContext Load(string? file) =>
        SslStreamCertificateContext.Create(file is null ? Make() : X509Certificate2.CreateFromPemFile(file), additionalCertificates: null, offline: true);

    private static X509Certificate2 Make()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=sink.invalid", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("sink.invalid");
        request.CertificateExtensions.Add(names.Build());
        var now = DateTimeOffset.UtcNow;
        return request.CreateSelfSigned(now - TimeSpan.FromDays(1), now + Validity);
    }
}
