using System.Security.Cryptography;
using System.Text;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.TestKit;

/// <summary>The client's side of SCRAM (RFC 5802), written from the RFC with strings and nothing of the server's.</summary>
public sealed class ScramClient(ScramHash hash, string user, string password, string nonce = "fyko+d2lbbFgONRv9qkxdawL")
{
    private string _bare = "";
    private byte[] _auth = [];
    private byte[] _salted = [];

    /// <summary>The gs2 header, commas included.</summary>
    public string Header { get; init; } = "n,,";

    /// <summary>What follows the header in <c>c=</c>.</summary>
    public byte[] Binding { get; init; } = [];

    public byte[] First()
    {
        _bare = $"n={user.Replace("=", "=3D", StringComparison.Ordinal).Replace(",", "=2C", StringComparison.Ordinal)},r={nonce}";
        return Encoding.UTF8.GetBytes(Header + _bare);
    }

    public byte[] Final(ReadOnlyMemory<byte> challenge)
    {
        string serverFirst = Encoding.UTF8.GetString(challenge.Span);
        string[] parts = serverFirst.Split(',');
        string salt = parts[1][2..];
        int iterations = int.Parse(parts[2][2..], System.Globalization.CultureInfo.InvariantCulture);
        _salted = Rfc2898DeriveBytes.Pbkdf2(password, Convert.FromBase64String(salt), iterations, hash == ScramHash.Sha1 ? HashAlgorithmName.SHA1 : HashAlgorithmName.SHA256, hash == ScramHash.Sha1 ? 20 : 32);
        string unproven = $"c={Convert.ToBase64String([.. Encoding.UTF8.GetBytes(Header), .. Binding])},{parts[0]}";
        _auth = Encoding.UTF8.GetBytes($"{_bare},{serverFirst},{unproven}");
        byte[] clientKey = Hmac(_salted, "Client Key"u8.ToArray());
        byte[] signature = Hmac(hash == ScramHash.Sha1 ? SHA1.HashData(clientKey) : SHA256.HashData(clientKey), _auth);
        return Encoding.UTF8.GetBytes($"{unproven},p={Convert.ToBase64String([.. clientKey.Zip(signature, static (a, b) => (byte)(a ^ b))])}");
    }

    /// <summary>The server knows the password too.</summary>
    public bool Accepts(ReadOnlyMemory<byte> serverFinal) =>
        Encoding.UTF8.GetString(serverFinal.Span) == "v=" + Convert.ToBase64String(Hmac(Hmac(_salted, "Server Key"u8.ToArray()), _auth));

    private byte[] Hmac(byte[] key, byte[] text) => hash == ScramHash.Sha1 ? HMACSHA1.HashData(key, text) : HMACSHA256.HashData(key, text);
}
