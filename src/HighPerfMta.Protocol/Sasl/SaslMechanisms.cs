namespace HighPerfMta.Protocol.Sasl;

/// <summary>The mechanisms there are.</summary>
public enum SaslMechanismKind
{
    ScramSha256Plus, ScramSha1Plus, ScramSha256, ScramSha1, OAuthBearer, XOAuth2, External, CramMd5, Plain, Login,
}

/// <summary>Names of mechanisms, what each needs, and one of each.</summary>
public static class SaslMechanisms
{
    private static readonly string[] NamesByKind =
        ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2", "EXTERNAL", "CRAM-MD5", "PLAIN", "LOGIN"];

    /// <summary>All, the strongest first: the order in which they are announced.</summary>
    public static IReadOnlyList<SaslMechanismKind> All { get; } = Enum.GetValues<SaslMechanismKind>();

    /// <summary>The registered name.</summary>
    public static string NameOf(SaslMechanismKind kind) => NamesByKind[(int)kind];

    /// <summary>Finds a mechanism by its name in any case (RFC 4954 §4: the argument of AUTH).</summary>
    public static bool TryFind(string name, out SaslMechanismKind kind)
    {
        int index = Array.FindIndex(NamesByKind, n => string.Equals(n, name, StringComparison.OrdinalIgnoreCase));
        kind = (SaslMechanismKind)Math.Max(index, 0);
        return index >= 0;
    }

    /// <summary>Who reads along has the password or the token.</summary>
    public static bool IsPlaintext(SaslMechanismKind kind) =>
        kind is SaslMechanismKind.Plain or SaslMechanismKind.Login or SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2;

    /// <summary>Binds to the TLS connection.</summary>
    public static bool BindsChannel(SaslMechanismKind kind) => kind is SaslMechanismKind.ScramSha256Plus or SaslMechanismKind.ScramSha1Plus;

    /// <summary>Begins an exchange.</summary>
    public static SaslMechanism Create(SaslMechanismKind kind, SaslContext context) => kind switch
    {
        SaslMechanismKind.ScramSha256Plus => new ScramMechanism(context, ScramHash.Sha256, binds: true),
        SaslMechanismKind.ScramSha1Plus => new ScramMechanism(context, ScramHash.Sha1, binds: true),
        SaslMechanismKind.ScramSha256 => new ScramMechanism(context, ScramHash.Sha256, binds: false),
        SaslMechanismKind.ScramSha1 => new ScramMechanism(context, ScramHash.Sha1, binds: false),
        SaslMechanismKind.OAuthBearer => new OAuthMechanism(context, isXOAuth2: false),
        SaslMechanismKind.XOAuth2 => new OAuthMechanism(context, isXOAuth2: true),
        SaslMechanismKind.External => new ExternalMechanism(),
        SaslMechanismKind.CramMd5 => new CramMd5Mechanism(context),
        SaslMechanismKind.Plain => new PlainMechanism(),
        SaslMechanismKind.Login => new LoginMechanism(),
        _ => throw new ArgumentOutOfRangeException(nameof(kind)),
    };
}
