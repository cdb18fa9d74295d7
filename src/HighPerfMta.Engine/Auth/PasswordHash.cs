using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using HighPerfMta.Protocol.Sasl;
using NSec.Cryptography;

namespace HighPerfMta.Engine.Auth;

/// <summary>A stored password: Argon2id (RFC 9106, as a PHC string), bcrypt (<c>$2a$</c>, <c>$2b$</c>, <c>$2y$</c>), or the keys of SCRAM (RFC 5803).</summary>
public abstract class PasswordHash
{
    private protected PasswordHash(string text) => Text = text;

    /// <summary>The stored form.</summary>
    public string Text { get; }

    /// <summary>True for the password. Costs processor time and memory: only under the <see cref="HashingPool"/>.</summary>
    /// <param name="password">Prepared (RFC 4013), UTF-8.</param>
    internal abstract bool Verify(ReadOnlySpan<byte> password);

    /// <summary>The kind only.</summary>
    public override string ToString() => GetType().Name;

    /// <summary>Reads a stored password.</summary>
    /// <param name="text">The stored form; a prefix in braces such as <c>{BLF-CRYPT}</c>, as Dovecot writes it, is passed over.</param>
    /// <param name="hash">The hash; null when false.</param>
    /// <param name="error">What is wrong with it.</param>
    public static bool TryParse(string text, out PasswordHash? hash, out string error)
    {
        ArgumentNullException.ThrowIfNull(text);
        string bare = text is ['{', ..] && text.IndexOf('}', StringComparison.Ordinal) is > 0 and var end ? text[(end + 1)..] : text;
        hash = null;
        if (bare.StartsWith("$argon2id$", StringComparison.Ordinal))
        {
            hash = Argon2Hash.TryRead(bare, out error);
        }
        else if (bare.StartsWith("$2", StringComparison.Ordinal))
        {
            hash = BcryptHash.TryRead(bare, out error);
        }
        else if (bare.StartsWith("SCRAM-", StringComparison.Ordinal))
        {
            hash = ScramHashText.TryRead(bare, out error) is { } keys ? new ScramPasswordHash(bare, keys) : null;
        }
        else
        {
            error = "is none of $argon2id$…, $2b$… and SCRAM-SHA-256$…";
        }

        return hash is not null;
    }
}

/// <summary>Argon2id with one lane, which is what libsodium computes and writes.</summary>
public sealed class Argon2Hash : PasswordHash
{
    /// <summary>KiB; OWASP's first choice for servers, with two passes.</summary>
    public const int DefaultMemory = 19456;

    public const int DefaultPasses = 2;

    private const int MaxMemory = 256 * 1024, MaxPasses = 64, SaltSize = 16, Size = 32;

    private readonly Argon2id _algorithm;
    private readonly byte[] _salt;
    private readonly byte[] _hash;

    private Argon2Hash(string text, int memory, int passes, byte[] salt, byte[] hash)
        : base(text)
    {
        _algorithm = new Argon2id(new Argon2Parameters { DegreeOfParallelism = 1, MemorySize = memory, NumberOfPasses = passes });
        _salt = salt;
        _hash = hash;
    }

    /// <summary>Hashes a new password.</summary>
    /// <param name="password">Prepared (RFC 4013), UTF-8.</param>
    /// <param name="memory">KiB.</param>
    /// <param name="passes">Over that memory.</param>
    public static Argon2Hash Create(ReadOnlySpan<byte> password, int memory = DefaultMemory, int passes = DefaultPasses)
    {
        byte[] salt = RandomNumberGenerator.GetBytes(SaltSize);
        byte[] hash = new Argon2id(new Argon2Parameters { DegreeOfParallelism = 1, MemorySize = memory, NumberOfPasses = passes }).DeriveBytes(password, salt, Size);
        string text = string.Create(CultureInfo.InvariantCulture, $"$argon2id$v=19$m={memory},t={passes},p=1${Unpadded(salt)}${Unpadded(hash)}");
        return new Argon2Hash(text, memory, passes, salt, hash);
    }

    internal override bool Verify(ReadOnlySpan<byte> password) => CryptographicOperations.FixedTimeEquals(_algorithm.DeriveBytes(password, _salt, _hash.Length), _hash);

    internal static Argon2Hash? TryRead(string text, out string error)
    {
        error = "is no Argon2id hash; it has the form $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH with a salt of 16 octets";
        string[] parts = text.Split('$');
        if (parts.Length != 6 || parts[2] != "v=19" || !TryCosts(parts[3], out int memory, out int passes, out int lanes)
            || !TryUnpadded(parts[4], out byte[] salt) || !TryUnpadded(parts[5], out byte[] hash) || salt.Length != SaltSize || hash.Length is < 16 or > 64)
        {
            return null;
        }

        if (lanes != 1 || memory is < 8 or > MaxMemory || passes is < 1 or > MaxPasses)
        {
            error = string.Create(CultureInfo.InvariantCulture, $"has costs that are not taken: m from 8 to {MaxMemory}, t from 1 to {MaxPasses}, p=1; hash the password anew");
            return null;
        }

        error = "";
        return new Argon2Hash(text, memory, passes, salt, hash);
    }

