using System.Text;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>What is stored of one user: any of a hash, SCRAM keys and, for CRAM-MD5, the password itself.</summary>
public sealed class StoredCredentials
{
    /// <summary>Before the base64 of a password that CRAM-MD5 needs as it is.</summary>
    public const string SecretPrefix = "CRAM-MD5$";

    /// <summary>The word of a user that may not log in.</summary>
    public const string DisabledWord = "disabled";

    /// <summary>Before an address that the user may send as (<see cref="AddressPattern"/>).</summary>
    public const string AddressPrefix = "address=";

    /// <summary>Addresses of one user.</summary>
    private const int MaxAddresses = 1000;

    private readonly List<string> _addresses = [];

    private StoredCredentials(string name) => Name = name;

    /// <summary>In its one form.</summary>
    public string Name { get; }

    public bool IsDisabled { get; private set; }

    /// <summary>What the user may send as beside the name.</summary>
    public IReadOnlyList<string> Addresses => _addresses;

    /// <summary>Argon2id or bcrypt; null: none is stored.</summary>
    public PasswordHash? Hash { get; private set; }

    public ScramPasswordHash? Sha256 { get; private set; }

    public ScramPasswordHash? Sha1 { get; private set; }

    internal byte[]? Secret { get; private set; }

    /// <summary>What a password that came in the clear is verified with: the hash, which is the hardest to guess from, or the SCRAM keys.</summary>
    public PasswordHash? Verifier => Hash ?? Sha256 ?? Sha1;

    /// <summary>The keys for a hash; null: none are stored.</summary>
    public ScramKeys? KeysFor(ScramHash hash) => (hash == ScramHash.Sha256 ? Sha256 : Sha1)?.Keys;

    /// <summary>What is stored, for lists, such as "argon2id".</summary>
    public IEnumerable<string> Kinds => new[]
    {
        Hash is Argon2Hash ? "argon2id" : Hash is BcryptHash ? "bcrypt" : "",
        Sha256 is null ? "" : "scram-sha-256",
        Sha1 is null ? "" : "scram-sha-1",
        Secret is null ? "" : "cram-md5",
    }.Where(static k => k.Length > 0);

    /// <summary>True for the user's password. Costs what <see cref="Verifier"/> costs, here and now: for commands.</summary>
    /// <param name="password">Prepared (RFC 4013), UTF-8.</param>
    public bool Matches(ReadOnlySpan<byte> password) => Verifier is { } verifier
        ? verifier.Verify(password)
        : System.Security.Cryptography.CryptographicOperations.FixedTimeEquals(password, Secret);

    /// <summary>The one form of a name: prepared (RFC 4013), lower case; it has no white space and no control characters.</summary>
    public static bool TryName(string text, out string name)
    {
        name = "";
        if (!SaslPrep.TryPrepare(text, out string prepared) || prepared.Any(static c => char.IsWhiteSpace(c)) || prepared.StartsWith('#')
            || Encoding.UTF8.GetByteCount(prepared) > SaslMechanism.MaxName)
        {
            return false;
        }

        name = prepared.ToLowerInvariant();
        return true;
    }

    /// <summary>Reads the stored forms of one user.</summary>
    /// <param name="name">The user, in its one form.</param>
    /// <param name="words">Hashes, keys, addresses, and "disabled".</param>
    /// <param name="credentials">What they say; null when false.</param>
    /// <param name="error">What is wrong; holds nothing that is secret.</param>
    public static bool TryParse(string name, IEnumerable<string> words, out StoredCredentials? credentials, out string error)
    {
        ArgumentNullException.ThrowIfNull(words);
        StoredCredentials found = new(name);
        credentials = null;
        int position = 1;
        foreach (string word in words)
        {
            position++;
            if (!found.TryAdd(word, out error))
            {
                error = $"word {position} {error}";
                return false;
            }
        }

        error = found.Verifier is null && found.Secret is null ? "there is no password; give one with: hpmta user passwd" : "";
        credentials = error.Length == 0 ? found : null;
        return credentials is not null;
    }

