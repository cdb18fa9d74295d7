using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>SCRAM (RFC 5802, RFC 7677), with channel binding or without.</summary>
/// <remarks>
/// The server's final message goes out as a challenge, which the client answers with an empty response (RFC 4954 §4). A failure is told by the reply alone:
/// <c>e=</c> would say which part was wrong.
/// </remarks>
public sealed class ScramMechanism : SaslMechanism
{
    /// <summary>Octets of the client's nonce.</summary>
    public const int MaxNonce = 256;

    private readonly SaslContext _context;
    private readonly ScramHash _hash;
    private readonly bool _binds;
    private State _state;
    private byte[] _expectedBinding = [];
    private byte[] _clientFirst = [];
    private byte[] _serverFirst = [];
    private byte[] _nonce = [];
    private string _name = "";
    private string _authorization = "";
    private string? _identity;
    private ScramKeys? _keys;

    /// <param name="context">The server and the connection.</param>
    /// <param name="hash">The mechanism's hash.</param>
    /// <param name="binds">-PLUS.</param>
    public ScramMechanism(SaslContext context, ScramHash hash, bool binds)
    {
        _context = context;
        _hash = hash;
        _binds = binds;
    }

    private enum State
    {
        First, Asking, Final, Acknowledge, Over,
    }

    public override SaslStep Next(ReadOnlyMemory<byte> response)
    {
        State state = _state;
        _state = State.Over;
        return state switch
        {
            State.First => ReadFirst(response.Span),
            State.Final => ReadFinal(response.Span),
            State.Acknowledge when response.IsEmpty => SaslStep.Succeed(_identity!),
            _ => SaslStep.Fail(SaslFailure.Malformed),
        };
    }

    public override SaslStep Answer(SaslAnswer answer)
    {
        ArgumentNullException.ThrowIfNull(answer);
        if (_state != State.Asking || answer.Verdict == SaslVerdict.Unavailable)
        {
            _state = State.Over;
            return SaslStep.Fail(answer.Verdict == SaslVerdict.Unavailable ? SaslFailure.Unavailable : SaslFailure.Malformed);
        }

        // A user who is not there, and one who is there without keys for this hash, go all the way and fail at the proof.
        ScramKeys? known = answer.Keys is { } keys && keys.Hash == _hash ? keys : null;
        _keys = known ?? _context.Decoy.For(_name, _hash);
        _identity = known is null ? null : answer.Identity;
        _serverFirst = Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture,
            $"r={Encoding.ASCII.GetString(_nonce)},s={Convert.ToBase64String(_keys.Salt)},i={_keys.Iterations}"));
        _state = State.Final;
        return SaslStep.Send(_serverFirst);
    }

    protected override void Dispose(bool disposing)
    {
        _keys = null;
        base.Dispose(disposing);
    }

    /// <summary><c>gs2-header client-first-message-bare</c>.</summary>
    private SaslStep ReadFirst(ReadOnlySpan<byte> message)
    {
        int header = HeaderLength(message);
        if (header < 0 || !ScramText.TryAttribute(message[message.IndexOf((byte)',')..header].TrimStart((byte)','), 'a', out _authorization))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        ReadOnlySpan<byte> flag = message[..message.IndexOf((byte)',')];
        if (!IsFlag(flag))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        if (!TryBind(flag, message[..header]))
        {
            return SaslStep.Fail(SaslFailure.ChannelBinding);
        }

        ReadOnlySpan<byte> bare = message[header..];
        if (!TryReadBare(bare, out ReadOnlySpan<byte> clientNonce))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        _clientFirst = bare.ToArray();
        _nonce = [.. clientNonce, .. Encoding.ASCII.GetBytes(_context.MakeNonce())];
        _state = State.Asking;
        return SaslStep.Ask(new ScramQuestion(_name, _hash));
    }

    /// <summary>Octets of the gs2 header with both its commas; -1 when there is none.</summary>
    private static int HeaderLength(ReadOnlySpan<byte> message)
    {
        int first = message.IndexOf((byte)',');
        int second = first < 0 ? -1 : message[(first + 1)..].IndexOf((byte)',');
        return second < 0 ? -1 : first + second + 2;
    }

    private static bool IsFlag(ReadOnlySpan<byte> flag) =>
        flag.SequenceEqual("n"u8) || flag.SequenceEqual("y"u8) || (flag.Length > 2 && flag.StartsWith("p="u8) && !flag[2..].ContainsAnyExcept(ScramText.BindingName));

    /// <summary>RFC 5802 §6: the flag against what was offered and chosen; and what <c>c=</c> will have to be.</summary>
    private bool TryBind(ReadOnlySpan<byte> flag, ReadOnlySpan<byte> header)
    {
        if (flag[0] != (byte)'p')
        {
            _expectedBinding = header.ToArray();
            return !_binds && (flag[0] == (byte)'n' || !_context.OffersPlus);
        }

        byte[]? data = _context.Bindings.Find(flag[2..]);
        _expectedBinding = [.. header, .. data ?? []];
        return _binds && data is not null;
    }

    /// <summary><c>n=name,r=nonce[,extensions]</c>; <c>m=</c>, which would have to be understood, is refused (RFC 5802 §5.1).</summary>
    private bool TryReadBare(ReadOnlySpan<byte> bare, out ReadOnlySpan<byte> nonce)
    {
        nonce = default;
        int comma = bare.IndexOf((byte)',');
        if (comma < 0 || !ScramText.TryAttribute(bare[..comma], 'n', out _name) || _name.Length == 0)
        {
            return false;
        }

        ReadOnlySpan<byte> rest = bare[(comma + 1)..];
        int end = rest.IndexOf((byte)',');
        nonce = end < 0 ? rest : rest[..end];
        bool isNonce = nonce.Length is > 2 and <= MaxNonce + 2 && nonce.StartsWith("r="u8) && !nonce.ContainsAnyExceptInRange((byte)0x21, (byte)0x7E);
        nonce = isNonce ? nonce[2..] : default;
        return isNonce && (end < 0 || ScramText.AreExtensions(rest[(end + 1)..]));
    }

    /// <summary><c>c=binding,r=nonce[,extensions],p=proof</c>.</summary>
    private SaslStep ReadFinal(ReadOnlySpan<byte> message)
    {
        int at = message.LastIndexOf(",p="u8);
        if (at < 0 || !ScramText.TryDecode(message[(at + 3)..], ScramFunctions.SizeOf(_hash), out byte[] proof) || proof.Length != ScramFunctions.SizeOf(_hash))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        ReadOnlySpan<byte> unproven = message[..at];
        int comma = unproven.IndexOf((byte)',');
        if (comma < 0 || !unproven.StartsWith("c="u8) || !ScramText.TryDecode(unproven[2..comma], SaslLine.MaxLength, out byte[] binding))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        ReadOnlySpan<byte> rest = unproven[(comma + 1)..];
        int end = rest.IndexOf((byte)',');
        ReadOnlySpan<byte> nonce = end < 0 ? rest : rest[..end];
        if (!nonce.StartsWith("r="u8) || !nonce[2..].SequenceEqual(_nonce) || (end >= 0 && !ScramText.AreExtensions(rest[(end + 1)..])))
        {
            return SaslStep.Fail(SaslFailure.Malformed);
        }

        return CryptographicOperations.FixedTimeEquals(binding, _expectedBinding) ? Verify(proof, unproven) : SaslStep.Fail(SaslFailure.ChannelBinding);
    }

    private SaslStep Verify(byte[] proof, ReadOnlySpan<byte> unproven)
    {
        byte[] message = [.. _clientFirst, (byte)',', .. _serverFirst, (byte)',', .. unproven];
        byte[] signature = ScramFunctions.Hmac(_hash, _keys!.StoredKey, message);
        for (int i = 0; i < signature.Length; i++)
        {
            signature[i] ^= proof[i];
        }

        bool isProven = CryptographicOperations.FixedTimeEquals(ScramFunctions.Hash(_hash, signature), _keys.StoredKey);
        byte[] serverSignature = ScramFunctions.Hmac(_hash, _keys.ServerKey, message);
        if (!isProven || _identity is null)
        {
            return SaslStep.Fail(SaslFailure.BadCredentials);
        }

        if (!MayAct(_identity, _authorization))
        {
            return SaslStep.Fail(SaslFailure.NotAuthorized);
        }

        _state = State.Acknowledge;
        return SaslStep.Send(Encoding.ASCII.GetBytes("v=" + Convert.ToBase64String(serverSignature)));
    }
}

