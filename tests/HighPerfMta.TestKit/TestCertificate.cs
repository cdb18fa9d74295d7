using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Engine.Net.Tls;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.TestKit;

/// <summary>An authority of the test's own: certificates are made when they are needed, and are in files of its folder only as long as it lives.</summary>
public sealed class TestAuthority : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly DateTimeOffset _now = TimeProvider.System.GetUtcNow();
    private readonly string _folder = Directory.CreateTempSubdirectory("hpmta-tls-").FullName;
    private int _serial;

    public TestAuthority()
    {
        CertificateRequest request = new("CN=Test authority", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, hasPathLengthConstraint: false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, critical: true));
        Root = request.CreateSelfSigned(_now.AddDays(-2), _now.AddDays(3650));
        RootFile = Path.Combine(_folder, "root.pem");
        File.WriteAllText(RootFile, Root.ExportCertificatePem());
    }

    public X509Certificate2 Root { get; }

    /// <summary>The root, in PEM.</summary>
    public string RootFile { get; }

    /// <summary>A certificate for names of DNS and addresses, the first one its common name, and its key.</summary>
    /// <param name="names">At least one.</param>
    /// <param name="rsa">RSA with 2048 bits; otherwise ECDSA with P-256.</param>
    /// <param name="validDays">From now on; may be negative.</param>
    /// <param name="ocsp">A responder that the certificate names.</param>
    public X509Certificate2 Issue(string[] names, bool rsa = false, double validDays = 90, Uri? ocsp = null)
    {
        ArgumentNullException.ThrowIfNull(names);
        using RSA rsaKey = RSA.Create(2048);
        using ECDsa ecdsaKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = rsa
            ? new CertificateRequest($"CN={names[0]}", rsaKey, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest($"CN={names[0]}", ecdsaKey, HashAlgorithmName.SHA256);
        SubjectAlternativeNameBuilder alternatives = new();
        foreach (string name in names)
        {
            if (IPAddress.TryParse(name, out IPAddress? address))
            {
                alternatives.AddIpAddress(address);
            }
            else
            {
                alternatives.AddDnsName(name);
            }
        }

        request.CertificateExtensions.Add(alternatives.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: false, hasPathLengthConstraint: false, 0, critical: true));
        if (ocsp is not null)
        {
            request.CertificateExtensions.Add(new X509AuthorityInformationAccessExtension([ocsp.ToString()], caIssuersUris: null));
        }

        byte[] serial = BitConverter.GetBytes(Interlocked.Increment(ref _serial));
        using X509Certificate2 bare = request.Create(
            Root.SubjectName, X509SignatureGenerator.CreateForECDsa(_key), _now.AddDays(Math.Min(-1, validDays - 1)), _now.AddDays(validDays), serial);
        return rsa ? bare.CopyWithPrivateKey(rsaKey) : bare.CopyWithPrivateKey(ecdsaKey);
    }

    /// <summary>What a responder of OpenSSL needs: a file with its list of the certificates, and the authority's certificate with its key.</summary>
    public (string Index, string Signer) WriteResponder(params X509Certificate2[] certificates)
    {
        string index = Path.Combine(_folder, "index.txt");
        string signer = Path.Combine(_folder, "signer.pem");
        File.WriteAllLines(index, certificates.Select(static c => string.Create(
            System.Globalization.CultureInfo.InvariantCulture, $"V\t{c.NotAfter.ToUniversalTime():yyMMddHHmmss}Z\t\t{c.SerialNumber}\tunknown\t/{c.Subject}")));
        File.WriteAllText(signer, Root.ExportCertificatePem() + "\n" + _key.ExportPkcs8PrivateKeyPem() + "\n");
        return (index, signer);
    }

    /// <summary>Writes a certificate with its chain and its key, perhaps in place of others; each file appears whole.</summary>
    public CertificateFiles Write(X509Certificate2 certificate, string name = "mx")
    {
        ArgumentNullException.ThrowIfNull(certificate);
        CertificateFiles files = new(Path.Combine(_folder, name + ".pem"), Path.Combine(_folder, name + ".key"));
        Replace(files.Key, KeyPem(certificate));
        Replace(files.Certificate, certificate.ExportCertificatePem() + "\n" + Root.ExportCertificatePem() + "\n");
        return files;
    }

    public static void Replace(string path, string text)
    {
        File.WriteAllText(path + ".new", text);
        File.Move(path + ".new", path, overwrite: true);
    }

    public static string KeyPem(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        using RSA? rsa = certificate.GetRSAPrivateKey();
        using ECDsa? ecdsa = certificate.GetECDsaPrivateKey();
        return rsa?.ExportPkcs8PrivateKeyPem() ?? ecdsa!.ExportPkcs8PrivateKeyPem();
    }

    /// <summary>A client's end of a session: trusts this authority, or everybody without a name.</summary>
    /// <param name="stream">Where the server is.</param>
    /// <param name="name">The name that is asked for and has to be in the certificate; null: any certificate is taken.</param>
    /// <param name="protocols">What the client speaks.</param>
    /// <param name="certificate">What the client shows.</param>
    public async Task<SslStream> ConnectAsync(
        Stream stream, string? name = null, SslProtocols protocols = SslProtocols.Tls12 | SslProtocols.Tls13, X509Certificate2? certificate = null)
    {
        X509ChainPolicy policy = new() { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.Add(Root);
        SslStream session = new(stream);
        using CancellationTokenSource limit = new(Limit);
        await session.AuthenticateAsClientAsync(
            new SslClientAuthenticationOptions
            {
                TargetHost = name ?? "",
                EnabledSslProtocols = protocols,
                CertificateChainPolicy = policy,
                ClientCertificates = certificate is null ? null : [certificate],
#pragma warning disable CA5359 // A test that gives no name does not look at the certificate.
                RemoteCertificateValidationCallback = name is null ? static (_, _, _, _) => true : null,
#pragma warning restore CA5359
            },
            limit.Token);
        return session;
    }

    public void Dispose()
    {
        Root.Dispose();
        _key.Dispose();
        Directory.Delete(_folder, recursive: true);
    }
}

/// <summary>The server's side of TLS for tests: an authority, a certificate, for mx.test.example if nothing else is said, and the acceptor.</summary>
public sealed class TestTls : IDisposable
{
    public TestTls(TlsOptions? options = null, ILogger? logger = null, TimeProvider? time = null, string name = ReceptionHost.Hostname, double validDays = 90)
    {
        using X509Certificate2 certificate = Authority.Issue([name], validDays: validDays);
        options ??= new TlsOptions();
        options = options with { Certificates = [Authority.Write(certificate), .. options.Certificates] };
        Store = new CertificateStore(options, time ?? TimeProvider.System, logger ?? NullLogger.Instance);
        Acceptor = new TlsAcceptor(options, Store, logger ?? NullLogger.Instance);
    }

    public TestAuthority Authority { get; } = new();

    public CertificateStore Store { get; }

    public TlsAcceptor Acceptor { get; }

    public void Dispose()
    {
        Acceptor.Dispose();
        Store.Dispose();
        Authority.Dispose();
    }
}
