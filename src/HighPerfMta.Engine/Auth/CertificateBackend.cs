using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>EXTERNAL: the user that a verified client certificate names.</summary>
public sealed class CertificateBackend(X509NameType nameType) : ICredentialBackend
{
    public string Name => "certificate";

    public bool Knows(SaslMechanismKind mechanism) => mechanism == SaslMechanismKind.External;

    public ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(question);
        ArgumentNullException.ThrowIfNull(connection);
        string said = connection.VerifiedCertificate?.GetNameInfo(nameType, forIssuer: false) ?? "";
        bool isGood = question is ExternalQuestion && StoredCredentials.TryName(said, out string name)
            && (question.Name.Length == 0 || string.Equals(question.Name, name, StringComparison.OrdinalIgnoreCase));
        return ValueTask.FromResult(isGood && StoredCredentials.TryName(said, out string own) ? SaslAnswer.Good(own) : SaslAnswer.Bad);
    }

    public ValueTask DisposeAsync() => default;
}