    private static bool TryCosts(string text, out int memory, out int passes, out int lanes)
    {
        memory = passes = lanes = 0;
        string[] parts = text.Split(',');
        return parts.Length == 3 && TryCost(parts[0], "m=", out memory) && TryCost(parts[1], "t=", out passes) && TryCost(parts[2], "p=", out lanes);
    }

    private static bool TryCost(string text, string name, out int value)
    {
        value = 0;
        return text.StartsWith(name, StringComparison.Ordinal) && int.TryParse(text.AsSpan(name.Length), NumberStyles.None, CultureInfo.InvariantCulture, out value);
    }

    private static string Unpadded(byte[] octets) => Convert.ToBase64String(octets).TrimEnd('=');

    private static bool TryUnpadded(string text, out byte[] octets)
    {
        octets = new byte[text.Length];
        bool read = Convert.TryFromBase64String(text + new string('=', (4 - (text.Length % 4)) % 4), octets, out int length);
        octets = octets[..length];
        return read;
    }
}

/// <summary>bcrypt; it reads 72 octets of a password.</summary>
public sealed class BcryptHash : PasswordHash
{
    private const int Length = 60, MinCost = 4, MaxCost = 16;

    private BcryptHash(string text)
        : base(text)
    {
    }

    /// <summary>Hashes a new password.</summary>
    public static BcryptHash Create(ReadOnlySpan<byte> password, int cost) => new(BCrypt.Net.BCrypt.HashPassword(Encoding.UTF8.GetString(password), BCrypt.Net.BCrypt.GenerateSalt(cost, 'b')));

    internal override bool Verify(ReadOnlySpan<byte> password) => BCrypt.Net.BCrypt.Verify(Encoding.UTF8.GetString(password), Text);

    internal static BcryptHash? TryRead(string text, out string error)
    {
        bool isForm = text.Length == Length && text[2] is 'a' or 'b' or 'y' && text[3] == '$' && text[6] == '$' && text.AsSpan(7).IndexOfAnyExcept(Alphabet) < 0;
        error = "";
        if (isForm && int.TryParse(text.AsSpan(4, 2), NumberStyles.None, CultureInfo.InvariantCulture, out int cost) && cost is >= MinCost and <= MaxCost)
        {
            return new BcryptHash(text);
        }

        error = string.Create(CultureInfo.InvariantCulture, $"is no bcrypt hash that is taken; it begins with $2b$, has {Length} characters and a cost from {MinCost} to {MaxCost}");
        return null;
    }

    private static readonly System.Buffers.SearchValues<char> Alphabet =
        System.Buffers.SearchValues.Create("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
}

/// <summary>SCRAM keys, to verify a password that came in another way.</summary>
public sealed class ScramPasswordHash : PasswordHash
{
    internal ScramPasswordHash(string text, ScramKeys keys)
        : base(text) => Keys = keys;

    public ScramKeys Keys { get; }

    internal override bool Verify(ReadOnlySpan<byte> password) =>
        CryptographicOperations.FixedTimeEquals(ScramKeys.Derive(Keys.Hash, password, Keys.Salt, Keys.Iterations).StoredKey, Keys.StoredKey);
}

/// <summary>SCRAM keys as text (RFC 5803 §2): <c>SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey</c>, which is PostgreSQL's form too.</summary>
public static class ScramHashText
{
    public static string Write(ScramKeys keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        string salt = Convert.ToBase64String(keys.Salt), stored = Convert.ToBase64String(keys.StoredKey), server = Convert.ToBase64String(keys.ServerKey);
        return string.Create(CultureInfo.InvariantCulture, $"{(keys.Hash == ScramHash.Sha1 ? "SCRAM-SHA-1" : "SCRAM-SHA-256")}${keys.Iterations}:{salt}${stored}:{server}");
    }

    internal static ScramKeys? TryRead(string text, out string error)
    {
        error = $"are no SCRAM keys; they have the form SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, with {ScramKeys.MinIterations} to {ScramKeys.MaxIterations} iterations";
        string[] parts = text.Split('$');
        if (parts.Length != 3 || parts[0] is not ("SCRAM-SHA-1" or "SCRAM-SHA-256"))
        {
            return null;
        }

        ScramHash hash = parts[0] == "SCRAM-SHA-1" ? ScramHash.Sha1 : ScramHash.Sha256;
        string[] salt = parts[1].Split(':'), keys = parts[2].Split(':');
        int size = hash == ScramHash.Sha1 ? SHA1.HashSizeInBytes : SHA256.HashSizeInBytes;
        if (salt.Length != 2 || keys.Length != 2 || !int.TryParse(salt[0], NumberStyles.None, CultureInfo.InvariantCulture, out int iterations)
            || iterations is < ScramKeys.MinIterations or > ScramKeys.MaxIterations
            || !TryBase64(salt[1], out byte[] saltOctets) || !TryBase64(keys[0], out byte[] stored) || !TryBase64(keys[1], out byte[] server)
            || saltOctets.Length is < 8 or > 64 || stored.Length != size || server.Length != size)
        {
            return null;
        }

        error = "";
        return new ScramKeys(hash, saltOctets, iterations, stored, server);
    }

    private static bool TryBase64(string text, out byte[] octets)
    {
        octets = new byte[text.Length];
        bool read = Convert.TryFromBase64String(text, octets, out int length);
        octets = octets[..length];
        return read;
    }
}
