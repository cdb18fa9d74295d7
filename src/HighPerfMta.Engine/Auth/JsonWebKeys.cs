using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text.Json;
using NSec.Cryptography;

namespace HighPerfMta.Engine.Auth;

/// <summary>A public key of a JWK set (RFC 7517), for the one algorithm that it is good for.</summary>
internal abstract class JsonWebKey(string id, string algorithm) : IDisposable
{
    public string Id { get; } = id;

    /// <summary>RS256, ES256 or EdDSA.</summary>
    public string Algorithm { get; } = algorithm;

    public abstract bool Verify(ReadOnlySpan<byte> signed, ReadOnlySpan<byte> signature);

    public abstract void Dispose();

    /// <summary>The keys of a set that can be used; others are passed over (RFC 7517 §5).</summary>
    public static IReadOnlyList<JsonWebKey> ReadSet(JsonElement set)
    {
        List<JsonWebKey> keys = [];
        if (set.ValueKind == JsonValueKind.Object && set.TryGetProperty("keys", out JsonElement list) && list.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement key in list.EnumerateArray().Take(MaxKeys))
            {
                if (key.ValueKind == JsonValueKind.Object && Text(key, "use") is "" or "sig" && Read(key) is { } usable)
                {
                    keys.Add(usable);
                }
            }
        }

        return keys;
    }

    private const int MaxKeys = 100, MinRsaBits = 2048, MaxRsaBits = 8192;

    private static JsonWebKey? Read(JsonElement key)
    {
        string id = Text(key, "kid"), algorithm = Text(key, "alg");
        try
        {
            return (Text(key, "kty"), Text(key, "crv")) switch
            {
                ("RSA", _) when algorithm is "" or "RS256" => RsaKey(id, key),
                ("EC", "P-256") when algorithm is "" or "ES256" => EcKey(id, key),
                ("OKP", "Ed25519") when algorithm is "" or "EdDSA" or "Ed25519" && PublicKey.TryImport(SignatureAlgorithm.Ed25519, Octets(key, "x"), KeyBlobFormat.RawPublicKey, out PublicKey? ed) => new EdDsa(id, ed!),
                _ => null,
            };
        }
        catch (Exception e) when (e is FormatException or CryptographicException)
        {
            return null;
        }
    }

    private static Rs256? RsaKey(string id, JsonElement key)
    {
        RSA rsa = RSA.Create(new RSAParameters { Modulus = Octets(key, "n"), Exponent = Octets(key, "e") });
        if (rsa.KeySize is >= MinRsaBits and <= MaxRsaBits)
        {
            return new Rs256(id, rsa);
        }

        rsa.Dispose();
        return null;
    }

    private static Es256 EcKey(string id, JsonElement key) =>
        new(id, ECDsa.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, Q = new ECPoint { X = Octets(key, "x"), Y = Octets(key, "y") } }));

    private static byte[] Octets(JsonElement key, string name) => Base64Url.DecodeFromChars(Text(key, name));

    private static string Text(JsonElement key, string name) =>
        key.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";

    private sealed class Rs256(string id, RSA rsa) : JsonWebKey(id, "RS256")
    {
        public override bool Verify(ReadOnlySpan<byte> signed, ReadOnlySpan<byte> signature) => rsa.VerifyData(signed, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);

        public override void Dispose() => rsa.Dispose();
    }

    private sealed class Es256(string id, ECDsa key) : JsonWebKey(id, "ES256")
    {
        public override bool Verify(ReadOnlySpan<byte> signed, ReadOnlySpan<byte> signature) => key.VerifyData(signed, signature, HashAlgorithmName.SHA256);

        public override void Dispose() => key.Dispose();
    }

    private sealed class EdDsa(string id, PublicKey key) : JsonWebKey(id, "EdDSA")
    {
        public override bool Verify(ReadOnlySpan<byte> signed, ReadOnlySpan<byte> signature) => SignatureAlgorithm.Ed25519.Verify(key, signed, signature);

        public override void Dispose()
        {
        }
    }
}
