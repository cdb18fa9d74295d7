using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.Protocol.Addresses;

/// <summary>
/// Mailboxes of RFC 5321 §4.1.2 with the extension of RFC 6531 §3.3. The result is in one form, so that parsing its text again gives an equal
/// address: the domain as <see cref="DomainName"/> has it, the local part quoted only where it must be.
/// </summary>
public static class AddressParser
{
    /// <summary>Octets of a local part (RFC 5321 §4.5.3.1.1).</summary>
    public const int MaxLocalPart = 64;

    /// <summary>Octets of a path with its brackets (RFC 5321 §4.5.3.1.3).</summary>
    public const int MaxPath = 256;

    private const int MaxMailbox = MaxPath - 2;

    private static readonly SearchValues<byte> IPv6Text = SearchValues.Create("0123456789abcdefABCDEF:."u8);

    private static readonly SearchValues<byte> Atext =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~"u8);

    /// <summary>Parses a whole mailbox without brackets, or the bare <c>postmaster</c>.</summary>
    /// <param name="text">ASCII, or UTF-8 where <paramref name="allowUtf8"/>.</param>
    /// <param name="allowUtf8">Letters outside ASCII are allowed (SMTPUTF8).</param>
    /// <param name="address">The address; null when false.</param>
    /// <param name="error">What is wrong, for an operator; it quotes nothing of the text. Empty when true.</param>
    public static bool TryParseMailbox(
        ReadOnlySpan<byte> text, bool allowUtf8, [NotNullWhen(true)] out EmailAddress? address, out string error)
    {
        error = "";
        address = AddressCache.FindAddress(text);
        if (address is not null)
        {
            return true;
        }

        if (text.Length > MaxMailbox)
        {
            error = "the address is longer than 254 octets";
            return false;
        }

        if (!allowUtf8 && !Ascii.IsValid(text))
        {
            error = "the address is not ASCII";
            return false;
        }

        if (!TryTakeLocalPart(text, out string local, out int used, out error))
        {
            return false;
        }

        ReadOnlySpan<byte> whole = text;
        text = text[used..];
        if (text.IsEmpty && local.Equals("postmaster", StringComparison.OrdinalIgnoreCase))
        {
            address = new EmailAddress("postmaster", "");
            return true;
        }

        if (text.IsEmpty || text[0] != (byte)'@')
        {
            error = text.IsEmpty ? "the address has no @" : "the local part holds a character that it cannot";
            return false;
        }

        if (!TryParseDomain(text[1..], allowUtf8, out string domain))
        {
            error = "the domain is not valid";
            return false;
        }

        if (Encoding.UTF8.GetByteCount(local) + 1 + domain.Length > MaxMailbox)
        {
            error = "the address is longer than 254 octets";
            return false;
        }

        address = new EmailAddress(local, domain);
        if (used == local.Length && Ascii.Equals(whole[..used], local) && Ascii.Equals(whole[(used + 1)..], domain))
        {
            AddressCache.Add(whole, address);
        }

        error = "";
        return true;
    }

    /// <summary>Parses a mailbox without brackets, UTF-8 allowed: for commands, configuration and stored envelopes.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out EmailAddress? address, out string error)
    {
        ArgumentNullException.ThrowIfNull(text);
        Span<byte> utf8 = stackalloc byte[MaxPath];
        if (text.Length <= MaxMailbox && System.Text.Unicode.Utf8.FromUtf16(text, utf8, out _, out int length, replaceInvalidSequences: false) == OperationStatus.Done)
        {
            return TryParseMailbox(utf8[..length], allowUtf8: true, out address, out error);
        }

        address = null;
        error = "the address is longer than 254 octets or not valid Unicode";
        return false;
    }

