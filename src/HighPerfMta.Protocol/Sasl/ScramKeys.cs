using System.Security.Cryptography;
using System.Text;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>The hash of a SCRAM mechanism.</summary>
public enum ScramHash
{
    /// <summary>RFC 5802.</summary>
    Sha1,

    /// <summary>RFC 7677.</summary>
    Sha256,
}

/// <summary>The functions of RFC 5802 §2.2.</summary>
internal static class ScramFunctions
{
    public static HashAlgorithmName NameOf(ScramHash hash) => hash == ScramHash.Sha1 ? HashAlgorithmName.SHA1 : HashAlgorithmName.SHA256;

    public static int SizeOf(ScramHash hash) => hash == ScramHash.Sha1 ? SHA1.HashSizeInBytes : SHA256.HashSizeInBytes;

#pragma warning disable CA5350 // SCRAM-SHA-1 stands on HMAC, which the collisions of SHA-1 do not reach.
    public static byte[] Hmac(ScramHash hash, ReadOnlySpan<byte> key, ReadOnlySpan<byte> text) =>
        hash == ScramHash.Sha1 ? HMACSHA1.HashData(key, text) : HMACSHA256.HashData(key, text);

    public static byte[] Hash(ScramHash hash, ReadOnlySpan<byte> text) => hash == ScramHash.Sha1 ? SHA1.HashData(text) : SHA256.HashData(text);
#pragma warning restore CA5350
}

/// <summary>What a server keeps of a password for SCRAM (RFC 5802 §3). Whoever has it can find out by guessing, but not log in.</summary>
public sealed class ScramKeys
{
    /// <summary>Fewer are refused (RFC 7677 §4, RFC 5802 §5.1).</summary>
    public const int MinIterations = 4096;

    /// <summary>Of new keys.</summary>
    public const int UsualIterations = 10_000;

    /// <summary>More would let one login keep a client busy for long.</summary>
    public const int MaxIterations = 10_000_000;

    public const int SaltSize = 16;

    /// <param name="hash">The mechanism's hash.</param>
    /// <param name="salt">Of the user alone.</param>
    /// <param name="iterations">Of PBKDF2.</param>
    /// <param name="storedKey">H(ClientKey).</param>
    /// <param name="serverKey">Signs the server's end of the exchange.</param>
    public ScramKeys(ScramHash hash, byte[] salt, int iterations, byte[] storedKey, byte[] serverKey)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(iterations, MinIterations);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(iterations, MaxIterations);
        ArgumentNullException.ThrowIfNull(storedKey);
        ArgumentNullException.ThrowIfNull(serverKey);
        ArgumentOutOfRangeException.ThrowIfNotEqual(storedKey.Length, ScramFunctions.SizeOf(hash));
        ArgumentOutOfRangeException.ThrowIfNotEqual(serverKey.Length, ScramFunctions.SizeOf(hash));
        (Hash, Salt, Iterations, StoredKey, ServerKey) = (hash, salt, iterations, storedKey, serverKey);
    }

    public ScramHash Hash { get; }

    public byte[] Salt { get; }

    public int Iterations { get; }

    public byte[] StoredKey { get; }

    public byte[] ServerKey { get; }

    /// <summary>The keys of a password.</summary>
    /// <param name="hash">The mechanism's hash.</param>
    /// <param name="password">Prepared (RFC 4013), UTF-8.</param>
    /// <param name="salt">New, random.</param>
    /// <param name="iterations">Of PBKDF2.</param>
    public static ScramKeys Derive(ScramHash hash, ReadOnlySpan<byte> password, byte[] salt, int iterations)
    {
        byte[] salted = Rfc2898DeriveBytes.Pbkdf2(password, salt, iterations, ScramFunctions.NameOf(hash), ScramFunctions.SizeOf(hash));
        byte[] client = ScramFunctions.Hmac(hash, salted, "Client Key"u8);
        ScramKeys keys = new(hash, salt, iterations, ScramFunctions.Hash(hash, client), ScramFunctions.Hmac(hash, salted, "Server Key"u8));
        CryptographicOperations.ZeroMemory(salted);
        CryptographicOperations.ZeroMemory(client);
        return keys;
    }

    public override string ToString() => $"SCRAM {Hash}, {Iterations} iterations";
}

/// <summary>
/// Keys of users that do not exist: always the same for a name, as those of one who does are, so that asking twice tells nothing; nobody knows their password.
/// </summary>
public sealed class ScramDecoy
{
    private readonly byte[] _secret;

    /// <param name="secret">Of the process, random.</param>
    public ScramDecoy(byte[] secret) => _secret = secret;

    /// <summary>One with a secret of its own.</summary>
    public static ScramDecoy Create() => new(RandomNumberGenerator.GetBytes(32));

    /// <summary>Iterations that are shown: those that the users have, or the absent would stand out.</summary>
    public int Iterations { get; set; } = ScramKeys.UsualIterations;

    /// <param name="name">Prepared.</param>
    /// <param name="hash">The mechanism's hash.</param>
    public ScramKeys For(string name, ScramHash hash)
    {
        byte[] octets = Encoding.UTF8.GetBytes(name.ToLowerInvariant());
        byte[] salt = Part("salt", hash, octets)[..ScramKeys.SaltSize];
        int size = ScramFunctions.SizeOf(hash);
        return new ScramKeys(hash, salt, Iterations, Part("stored", hash, octets)[..size], Part("server", hash, octets)[..size]);
    }

    public override string ToString() => "…";

    private byte[] Part(string what, ScramHash hash, byte[] name) =>
        HMACSHA256.HashData(_secret, (byte[])[.. Encoding.ASCII.GetBytes($"{what} {hash} "), .. name]);
}
