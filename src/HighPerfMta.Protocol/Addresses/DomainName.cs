using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace HighPerfMta.Protocol.Addresses;

/// <summary>Domain names in one form: lower-case letter-digit-hyphen labels, A-labels for what is not ASCII (RFC 5890 §2.3.2.1).</summary>
public static class DomainName
{
    /// <summary>Longest name as text: 255 octets of the DNS are 253 characters without the trailing dot.</summary>
    public const int MaxLength = 253;

    internal const int MaxLabel = 63;

    /// <summary>Brings a name to its one form. False for anything that is no domain of RFC 5321 §4.1.2: empty labels, trailing dots, other octets.</summary>
    /// <param name="text">The name, ASCII or UTF-8.</param>
    /// <param name="allowUtf8">False refuses everything outside ASCII.</param>
    /// <param name="domain">The name; empty when false.</param>
    public static bool TryNormalize(ReadOnlySpan<byte> text, bool allowUtf8, out string domain)
    {
        domain = "";
        if (text.IsEmpty || text.Length > 4 * MaxLength)
        {
            return false;
        }

        if (!Ascii.IsValid(text))
        {
            return allowUtf8 && TryNormalizeUtf8(text, out domain);
        }

        if (!IsHostName(text))
        {
            return false;
        }

        domain = string.Create(text.Length, text, static (target, source) => Ascii.ToLower(source, target, out _));
        return true;
    }

    /// <inheritdoc cref="TryNormalize(ReadOnlySpan{byte}, bool, out string)"/>
    public static bool TryNormalize(string text, out string domain)
    {
        ArgumentNullException.ThrowIfNull(text);
        domain = "";
        if (text.Length > MaxLength)
        {
            return false;
        }

        Span<byte> utf8 = stackalloc byte[4 * MaxLength];
        return Encoding.UTF8.TryGetBytes(text, utf8, out int length) && TryNormalize(utf8[..length], allowUtf8: true, out domain);
    }

    /// <summary>Dot-separated labels of letters, digits and inner hyphens, at most 63 octets each and 253 in all.</summary>
    internal static bool IsHostName(ReadOnlySpan<byte> text)
    {
        if (text.Length is 0 or > MaxLength)
        {
            return false;
        }

        int labelStart = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && text[i] != (byte)'.')
            {
                if (!char.IsAsciiLetterOrDigit((char)text[i]) && text[i] != (byte)'-')
                {
                    return false;
                }

                continue;
            }

            int length = i - labelStart;
            if (length is 0 or > MaxLabel || text[labelStart] == (byte)'-' || text[i - 1] == (byte)'-')
            {
                return false;
            }

            labelStart = i + 1;
        }

        return true;
    }

    [SuppressMessage("Globalization", "CA1308:Normalize strings to uppercase", Justification = "Domains are lower-case (RFC 5890)")]
    private static bool TryNormalizeUtf8(ReadOnlySpan<byte> text, out string domain)
    {
        domain = "";
        var result = new StringBuilder(text.Length + 16);
        while (true)
        {
            int dot = text.IndexOf((byte)'.');
            ReadOnlySpan<byte> label = dot < 0 ? text : text[..dot];
            if (result.Length > 0)
            {
                result.Append('.');
            }

            if (!AppendLabel(result, label))
            {
                return false;
            }

            if (dot < 0)
            {
                break;
            }

            text = text[(dot + 1)..];
        }

        string name = result.ToString();
        if (name.Length > MaxLength)
        {
            return false;
        }

        domain = name;
        return true;
    }

    private static bool AppendLabel(StringBuilder result, ReadOnlySpan<byte> label)
    {
        if (!Ascii.IsValid(label))
        {
            return Punycode.TryAppendALabel(result, label);
        }

        if (!IsHostName(label))
        {
            return false;
        }

        foreach (byte b in label)
        {
            result.Append(char.ToLowerInvariant((char)b));
        }

        return true;
    }
}