    public override string ToString() => Name;

    private bool TryAdd(string word, out string error)
    {
        error = "is a second one of its kind";
        if (word == DisabledWord)
        {
            IsDisabled = true;
            return true;
        }

        if (word.StartsWith(AddressPrefix, StringComparison.Ordinal))
        {
            return TryAddress(word[AddressPrefix.Length..], out error);
        }

        if (word.StartsWith(SecretPrefix, StringComparison.Ordinal))
        {
            return Secret is null && TrySecret(word[SecretPrefix.Length..], out error);
        }

        if (!PasswordHash.TryParse(word, out PasswordHash? hash, out string wrong))
        {
            error = wrong;
            return false;
        }

        return hash switch
        {
            ScramPasswordHash { Keys.Hash: ScramHash.Sha256 } keys when Sha256 is null => (Sha256 = keys) is not null,
            ScramPasswordHash { Keys.Hash: ScramHash.Sha1 } keys when Sha1 is null => (Sha1 = keys) is not null,
            ScramPasswordHash => false,
            _ when Hash is null => (Hash = hash) is not null,
            _ => false,
        };
    }

    private bool TryAddress(string text, out string error)
    {
        error = _addresses.Count >= MaxAddresses
            ? $"is the address after {MaxAddresses}; use a pattern such as *@example.net"
            : "is no address to send as; it has a form such as address=alice@example.net, address=alice+*@example.net or address=*@example.net";
        bool isTaken = _addresses.Count < MaxAddresses && AddressPattern.TryParse(text, out _);
        if (isTaken)
        {
            _addresses.Add(text);
        }

        return isTaken;
    }

    private bool TrySecret(string base64, out string error)
    {
        byte[] octets = new byte[base64.Length];
        bool read = Convert.TryFromBase64String(base64, octets, out int length);
        Secret = read && length > 0 ? octets[..length] : null;
        error = Secret is null ? "is no base64" : "";
        return Secret is not null;
    }
}

/// <summary>Answers questions from what is stored of a user. An absent user takes as long as one who is there.</summary>
internal sealed class StoredAnswers(HashingPool pool, ScramDecoy decoy)
{
    // Nobody's password. Its costs are those of the last user who was verified: what the users of this server have.
    private PasswordHash _price = Argon2Hash.Create(System.Security.Cryptography.RandomNumberGenerator.GetBytes(32));

    /// <param name="question">The question.</param>
    /// <param name="user">What is stored; null: there is nobody of that name.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <exception cref="BackendUnavailableException">Too many passwords are being verified.</exception>
    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, StoredCredentials? user, CancellationToken cancellation)
    {
        StoredCredentials? usable = user is { IsDisabled: false } ? user : null;
        switch (question)
        {
            case PasswordQuestion asked:
                return await VerifyAsync(asked.Password.Prepared.ToArray(), usable, cancellation);
            case ScramQuestion asked when usable?.KeysFor(asked.Hash) is { } keys:
                decoy.Iterations = keys.Iterations;
                return SaslAnswer.Of(usable.Name, keys, usable.Addresses);
            case SecretQuestion when usable?.Secret is { } secret:
                return SaslAnswer.Of(usable.Name, secret, usable.Addresses);
            default:
                return SaslAnswer.Bad;
        }
    }

    private async ValueTask<SaslAnswer> VerifyAsync(byte[] password, StoredCredentials? user, CancellationToken cancellation)
    {
        if (password.Length == 0)
        {
            return SaslAnswer.Bad;
        }

        try
        {
            if (user?.Verifier is not { } verifier)
            {
                await pool.VerifyAsync(_price, password, remember: false, cancellation);
                return SaslAnswer.Bad;
            }

            _price = verifier;
            return await pool.VerifyAsync(verifier, password, remember: true, cancellation) ? SaslAnswer.Good(user.Name, user.Addresses) : SaslAnswer.Bad;
        }
        finally
        {
            System.Security.Cryptography.CryptographicOperations.ZeroMemory(password);
        }
    }
}
