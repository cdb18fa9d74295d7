using System.Buffers.Text;
using System.Text;
using System.Text.Json;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>
/// Bearer tokens that carry their proof (RFC 7519, RFC 8725): signed with RS256, ES256 or EdDSA by a key of the configured set. The key says which algorithm it is
/// for, never the token; there is no <c>none</c>, no symmetric key, and no key from a token's header.
/// </summary>
public sealed class JwtBackend : ICredentialBackend
{
    /// <summary>Keys are not fetched more often than this because of a token whose key is not among them.</summary>
    private static readonly TimeSpan FetchInterval = TimeSpan.FromMinutes(1);

    private const int MaxToken = 8192;

    private readonly JwtOptions _options;
    private readonly TimeProvider _time;
    private readonly BoundedHttp _http;
    private readonly SemaphoreSlim _fetching = new(1);
    private volatile KeySet? _keys;
    private long? _tried;

    public JwtBackend(JwtOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _time = time;
        _http = new BoundedHttp(options.Timeout, connections: 1);
    }

    public string Name => "jwt";

    public bool Knows(SaslMechanismKind mechanism) => mechanism is SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2;

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        if (question is not TokenQuestion { Token.Length: <= MaxToken } asked || !Token.TryRead(asked.Token, out Token token))
        {
            return SaslAnswer.Bad;
        }

        KeySet keys = await KeysAsync(known => IsFresh(known) && known.Keys.Any(token.Names), cancellation);
        bool isSigned = keys.Keys.Any(k => token.Names(k) && k.Verify(token.Signed, token.Signature));
        return isSigned && token.Read(_options.Rules, _time.GetUtcNow()) is { } name ? SaslAnswer.Good(name) : SaslAnswer.Bad;
    }

    public ValueTask DisposeAsync()
    {
        _http.Dispose();
        _fetching.Dispose();
        return default;
    }

    private bool IsFresh(KeySet known) => _time.GetElapsedTime(known.At) < _options.KeyTime;

    /// <summary>The keys; fetched when those at hand are not enough, but not too often.</summary>
    private async ValueTask<KeySet> KeysAsync(Func<KeySet, bool> isEnough, CancellationToken cancellation)
    {
        if (_keys is { } known && isEnough(known))
        {
            return known;
        }

        await _fetching.WaitAsync(cancellation);
        try
        {
            if (_keys is { } fetched && (isEnough(fetched) || (_tried is { } at && _time.GetElapsedTime(at) < FetchInterval && _time.GetElapsedTime(fetched.At) < _options.StaleTime)))
            {
                return fetched;
            }

            _tried = _time.GetTimestamp();
            _keys = new KeySet(await FetchAsync(cancellation), _time.GetTimestamp());
            return _keys;
        }
        catch (BackendUnavailableException) when (_keys is { } old && _time.GetElapsedTime(old.At) < _options.StaleTime)
        {
            return old;
        }
        finally
        {
            _fetching.Release();
        }
    }

    private async Task<IReadOnlyList<JsonWebKey>> FetchAsync(CancellationToken cancellation)
    {
        using JsonDocument document = _options.Keys.IsFile ? await ReadFileAsync(cancellation) : await GetAsync(cancellation);
        IReadOnlyList<JsonWebKey> keys = JsonWebKey.ReadSet(document.RootElement);
        return keys.Count > 0 ? keys : throw new BackendUnavailableException($"{_options.Keys} has no key for RS256, ES256 or EdDSA");
    }

    private async Task<JsonDocument> GetAsync(CancellationToken cancellation)
    {
        using HttpRequestMessage request = new(HttpMethod.Get, _options.Keys);
        return await _http.GetJsonAsync(request, cancellation);
    }

    private async Task<JsonDocument> ReadFileAsync(CancellationToken cancellation)
    {
        try
        {
            return JsonDocument.Parse(await File.ReadAllBytesAsync(_options.Keys.LocalPath, cancellation));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new BackendUnavailableException($"{_options.Keys.LocalPath}: {e.Message}", e);
        }
    }

    // Keys of before are left to the collector: a token may just be verified with one.
    private sealed record KeySet(IReadOnlyList<JsonWebKey> Keys, long At);

    /// <summary>A token in its compact form (RFC 7515 §7.1), not yet believed.</summary>
    private readonly struct Token
    {
        private readonly string _algorithm;
        private readonly string? _keyId;
        private readonly byte[] _payload;

        private Token(string algorithm, string? keyId, byte[] payload, byte[] signed, byte[] signature) =>
            (_algorithm, _keyId, _payload, Signed, Signature) = (algorithm, keyId, payload, signed, signature);

        public byte[] Signed { get; }

        public byte[] Signature { get; }

        public static bool TryRead(string text, out Token token)
        {
            token = default;
            string[] parts = text.Split('.');
            if (parts.Length != 3)
            {
                return false;
            }

            try
            {
                using JsonDocument header = JsonDocument.Parse(Base64Url.DecodeFromChars(parts[0]));

                // crit names what has to be understood (RFC 7515 §4.1.11), and nothing of it is.
                if (header.RootElement.ValueKind != JsonValueKind.Object || header.RootElement.TryGetProperty("crit", out _)
                    || !header.RootElement.TryGetProperty("alg", out JsonElement algorithm) || algorithm.ValueKind != JsonValueKind.String)
                {
                    return false;
                }

                string? keyId = header.RootElement.TryGetProperty("kid", out JsonElement kid) && kid.ValueKind == JsonValueKind.String ? kid.GetString() : null;
                byte[] signed = Encoding.ASCII.GetBytes(text[..text.LastIndexOf('.')]);
                token = new Token(algorithm.GetString()!, keyId, Base64Url.DecodeFromChars(parts[1]), signed, Base64Url.DecodeFromChars(parts[2]));
                return true;
            }
            catch (Exception e) when (e is FormatException or JsonException)
            {
                return false;
            }
        }

        /// <summary>The key may have signed this.</summary>
        public bool Names(JsonWebKey key) => (key.Algorithm == _algorithm || (key.Algorithm == "EdDSA" && _algorithm == "Ed25519")) && (_keyId is null || key.Id.Length == 0 || key.Id == _keyId);

        public string? Read(TokenRules rules, DateTimeOffset now)
        {
            try
            {
                using JsonDocument claims = JsonDocument.Parse(_payload);
                return claims.RootElement.ValueKind == JsonValueKind.Object ? TokenClaims.Read(claims.RootElement, rules, now, needsExpiry: true) : null;
            }
            catch (JsonException)
            {
                return null;
            }
        }
    }
}
