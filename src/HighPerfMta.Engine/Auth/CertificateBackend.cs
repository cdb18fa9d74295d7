using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>EXTERNAL: the user that a client certificate names which was issued by one of our own authorities.</summary>
public sealed class CertificateBackend : ICredentialBackend
{
    /// <summary>Extended key usage of TLS clients (RFC 5280 §4.2.1.12).</summary>
    private static readonly Oid ClientAuthentication = new("1.3.6.1.5.5.7.3.2");

    /// <summary>commonName (RFC 5280, appendix A).</summary>
    private const string CommonName = "2.5.4.3";

    private readonly bool _byCommonName;
    private readonly X509Certificate2Collection _authorities;
    private readonly TimeProvider _time;

    /// <param name="byCommonName">The user's name is the subject's common name; otherwise its rfc822Name.</param>
    /// <param name="authorities">Roots, and intermediate authorities below them; owned. No other ones are trusted.</param>
    /// <param name="time">Says what has expired.</param>
    public CertificateBackend(bool byCommonName, X509Certificate2Collection authorities, TimeProvider time)
    {
        _byCommonName = byCommonName;
        _authorities = authorities;
        _time = time;
    }

    public string Name => "certificate";

    public bool Knows(SaslMechanismKind mechanism) => mechanism == SaslMechanismKind.External;

    /// <summary>The certificate is valid now, for clients, and leads to a root. Nothing is fetched: neither missing authorities nor lists of what was revoked.</summary>
    public bool Trusts(X509Certificate2 certificate)
    {
        using X509Chain chain = new();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(_authorities);
        chain.ChainPolicy.ExtraStore.AddRange(_authorities);
        chain.ChainPolicy.ApplicationPolicy.Add(ClientAuthentication);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.VerificationTime = _time.GetUtcNow().LocalDateTime;
        chain.ChainPolicy.VerificationTimeIgnored = false;
        bool isTrusted = chain.Build(certificate);
        foreach (X509ChainElement element in chain.ChainElements)
        {
            element.Certificate.Dispose();
        }

        return isTrusted;
    }

    public ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(question);
        ArgumentNullException.ThrowIfNull(connection);

        // Another backend may be the one that trusts it.
        bool counts = question is ExternalQuestion && connection.VerifiedCertificate is { } shown && Trusts(shown);
        return ValueTask.FromResult(
            counts && StoredCredentials.TryName(NameOf(connection.VerifiedCertificate!), out string name)
            && (question.Name.Length == 0 || string.Equals(question.Name, name, StringComparison.OrdinalIgnoreCase))
                ? SaslAnswer.Good(name)
                : SaslAnswer.Bad);
    }

    /// <summary>Empty when there is none, or more than one common name: the runtime would take something else then.</summary>
    private string NameOf(X509Certificate2 certificate)
    {
        if (!_byCommonName)
        {
            return certificate.GetNameInfo(X509NameType.EmailName, forIssuer: false);
        }

        string?[] names =
        [
            .. certificate.SubjectName.EnumerateRelativeDistinguishedNames()
                .Where(static n => !n.HasMultipleElements && n.GetSingleElementType().Value == CommonName).Select(static n => n.GetSingleElementValue()),
        ];
        return names.Length == 1 ? names[0] ?? "" : "";
    }

    public ValueTask DisposeAsync()
    {
        foreach (X509Certificate2 authority in _authorities)
        {
            authority.Dispose();
        }

        return default;
    }
}
