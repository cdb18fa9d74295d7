using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace HighPerfMta.Microbench.Tls;

/// <summary>
/// A server with a certificate of its own making, in one context for all its connections as a server has it, and a client that verifies the certificate and knows it as a root. Nothing is
/// looked up on the disk or in the network.
/// </summary>
internal sealed class TlsParty : IDisposable
{
    /// <summary>The name of keys: ECDSA with P-256.</summary>
    public const string Ecdsa = "ecdsa-p256";

    /// <summary>The name of keys: RSA with 2048 bits.</summary>
    public const string Rsa = "rsa-2048";

    private const string Host = "mx.example.net";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    private readonly X509Certificate2 _certificate;
    private readonly SslServerAuthenticationOptions _server;
    private readonly SslClientAuthenticationOptions _client;
    private readonly byte[] _octet = new byte[1];

    /// <param name="key"><see cref="Ecdsa"/> or <see cref="Rsa"/>.</param>
    /// <param name="protocol">The version that both speak.</param>
    /// <param name="resume">The client keeps sessions and offers them; the server always would resume one.</param>
    public TlsParty(string key, SslProtocols protocol, bool resume)
    {
        _certificate = MakeCertificate(key);
        _server = new SslServerAuthenticationOptions
        {
            ServerCertificateContext = SslStreamCertificateContext.Create(_certificate, additionalCertificates: null, offline: true),
            EnabledSslProtocols = protocol,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        };
        X509ChainPolicy policy = new()
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };
        policy.CustomTrustStore.Add(_certificate);
        _client = new SslClientAuthenticationOptions
        {
            TargetHost = Host,
            EnabledSslProtocols = protocol,
            CertificateChainPolicy = policy,
            AllowTlsResume = resume,
        };
    }

    /// <summary>Octets of the certificate, which a full handshake sends and a resumed one does not.</summary>
    public int CertificateOctets => _certificate.RawData.Length;

    /// <summary>A handshake over a wire. The first octet from the server is a part of it: the client meets the tickets of TLS 1.3 (RFC 8446, 4.6.1) on the way to it.</summary>
    public async Task<(SslStream Client, SslStream Server)> ConnectAsync(MemoryWire wire)
    {
        SslStream client = new(wire.Client);
        SslStream server = new(wire.Server);
        Task serving = ServeAsync(server);
        await client.AuthenticateAsClientAsync(_client).WaitAsync(Limit);
        await client.ReadExactlyAsync(_octet).AsTask().WaitAsync(Limit);
        await serving.WaitAsync(Limit);
        return (client, server);
    }

    public void Dispose() => _certificate.Dispose();

    private async Task ServeAsync(SslStream server)
    {
        await server.AuthenticateAsServerAsync(_server);
        await server.WriteAsync("2"u8.ToArray());
    }

    private static X509Certificate2 MakeCertificate(string key)
    {
        using ECDsa ecdsa = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using RSA rsa = RSA.Create(2048);
        CertificateRequest request = key switch
        {
            Ecdsa => new CertificateRequest($"CN={Host}", ecdsa, HashAlgorithmName.SHA256),
            Rsa => new CertificateRequest($"CN={Host}", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1),
            _ => throw new ArgumentOutOfRangeException(nameof(key), key, "no such key"),
        };
        SubjectAlternativeNameBuilder names = new();
        names.AddDnsName(Host);
        request.CertificateExtensions.Add(names.Build());
        DateTimeOffset now = TimeProvider.System.GetUtcNow();
        return request.CreateSelfSigned(now.AddDays(-1), now.AddDays(30));
    }
}
