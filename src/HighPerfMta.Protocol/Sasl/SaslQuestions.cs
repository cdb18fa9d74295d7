using System.Security.Cryptography;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>What a mechanism has to know before it can go on. Nothing of it is ever shown but the name.</summary>
public abstract class SaslQuestion
{
    private protected SaslQuestion(string name) => Name = name;

    /// <summary>Who the client says it is, prepared (RFC 4013); empty when only the credential tells.</summary>
    public string Name { get; }

    public sealed override string ToString() => $"{GetType().Name} of {Name}";
}

/// <summary>Is this the user's password?</summary>
public sealed class PasswordQuestion : SaslQuestion
{
    public PasswordQuestion(string name, SaslPassword password)
        : base(name) => Password = password;

    public SaslPassword Password { get; }
}

/// <summary>What are the user's SCRAM keys?</summary>
public sealed class ScramQuestion : SaslQuestion
{
    public ScramQuestion(string name, ScramHash hash)
        : base(name) => Hash = hash;

    public ScramHash Hash { get; }
}

/// <summary>What is the secret that the user shares with the server (CRAM-MD5)?</summary>
public sealed class SecretQuestion : SaslQuestion
{
    public SecretQuestion(string name)
        : base(name)
    {
    }
}

/// <summary>Whose is this bearer token (RFC 6750), and is it good here?</summary>
public sealed class TokenQuestion : SaslQuestion
{
    public TokenQuestion(string name, string token)
        : base(name) => Token = token;

    /// <summary>The token: characters of RFC 6750 §2.1 only. A secret.</summary>
    public string Token { get; }
}

/// <summary>May the client whose certificate was verified be this user? An empty name: the certificate's own.</summary>
public sealed class ExternalQuestion : SaslQuestion
{
    public ExternalQuestion(string name)
        : base(name)
    {
    }
}

/// <summary>A password as it was sent. Its octets are wiped with the exchange.</summary>
public sealed class SaslPassword : IDisposable
{
    private readonly byte[] _sent;
    private readonly byte[]? _prepared;

    /// <param name="sent">The octets, taken over.</param>
    public SaslPassword(byte[] sent)
    {
        _sent = sent;
        _prepared = SaslPrep.TryPrepare(sent, out string prepared) ? System.Text.Encoding.UTF8.GetBytes(prepared) : null;
    }

    /// <summary>As it was sent: for those who compare by rules of their own.</summary>
    public ReadOnlySpan<byte> Sent => _sent;

    /// <summary>Prepared (RFC 4013), UTF-8; empty when the password cannot be prepared, and so is nobody's.</summary>
    public ReadOnlySpan<byte> Prepared => _prepared;

    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_sent);
        CryptographicOperations.ZeroMemory(_prepared);
    }

    public override string ToString() => "…";
}

/// <summary>What whoever knows the users says.</summary>
public enum SaslVerdict
{
    Bad, Good,

    /// <summary>Nobody can tell now; never a yes.</summary>
    Unavailable,
}

/// <summary>The answer to a <see cref="SaslQuestion"/>.</summary>
public sealed class SaslAnswer
{
    private SaslAnswer(SaslVerdict verdict, string identity = "", IReadOnlyList<string>? addresses = null, ScramKeys? keys = null, byte[]? secret = null)
    {
        Verdict = verdict;
        Identity = identity;
        Addresses = addresses ?? [];
        Keys = keys;
        Secret = secret;
    }

    /// <summary>Wrong, or no such user: the same to everyone.</summary>
    public static SaslAnswer Bad { get; } = new(SaslVerdict.Bad);

    public static SaslAnswer Unavailable { get; } = new(SaslVerdict.Unavailable);

    public SaslVerdict Verdict { get; }

    /// <summary>The user's name in its one form; empty unless good.</summary>
    public string Identity { get; }

    /// <summary>What the user may send as beside its own name; empty unless good.</summary>
    public IReadOnlyList<string> Addresses { get; }

    internal ScramKeys? Keys { get; }

    internal byte[]? Secret { get; }

    /// <summary>Yes; to a <see cref="PasswordQuestion"/>, <see cref="TokenQuestion"/> or <see cref="ExternalQuestion"/>.</summary>
    public static SaslAnswer Good(string identity, IReadOnlyList<string>? addresses = null) => new(SaslVerdict.Good, identity, addresses);

    /// <summary>The keys; to a <see cref="ScramQuestion"/>.</summary>
    public static SaslAnswer Of(string identity, ScramKeys keys, IReadOnlyList<string>? addresses = null) => new(SaslVerdict.Good, identity, addresses, keys);

    /// <summary>The shared secret; to a <see cref="SecretQuestion"/>.</summary>
    public static SaslAnswer Of(string identity, byte[] secret, IReadOnlyList<string>? addresses = null) => new(SaslVerdict.Good, identity, addresses, secret: secret);

    public override string ToString() => $"{Verdict} {Identity}";
}
