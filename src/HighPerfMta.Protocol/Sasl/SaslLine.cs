using System.Buffers;
using System.Buffers.Text;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>What a line of an AUTH exchange is.</summary>
public enum SaslLineStatus
{
    /// <summary>A response, which may be empty.</summary>
    Response,

    /// <summary><c>*</c>: the client gives up.</summary>
    Cancelled,

    /// <summary>No base64.</summary>
    Malformed,

    /// <summary>Over <see cref="SaslLine.MaxLength"/>.</summary>
    TooLong,
}

/// <summary>The lines of RFC 4954 §4: base64 on the wire, octets inside.</summary>
public static class SaslLine
{
    /// <summary>Octets of a line with its CRLF (RFC 4954 §4.3).</summary>
    public const int MaxLength = 12288;

    /// <summary>Reads the initial response of an AUTH command, where <c>=</c> is an empty one.</summary>
    /// <param name="argument">What follows the mechanism.</param>
    /// <param name="response">The octets; empty unless <see cref="SaslLineStatus.Response"/>.</param>
    public static SaslLineStatus ReadInitial(ReadOnlySpan<byte> argument, out byte[] response)
    {
        response = [];
        return argument.SequenceEqual("="u8) ? SaslLineStatus.Response
            : argument.IsEmpty ? SaslLineStatus.Malformed
            : Decode(argument, out response);
    }

    /// <summary>Reads a line that answers a challenge.</summary>
    /// <param name="line">The line without CRLF.</param>
    /// <param name="response">The octets; empty unless <see cref="SaslLineStatus.Response"/>.</param>
    public static SaslLineStatus Read(ReadOnlySpan<byte> line, out byte[] response)
    {
        response = [];
        return line.SequenceEqual("*"u8) ? SaslLineStatus.Cancelled : Decode(line, out response);
    }

    /// <summary>A challenge as the text of a 334.</summary>
    public static string Write(ReadOnlySpan<byte> challenge) => Convert.ToBase64String(challenge);

    /// <summary>Exactly RFC 4648 §4: padded, no white space, and no set bits behind the last octet, so that a response has one form.</summary>
    private static SaslLineStatus Decode(ReadOnlySpan<byte> text, out byte[] octets)
    {
        octets = [];
        if (text.Length > MaxLength - 2)
        {
            return SaslLineStatus.TooLong;
        }

        if (text.Length % 4 != 0 || text.ContainsAnyExcept(Alphabet))
        {
            return SaslLineStatus.Malformed;
        }

        byte[] decoded = new byte[Base64.GetMaxDecodedFromUtf8Length(text.Length)];
        if (Base64.DecodeFromUtf8(text, decoded, out _, out int length) != OperationStatus.Done || !IsCanonical(text, decoded.AsSpan(0, length)))
        {
            return SaslLineStatus.Malformed;
        }

        octets = decoded[..length];
        System.Security.Cryptography.CryptographicOperations.ZeroMemory(decoded);
        return SaslLineStatus.Response;
    }

    private static bool IsCanonical(ReadOnlySpan<byte> text, ReadOnlySpan<byte> octets)
    {
        if (octets.Length % 3 == 0)
        {
            return true;
        }

        Span<byte> last = stackalloc byte[4];
        Base64.EncodeToUtf8(octets[^(octets.Length % 3)..], last, out _, out _);
        return text[^4..].SequenceEqual(last);
    }

    private static readonly SearchValues<byte> Alphabet = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="u8);
}