    /// <summary>
    /// What stands between the brackets of a path: a mailbox after an optional source route, which is checked and dropped (RFC 5321 §4.1.1.3, appendix C).
    /// Not the null path.
    /// </summary>
    internal static bool TryParsePath(ReadOnlySpan<byte> path, bool allowUtf8, [NotNullWhen(true)] out EmailAddress? address)
    {
        address = null;
        if (path.Length > MaxMailbox)
        {
            return false;
        }

        if (!path.IsEmpty && path[0] == (byte)'@')
        {
            int colon = FindRouteEnd(path);
            if (colon < 0 || !IsRoute(path[..colon], allowUtf8))
            {
                return false;
            }

            path = path[(colon + 1)..];
            return TryParseMailbox(path, allowUtf8, out address, out _) && address.Domain.Length > 0;
        }

        return TryParseMailbox(path, allowUtf8, out address, out _);
    }

    /// <summary>The colon after the route; those inside an address literal are part of it.</summary>
    private static int FindRouteEnd(ReadOnlySpan<byte> path)
    {
        bool literal = false;
        for (int i = 0; i < path.Length; i++)
        {
            switch (path[i])
            {
                case (byte)'[':
                    literal = true;
                    break;
                case (byte)']':
                    literal = false;
                    break;
                case (byte)':' when !literal:
                    return i;
            }
        }

        return -1;
    }

    private static bool IsRoute(ReadOnlySpan<byte> route, bool allowUtf8)
    {
        while (true)
        {
            if (route.IsEmpty || route[0] != (byte)'@')
            {
                return false;
            }

            int comma = route.IndexOf((byte)',');
            if (!TryParseDomain(comma < 0 ? route[1..] : route[1..comma], allowUtf8, out _))
            {
                return false;
            }

            if (comma < 0)
            {
                return true;
            }

            route = route[(comma + 1)..];
        }
    }

    private static bool TryTakeLocalPart(ReadOnlySpan<byte> text, out string local, out int used, out string error)
    {
        if (!text.IsEmpty && text[0] == (byte)'"')
        {
            return TryTakeQuoted(text, out local, out used, out error);
        }

        local = "";
        used = DotStringLength(text);
        error = used > MaxLocalPart ? "the local part is longer than 64 octets" : used <= 0 ? "the local part is not valid" : "";
        if (error.Length > 0)
        {
            return false;
        }

        local = Encoding.UTF8.GetString(text[..used]);
        return true;
    }

    /// <summary>Octets of the dot-string at the start; -1 when there is none or it has an empty atom or broken UTF-8.</summary>
    private static int DotStringLength(ReadOnlySpan<byte> text)
    {
        int i = 0;
        bool atomEmpty = true;
        while (i < text.Length)
        {
            int run = text[i..].IndexOfAnyExcept(Atext);
            run = run < 0 ? text.Length - i : run;
            atomEmpty &= run == 0;
            i += run;
            if (i == text.Length)
            {
                break;
            }

            if (text[i] == (byte)'.')
            {
                if (atomEmpty)
                {
                    return -1;
                }

                atomEmpty = true;
                i++;
            }
            else if (text[i] >= 0x80)
            {
                if (!TryTakeRune(text[i..], out int length))
                {
                    return -1;
                }

                atomEmpty = false;
                i += length;
            }
            else
            {
                break;
            }
        }

        return atomEmpty ? -1 : i;
    }

    /// <summary>
    /// Quoted-string (RFC 5321 §4.1.2): printable ASCII, spaces, and quoted pairs of them. What is quoted without need is unquoted, so that
    /// <c>"joe"@x</c> and <c>joe@x</c> are one address.
    /// </summary>
    private static bool TryTakeQuoted(ReadOnlySpan<byte> text, out string local, out int used, out string error)
    {
        local = "";
        error = "the quoted local part is not valid";
        used = 0;
        Span<byte> content = stackalloc byte[MaxMailbox];
        int length = 0;
        int i = 1;
        while (true)
        {
            if (i >= text.Length)
            {
                return false;
            }

            byte b = text[i];
            if (b == (byte)'"')
            {
                break;
            }

            int size = 1;
            if (b == (byte)'\\')
            {
                i++;
                if (i >= text.Length || text[i] is < 0x20 or > 0x7E)
                {
                    return false;
                }
            }
            else if (b >= 0x80 ? !TryTakeRune(text[i..], out size) : b is < 0x20 or 0x7F)
            {
                return false;
            }

            text.Slice(i, size).CopyTo(content[length..]);
            length += size;
            i += size;
        }

        used = i + 1;
        content = content[..length];
        if (length > 0 && DotStringLength(content) == length)
        {
            local = Encoding.UTF8.GetString(content);
        }
        else
        {
            local = Quote(content);
        }

        bool fits = Encoding.UTF8.GetByteCount(local) <= MaxLocalPart;
        error = fits ? "" : "the local part is longer than 64 octets";
        return fits;
    }

