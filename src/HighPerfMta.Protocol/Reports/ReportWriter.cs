using System.Buffers;
using System.Text;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Protocol.Reports;

/// <summary>Writes lines that are safe whatever they are made of: no controls, no line over the limit, ASCII unless <see cref="Utf8"/>.</summary>
internal readonly ref struct ReportWriter(IBufferWriter<byte> output, bool utf8)
{
    /// <summary>Octets of a line without CRLF (RFC 5322 §2.1.1).</summary>
    public const int MaxLine = 998;

    public bool Utf8 { get; } = utf8;

    /// <summary>A line of our own words, with parts that may be hostile: controls become "?", what is too long is cut.</summary>
    public void Line(string text)
    {
        Span<byte> octets = stackalloc byte[MaxLine + 2];
        int length = 0;
        foreach (Rune rune in text.EnumerateRunes())
        {
            Rune safe = IsSafe(rune) ? rune : new Rune('?');
            if (length + safe.Utf8SequenceLength > MaxLine)
            {
                break;
            }

            length += safe.EncodeToUtf8(octets[length..]);
        }

        "\r\n"u8.CopyTo(octets[length..]);
        output.Write(octets[..(length + 2)]);
    }

    /// <summary>A line with an address between two texts of our own.</summary>
    public void Address(string before, EmailAddress address, string after) => Line(before + Display(address) + after);

    /// <summary>
    /// Hostile text word-wrapped under an indentation, cut after <paramref name="maxLines"/> lines.
    /// </summary>
    public void Wrapped(string indent, string text, int width, int maxLines)
    {
        ReadOnlySpan<char> rest = text.AsSpan().Trim();
        for (int i = 0; i < maxLines && !rest.IsEmpty; i++)
        {
            int room = width - indent.Length;
            int length = rest.Length;
            if (length > room)
            {
                int space = rest[..room].LastIndexOf(' ');
                length = space > 0 ? space : room;
                length -= char.IsHighSurrogate(rest[length - 1]) ? 1 : 0;
            }

            Line(string.Concat(indent, rest[..length]));
            rest = rest[length..].TrimStart();
        }
    }

    /// <summary>Octets that are known to be safe.</summary>
    public void Raw(ReadOnlySpan<byte> octets) => output.Write(octets);

    /// <summary>An address as it can be shown here: without UTF-8, letters outside ASCII are written as <c>\x{20AC}</c> (RFC 6533 §3).</summary>
    public string Display(EmailAddress address) => Utf8 || !address.NeedsSmtpUtf8 ? address.ToString() : Escape(address.ToString());

    /// <summary>A name of ours or of a client without anything that could end a field, a comment or a token.</summary>
    public static string SafeToken(string text) =>
        string.Create(Math.Min(text.Length, 255), text, static (target, source) =>
        {
            for (int i = 0; i < target.Length; i++)
            {
                char c = source[i];
                target[i] = char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_' or ':' or '[' or ']' ? c : '?';
            }
        });

    /// <summary>The utf-8-addr-xtext form of RFC 6533 §3.</summary>
    public static string Escape(string text)
    {
        var escaped = new StringBuilder();
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.IsAscii && rune.Value is not ('\\' or '+' or '='))
            {
                escaped.Append((char)rune.Value);
            }
            else
            {
                escaped.Append("\\x{").Append(rune.Value.ToString("X", System.Globalization.CultureInfo.InvariantCulture)).Append('}');
            }
        }

        return escaped.ToString();
    }

    private bool IsSafe(Rune rune) =>
        rune.IsAscii ? rune.Value is >= 0x20 and < 0x7F or '\t' : Utf8 && !Rune.IsControl(rune) && rune.Value is not (0x2028 or 0x2029 or 0xFFFD);
}
