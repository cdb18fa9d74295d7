using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>Reads the certificates of authorities.</summary>
public static class AuthorityFile
{
    /// <summary>All certificates of a PEM file, at least one.</summary>
    /// <exception cref="CertificateException">There are none to be read.</exception>
    public static X509Certificate2Collection Load(string path)
    {
        X509Certificate2Collection authorities = [];
        try
        {
            authorities.ImportFromPemFile(path);
        }
        catch (Exception e) when (e is CryptographicException or UnauthorizedAccessException or IOException)
        {
            throw new CertificateException($"{path} cannot be read ({e.Message.TrimEnd('.')}); it must hold the certificates of authorities, in PEM", e);
        }

        return authorities.Count > 0 ? authorities : throw new CertificateException($"{path} holds no certificate; it must hold those of authorities, in PEM");
    }
}