    private static string Quote(ReadOnlySpan<byte> content)
    {
        var quoted = new StringBuilder(content.Length + 8).Append('"');
        foreach (char c in Encoding.UTF8.GetString(content))
        {
            if (c is '"' or '\\')
            {
                quoted.Append('\\');
            }

            quoted.Append(c);
        }

        return quoted.Append('"').ToString();
    }

    /// <summary>One code point outside ASCII that is neither a control nor one that hides or turns text around.</summary>
    private static bool TryTakeRune(ReadOnlySpan<byte> text, out int length)
    {
        if (Rune.DecodeFromUtf8(text, out Rune rune, out length) != OperationStatus.Done)
        {
            return false;
        }

        return Rune.GetUnicodeCategory(rune) is not (System.Globalization.UnicodeCategory.Control or System.Globalization.UnicodeCategory.LineSeparator
            or System.Globalization.UnicodeCategory.ParagraphSeparator or System.Globalization.UnicodeCategory.SpaceSeparator)
            && rune.Value is not (0x061C or 0x200E or 0x200F or 0xFEFF or (>= 0x202A and <= 0x202E) or (>= 0x2066 and <= 0x2069));
    }

    private static bool TryParseDomain(ReadOnlySpan<byte> text, bool allowUtf8, out string domain)
    {
        if (!text.IsEmpty && text[0] == (byte)'[')
        {
            return TryParseLiteral(text, out domain);
        }

        if (AddressCache.FindDomain(text) is { } known)
        {
            domain = known;
            return true;
        }

        if (!DomainName.TryNormalize(text, allowUtf8, out domain))
        {
            return false;
        }

        if (Ascii.Equals(text, domain))
        {
            AddressCache.Add(text, domain);
        }

        return true;
    }

    /// <summary>Address literals (RFC 5321 §4.1.3) in one form; general address literals are refused, no transport knows one.</summary>
    private static bool TryParseLiteral(ReadOnlySpan<byte> text, out string domain)
    {
        domain = "";
        if (text[^1] != (byte)']' || text.Length < 3)
        {
            return false;
        }

        ReadOnlySpan<byte> inner = text[1..^1];
        if (inner.Length > 5 && Ascii.EqualsIgnoreCase(inner[..5], "IPv6:"u8))
        {
            ReadOnlySpan<byte> six = inner[5..];
            if (six.ContainsAnyExcept(IPv6Text) || !IPAddress.TryParse(Encoding.ASCII.GetString(six), out IPAddress? ip)
                || ip.AddressFamily != AddressFamily.InterNetworkV6)
            {
                return false;
            }

            domain = $"[IPv6:{ip}]";
            return true;
        }

        if (!IsDottedQuad(inner))
        {
            return false;
        }

        domain = Encoding.ASCII.GetString(text);
        return true;
    }

    /// <summary>Four decimal numbers to 255 without leading zeros, which some read as octal.</summary>
    private static bool IsDottedQuad(ReadOnlySpan<byte> text)
    {
        int parts = 0;
        while (true)
        {
            int dot = text.IndexOf((byte)'.');
            ReadOnlySpan<byte> part = dot < 0 ? text : text[..dot];
            if (part.Length is 0 or > 3 || part.ContainsAnyExceptInRange((byte)'0', (byte)'9') || (part.Length > 1 && part[0] == (byte)'0'))
            {
                return false;
            }

            int value = 0;
            foreach (byte b in part)
            {
                value = (value * 10) + (b - '0');
            }

            parts++;
            if (value > 255 || parts > 4)
            {
                return false;
            }

            if (dot < 0)
            {
                return parts == 4;
            }

            text = text[(dot + 1)..];
        }
    }
}
