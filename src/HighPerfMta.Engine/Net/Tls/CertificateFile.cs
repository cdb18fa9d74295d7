using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>A certificate that cannot be used; the message says which file, why, and what to do.</summary>
public sealed class CertificateException : Exception
{
    public CertificateException()
    {
    }

    public CertificateException(string message)
        : base(message)
    {
    }

    public CertificateException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>A certificate with its key and its chain, as it was read from its files.</summary>
public sealed class CertificateFile
{
    private const string AuthorityInformationAccess = "1.3.6.1.5.5.7.1.1";

    private CertificateFile(CertificateFiles files, string digest, X509Certificate2 certificate, SslStreamCertificateContext context)
    {
        Files = files;
        Digest = digest;
        Names = NamesOf(certificate);
        NotBefore = certificate.NotBefore.ToUniversalTime();
        NotAfter = certificate.NotAfter.ToUniversalTime();
        Context = context;
    }

    public CertificateFiles Files { get; }

    /// <summary>Of the octets of both files.</summary>
    public string Digest { get; }

    /// <summary>The DNS names of the certificate, lower case, perhaps with "*." in front; the common name when there are none (RFC 6125 §6.4.4).</summary>
    public IReadOnlyList<string> Names { get; }

    public DateTimeOffset NotBefore { get; }

    public DateTimeOffset NotAfter { get; }

    /// <summary>All handshakes with this certificate share it; it keeps the keys of session tickets.</summary>
    public SslStreamCertificateContext Context { get; }

    /// <summary>SHA-256 of what the two files hold now, whether or not it is of any use.</summary>
    /// <exception cref="CertificateException">A file cannot be read.</exception>
    public static string DigestOf(CertificateFiles files)
    {
        ArgumentNullException.ThrowIfNull(files);
        return DigestOf(Read(files.Certificate), Read(files.Key));
    }

    /// <param name="files">What to read.</param>
    /// <param name="staple">Answers of OCSP are wanted, if the certificate names a responder.</param>
    /// <exception cref="CertificateException">A file cannot be read, or holds something else.</exception>
    public static CertificateFile Load(CertificateFiles files, bool staple)
    {
        ArgumentNullException.ThrowIfNull(files);
        byte[] chainOctets = Read(files.Certificate);
        byte[] keyOctets = Read(files.Key);
        string chainText = Encoding.ASCII.GetString(chainOctets);
        X509Certificate2Collection chain = ReadChain(files, chainText);
        X509Certificate2 certificate = WithKey(files, chainText, Encoding.ASCII.GetString(keyOctets));
        chain[0].Dispose();
        chain.RemoveAt(0);
        try
        {
            // Without a responder there is nothing to fetch, and no certificate is ever looked for in the network.
            bool offline = !(staple && NamesResponder(certificate));
            SslStreamCertificateContext context = SslStreamCertificateContext.Create(certificate, chain, offline);
            return new CertificateFile(files, DigestOf(chainOctets, keyOctets), certificate, context);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException or InvalidOperationException or NotSupportedException)
        {
            throw new CertificateException($"{files.Certificate}: the chain cannot be used: {e.Message}; write the certificate first, then those that issued it", e);
        }
    }

    private static string DigestOf(byte[] chain, byte[] key) => Convert.ToHexStringLower(SHA256.HashData([.. SHA256.HashData(chain), .. SHA256.HashData(key)]));

    private static byte[] Read(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CertificateException($"{path} cannot be read: {e.Message.TrimEnd('.')}; check the path and the rights of the server's user", e);
        }
    }

    private static X509Certificate2Collection ReadChain(CertificateFiles files, string text)
    {
        X509Certificate2Collection chain = [];
        try
        {
            chain.ImportFromPem(text);
        }
        catch (CryptographicException e)
        {
            throw new CertificateException($"{files.Certificate} holds a certificate that cannot be read: {e.Message}; it must be in PEM", e);
        }

        return chain.Count > 0
            ? chain
            : throw new CertificateException($"{files.Certificate} holds no certificate; it must be in PEM, beginning with -----BEGIN CERTIFICATE-----");
    }

    private static X509Certificate2 WithKey(CertificateFiles files, string chain, string key)
    {
        if (key.Contains("ENCRYPTED", StringComparison.Ordinal))
        {
            throw new CertificateException($"{files.Key}: the key is encrypted, and nobody is there to give its passphrase; write it without one, mode 0600");
        }

        try
        {
            X509Certificate2 certificate = X509Certificate2.CreateFromPem(chain, key);
            using RSA? rsa = certificate.GetRSAPrivateKey();
            using ECDsa? ecdsa = certificate.GetECDsaPrivateKey();
            return rsa is not null || ecdsa is not null
                ? certificate
                : throw new CertificateException($"{files.Key}: the key is neither RSA nor ECDSA; others cannot be used");
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new CertificateException($"{files.Key} is not the key of the first certificate in {files.Certificate}: {e.Message}; it must be its key, RSA or ECDSA, in PEM", e);
        }
    }

    private static bool NamesResponder(X509Certificate2 certificate) => certificate.Extensions[AuthorityInformationAccess] is { } extension
        && new X509AuthorityInformationAccessExtension(extension.RawData, extension.Critical).EnumerateOcspUris().Any();

    private static List<string> NamesOf(X509Certificate2 certificate)
    {
        List<string> names =
        [
            .. certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().SelectMany(static e => e.EnumerateDnsNames()).Select(static n => n.ToLowerInvariant()).Distinct(),
        ];
        if (names.Count == 0 && certificate.GetNameInfo(X509NameType.SimpleName, forIssuer: false) is { Length: > 0 } common)
        {
            names.Add(common.ToLowerInvariant());
        }

        return names;
    }
}