/// <summary>The grammar of RFC 5802 §7.</summary>
internal static class ScramText
{
    /// <summary>cb-name.</summary>
    public static readonly SearchValues<byte> BindingName = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-"u8);

    /// <summary>An attribute with a saslname, prepared; empty text is the attribute left out.</summary>
    public static bool TryAttribute(ReadOnlySpan<byte> text, char letter, out string name)
    {
        name = "";
        text = text is [.., (byte)','] ? text[..^1] : text;
        if (text.IsEmpty)
        {
            return true;
        }

        if (text.Length < 3 || text.Length > SaslMechanism.MaxName || text[0] != letter || text[1] != (byte)'=')
        {
            return false;
        }

        return TryUnescape(text[2..], out byte[] raw) && SaslPrep.TryPrepare(raw, out name);
    }

    /// <summary><c>=2C</c> is a comma, <c>=3D</c> an equals sign; any other <c>=</c> is an error (RFC 5802 §5.1).</summary>
    private static bool TryUnescape(ReadOnlySpan<byte> text, out byte[] raw)
    {
        raw = new byte[text.Length];
        int length = 0;
        for (int i = 0; i < text.Length; i++)
        {
            byte octet = text[i] == (byte)',' ? (byte)0 : text[i];
            if (octet == (byte)'=')
            {
                ReadOnlySpan<byte> code = text.Slice(i + 1, Math.Min(2, text.Length - i - 1));
                octet = code.SequenceEqual("2C"u8) ? (byte)',' : code.SequenceEqual("3D"u8) ? (byte)'=' : (byte)0;
                i += 2;
            }

            if (octet == 0)
            {
                return false;
            }

            raw[length++] = octet;
        }

        raw = raw[..length];
        return true;
    }

    /// <summary>Attributes that may be passed over: a letter, <c>=</c>, a value.</summary>
    public static bool AreExtensions(ReadOnlySpan<byte> text)
    {
        foreach (Range part in text.Split((byte)','))
        {
            ReadOnlySpan<byte> attribute = text[part];
            if (attribute.Length < 3 || !char.IsAsciiLetter((char)attribute[0]) || attribute[1] != (byte)'=' || attribute[0] == (byte)'m' || attribute.Contains((byte)0))
            {
                return false;
            }
        }

        return true;
    }

    public static bool TryDecode(ReadOnlySpan<byte> base64, int most, out byte[] octets)
    {
        octets = [];
        if (base64.IsEmpty || base64.Length > Base64.GetMaxEncodedToUtf8Length(most))
        {
            return false;
        }

        return SaslLine.Read(base64, out octets) == SaslLineStatus.Response;
    }
}
