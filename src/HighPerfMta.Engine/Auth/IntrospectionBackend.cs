using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Auth;

/// <summary>Bearer tokens that their issuer is asked about (RFC 7662). An answer is believed for a short time, a yes never beyond the token's end.</summary>
public sealed class IntrospectionBackend : ICredentialBackend
{
    private readonly IntrospectionOptions _options;
    private readonly TimeProvider _time;
    private readonly BoundedHttp _http;
    private readonly SemaphoreSlim _turns;
    private readonly BoundedTable<string, (string? Name, DateTimeOffset Until)> _cache;

    public IntrospectionBackend(IntrospectionOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _time = time;
        _http = new BoundedHttp(options.Timeout, options.Connections);
        _turns = new SemaphoreSlim(options.Connections);
        _cache = new BoundedTable<string, (string?, DateTimeOffset)>(options.CacheSize);
    }

    public string Name => "introspection";

    public bool Knows(SaslMechanismKind mechanism) => mechanism is SaslMechanismKind.OAuthBearer or SaslMechanismKind.XOAuth2;

    public async ValueTask<SaslAnswer> AnswerAsync(SaslQuestion question, AuthConnection connection, CancellationToken cancellation)
    {
        if (question is not TokenQuestion asked)
        {
            return SaslAnswer.Bad;
        }

        string key = Convert.ToBase64String(SHA256.HashData(Encoding.ASCII.GetBytes(asked.Token)));
        DateTimeOffset now = _time.GetUtcNow();
        if (!_cache.TryGet(key, out (string? Name, DateTimeOffset Until) known) || now >= known.Until)
        {
            known = await AskAsync(asked.Token, cancellation);
            _cache.Set(key, known);
        }

        return known.Name is { } name ? SaslAnswer.Good(name) : SaslAnswer.Bad;
    }

    public ValueTask DisposeAsync()
    {
        _http.Dispose();
        _turns.Dispose();
        return default;
    }

    private async Task<(string? Name, DateTimeOffset Until)> AskAsync(string token, CancellationToken cancellation)
    {
        using HttpRequestMessage request = new(HttpMethod.Post, _options.Endpoint)
        {
            Content = new FormUrlEncodedContent([new("token", token), new("token_type_hint", "access_token")]),
        };
        request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("application/json"));
        if (_options.ClientId.Length > 0)
        {
            // RFC 6749 §2.3.1: both are form-encoded first.
            string pair = $"{Uri.EscapeDataString(_options.ClientId)}:{Uri.EscapeDataString(_options.ClientSecret)}";
            request.Headers.Authorization = new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes(pair)));
        }

        await _turns.WaitAsync(cancellation);
        try
        {
            using JsonDocument answer = await _http.GetJsonAsync(request, cancellation);
            return Read(answer.RootElement);
        }
        finally
        {
            _turns.Release();
        }
    }

    private (string? Name, DateTimeOffset Until) Read(JsonElement answer)
    {
        DateTimeOffset now = _time.GetUtcNow();
        DateTimeOffset until = now + _options.CacheTime;
        bool isActive = answer.TryGetProperty("active", out JsonElement active) && active.ValueKind == JsonValueKind.True;
        string? name = isActive ? TokenClaims.Read(answer, _options.Rules, now, needsExpiry: false) : null;
        return (name, TokenClaims.ExpiryOf(answer) is { } expiry && expiry < until ? expiry : until);
    }
}
