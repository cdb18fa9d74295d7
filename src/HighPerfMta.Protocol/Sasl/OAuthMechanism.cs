using System.Buffers;
using System.Text;
using System.Text.Json;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>OAUTHBEARER (RFC 7628) and the older XOAUTH2: a bearer token and, if the client likes, the name it is for.</summary>
/// <remarks>A refusal is told as JSON in a challenge; the client acknowledges it (RFC 7628 §3.2.3) and then gets the reply.</remarks>
public sealed class OAuthMechanism : SaslMechanism
{
    private const byte Separator = 1;

    private static readonly SearchValues<char> TokenCharacters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=");

    private readonly SaslContext _context;
    private readonly bool _isXOAuth2;
    private bool _asked;
    private SaslFailure _refused;
    private string _authorization = "";

    /// <param name="context">What a refusal tells.</param>
    /// <param name="isXOAuth2">The older form.</param>
    public OAuthMechanism(SaslContext context, bool isXOAuth2)
    {
        _context = context;
        _isXOAuth2 = isXOAuth2;
    }

    public override SaslStep Next(ReadOnlyMemory<byte> response)
    {
        if (_refused != SaslFailure.None)
        {
            return SaslStep.Fail(_refused);
        }

        ReadOnlySpan<byte> message = response.Span;
        if (_asked || !TryHeader(ref message) || !TryToken(message, out string token))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        _asked = true;
        return SaslStep.Ask(new TokenQuestion(_authorization, token));
    }

    public override SaslStep Answer(SaslAnswer answer)
    {
        SaslStep step = Conclude(answer, _authorization);
        if (step is not { Kind: SaslStepKind.Failure, Failure: not SaslFailure.Unavailable })
        {
            return step;
        }

        _refused = step.Failure;
        return SaslStep.Send(Refusal());
    }

    /// <summary>The gs2 header of RFC 7628 §3.1, or <c>user=NAME^A</c>; what is left of the message are its key/value pairs.</summary>
    private bool TryHeader(ref ReadOnlySpan<byte> message)
    {
        int end = message.IndexOf(Separator);
        ReadOnlySpan<byte> header = end < 0 ? default : message[..end];
        message = message[(end + 1)..];
        if (_isXOAuth2)
        {
            return header.StartsWith("user="u8) && TryName(header["user="u8.Length..], out _authorization);
        }

        bool isGs2 = header.Length >= 3 && (header[0] == (byte)'n' || header[0] == (byte)'y') && header[1] == (byte)',' && header[^1] == (byte)',';
        return isGs2 && ScramText.TryAttribute(header[2..], 'a', out _authorization);
    }

    /// <summary>Pairs, each with its separator, and one more at the end; <c>auth</c> has to be among them, once.</summary>
    private static bool TryToken(ReadOnlySpan<byte> pairs, out string token)
    {
        token = "";
        while (pairs is [not Separator, ..])
        {
            int end = pairs.IndexOf(Separator);
            int equals = end < 0 ? -1 : pairs[..end].IndexOf((byte)'=');
            if (equals <= 0)
            {
                return false;
            }

            ReadOnlySpan<byte> key = pairs[..equals], value = pairs[(equals + 1)..end];
            pairs = pairs[(end + 1)..];
            if (key.SequenceEqual("auth"u8) && (token.Length > 0 || !TryBearer(value, out token)))
            {
                return false;
            }
        }

        return pairs.Length == 1 && token.Length > 0;
    }

    /// <summary>RFC 6750 §2.1.</summary>
    private static bool TryBearer(ReadOnlySpan<byte> value, out string token)
    {
        const string scheme = "bearer ";
        token = "";
        if (value.Length <= scheme.Length || !Ascii.EqualsIgnoreCase(value[..scheme.Length], scheme))
        {
            return false;
        }

        token = Encoding.Latin1.GetString(value[scheme.Length..]);
        return !token.AsSpan().ContainsAnyExcept(TokenCharacters);
    }

    private byte[] Refusal()
    {
        ArrayBufferWriter<byte> json = new(128);
        using Utf8JsonWriter writer = new(json);
        writer.WriteStartObject();
        writer.WriteString("status"u8, _isXOAuth2 ? "401" : "invalid_token");
        if (_isXOAuth2)
        {
            writer.WriteString("schemes"u8, "bearer");
        }

        if (_context.Scope.Length > 0)
        {
            writer.WriteString("scope"u8, _context.Scope);
        }

        if (!_isXOAuth2 && _context.OpenIdConfiguration.Length > 0)
        {
            writer.WriteString("openid-configuration"u8, _context.OpenIdConfiguration);
        }

        writer.WriteEndObject();
        writer.Flush();
        return json.WrittenSpan.ToArray();
    }
}
