using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// A path of an envelope with places: <c>{n}</c> is the message's number, <c>{r}</c> the recipient's; <c>{n/D}</c>, <c>{n%M}</c> and <c>{n/D%M}</c> (and the same of
/// <c>r</c>) divide first and then take the remainder, which spreads messages over domains: <c>user{n}@d{n%1000}.example</c>.
/// </summary>
internal sealed class PathTemplate
{
    /// <summary>Octets that a place takes at most.</summary>
    private const int NumberLength = 20;

    private readonly List<Part> _parts = [];

    private PathTemplate()
    {
    }

    private readonly record struct Part(byte[] Text, char Number, long Divisor, long Modulus);

    /// <summary>Octets of the longest path.</summary>
    public int MaxLength => _parts.Sum(p => p.Number == 0 ? p.Text.Length : NumberLength);

    /// <summary>False with a sentence in <paramref name="error"/> when a brace holds none of the places.</summary>
    public static bool TryParse(string text, out PathTemplate template, out string error)
    {
        template = new PathTemplate();
        error = $"'{text}': places are {{n}}, {{r}}, {{n/D}}, {{n%M}} and {{n/D%M}} with numbers from 1 on";
        var at = 0;
        while (at < text.Length)
        {
            var open = text.IndexOf('{', at);
            var literal = open < 0 ? text[at..] : text[at..open];
            if (literal.Length > 0)
            {
                template._parts.Add(new Part(Encoding.UTF8.GetBytes(literal), default, 1, 0));
            }

            if (open < 0)
            {
                break;
            }

            var close = text.IndexOf('}', open);
            if (close < 0 || !TryParsePlace(text.AsSpan((open + 1)..close), out var part))
            {
                return false;
            }

            template._parts.Add(part);
            at = close + 1;
        }

        return true;
    }

    /// <exception cref="FormatException">A brace holds none of the places.</exception>
    public static PathTemplate Parse(string text) => TryParse(text, out var template, out var error) ? template : throw new FormatException(error);

    /// <summary>Writes the path of a message's recipient; the octets written, at most <see cref="MaxLength"/>.</summary>
    public int Write(Span<byte> path, long sequence, int recipient)
    {
        var length = 0;
        foreach (var part in _parts)
        {
            if (part.Number == 0)
            {
                part.Text.CopyTo(path[length..]);
                length += part.Text.Length;
                continue;
            }

            var number = (part.Number == 'n' ? sequence : recipient) / part.Divisor;
            Utf8Formatter.TryFormat(part.Modulus == 0 ? number : number % part.Modulus, path[length..], out var written);
            length += written;
        }

        return length;
    }

    private static bool TryParsePlace(ReadOnlySpan<char> place, out Part part)
    {
        part = default;
        if (place.Length == 0 || place[0] is not ('n' or 'r'))
        {
            return false;
        }

        long divisor = 1, modulus = 0;
        var rest = place[1..];
        var percent = rest.IndexOf('%');
        if (percent >= 0)
        {
            if (!TryParseNumber(rest[(percent + 1)..], out modulus))
            {
                return false;
            }

            rest = rest[..percent];
        }

        if (rest.Length > 0 && (rest[0] != '/' || !TryParseNumber(rest[1..], out divisor)))
        {
            return false;
        }

        part = new Part([], place[0], divisor, modulus);
        return true;
    }

    private static bool TryParseNumber(ReadOnlySpan<char> digits, out long number) =>
        long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number > 0;
}
