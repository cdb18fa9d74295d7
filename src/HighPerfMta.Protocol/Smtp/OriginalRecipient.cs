using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// The value of ORCPT: an address type, a semicolon, and an address (RFC 3461 §4.2). It is kept as it came, for it is passed on unchanged. The address is xtext, and of printable ASCII when it is
/// decoded; of the type <c>utf-8</c> it is in one of the forms of RFC 6533 §3, in which <c>\x{20AC}</c> stands for a character.
/// </summary>
public static class OriginalRecipient
{
    /// <summary>Octets of the value (RFC 3461 §5.4).</summary>
    public const int MaxLength = 500;

    private const string Utf8Type = "utf-8";

    // atom of RFC 5322 §3.2.3; a type has no other characters.
    private static readonly System.Buffers.SearchValues<byte> Atom = System.Buffers.SearchValues.Create(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~"u8);

    private static readonly System.Buffers.SearchValues<char> HexDigits = System.Buffers.SearchValues.Create("0123456789ABCDEF");

    /// <summary>Checks a value.</summary>
    /// <param name="value">What stands behind the equals sign.</param>
    /// <param name="smtpUtf8">SMTPUTF8 was given: octets over 127 may stand in an address of the type <c>utf-8</c>.</param>
    /// <param name="text">The value as text.</param>
    public static bool TryParse(ReadOnlySpan<byte> value, bool smtpUtf8, [NotNullWhen(true)] out string? text)
    {
        text = null;
        int semicolon = value.IndexOf((byte)';');
        if (value.Length > MaxLength || semicolon <= 0 || value[..semicolon].ContainsAnyExcept(Atom))
        {
            return false;
        }

        ReadOnlySpan<byte> address = value[(semicolon + 1)..];
        bool isUtf8 = Ascii.EqualsIgnoreCase(value[..semicolon], "utf-8"u8);
        if (isUtf8 ? !IsUtf8Address(address, smtpUtf8) : !IsPrintableXtext(address))
        {
            return false;
        }

        text = Encoding.UTF8.GetString(value);
        return true;
    }

    /// <summary>The value in ASCII, for a peer without SMTPUTF8; the same where it is ASCII already.</summary>
    public static string ToAscii(string value) => Ascii.IsValid(value) ? value : Escape(value);

    /// <summary>The value as a report has it: <c>type; address</c>, decoded (RFC 3464 §2.3.1, RFC 6533 §4.1).</summary>
    /// <param name="value">The value of ORCPT.</param>
    /// <param name="utf8">The report may hold UTF-8.</param>
    public static string Display(string value, bool utf8)
    {
        int semicolon = value.IndexOf(';', StringComparison.Ordinal);
        if (semicolon < 0)
        {
            return "unknown; " + value;
        }

        string type = value[..semicolon];
        string address = value[(semicolon + 1)..];
        if (!type.Equals(Utf8Type, StringComparison.OrdinalIgnoreCase))
        {
            return $"{type}; {Xtext.Decode(address)}";
        }

        return $"{type}; {(utf8 ? Unescape(address) : ToAscii(address))}";
    }

    private static bool IsPrintableXtext(ReadOnlySpan<byte> address)
    {
        Span<byte> octets = stackalloc byte[MaxLength];
        return Xtext.TryDecode(address, octets, out int length) && !octets[..length].ContainsAnyExceptInRange((byte)0x20, (byte)0x7E);
    }

    private static bool IsUtf8Address(ReadOnlySpan<byte> address, bool smtpUtf8)
    {
        if (address.IsEmpty || !System.Text.Unicode.Utf8.IsValid(address) || (!smtpUtf8 && !Ascii.IsValid(address)) || HasLateControl(address))
        {
            return false;
        }

        for (int i = 0; i < address.Length; i++)
        {
            byte octet = address[i];
            if (octet == (byte)'\\')
            {
                int end = address[i..].IndexOf((byte)'}');
                if (end < 0 || !IsEmbedded(address.Slice(i, end + 1)))
                {
                    return false;
                }

                i += end;
            }
            else if (octet is <= 0x20 or 0x7F or (byte)'+' or (byte)'=')
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Holds one of U+0080 to U+009F, which are controls too.</summary>
    private static bool HasLateControl(ReadOnlySpan<byte> utf8)
    {
        for (int i = utf8.IndexOf((byte)0xC2); i >= 0 && i + 1 < utf8.Length; i++)
        {
            if (utf8[i] == 0xC2 && utf8[i + 1] < 0xA0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary><c>\x{HEX}</c>, upper case, of a character that can stand in a report: no control and no surrogate.</summary>
    private static bool IsEmbedded(ReadOnlySpan<byte> text) =>
        text.Length is >= 6 and <= 10 && text.StartsWith("\\x{"u8) && TryCodePoint(Encoding.ASCII.GetString(text[3..^1]), out Rune rune) && !Rune.IsControl(rune);

    private static bool TryCodePoint(ReadOnlySpan<char> digits, out Rune rune)
    {
        rune = default;
        return !digits.ContainsAnyExcept(HexDigits) && int.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int value) && Rune.TryCreate(value, out rune);
    }

    private static string Escape(string value)
    {
        StringBuilder escaped = new(value.Length * 2);
        foreach (Rune rune in value.EnumerateRunes())
        {
            if (rune.IsAscii)
            {
                escaped.Append((char)rune.Value);
            }
            else
            {
                escaped.Append(CultureInfo.InvariantCulture, $"\\x{{{rune.Value:X}}}");
            }
        }

        return escaped.ToString();
    }

    private static string Unescape(string address)
    {
        StringBuilder text = new(address.Length);
        for (int i = 0; i < address.Length; i++)
        {
            int end = address[i] == '\\' ? address.IndexOf('}', i) : -1;
            if (end > i + 3 && TryCodePoint(address.AsSpan(i + 3, end - i - 3), out Rune rune))
            {
                text.Append(rune);
                i = end;
            }
            else
            {
                text.Append(address[i]);
            }
        }

        return text.ToString();
    }
}
