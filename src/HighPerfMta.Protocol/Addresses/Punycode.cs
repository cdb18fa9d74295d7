using System.Globalization;
using System.Text;

namespace HighPerfMta.Protocol.Addresses;

/// <summary>
/// U-label to A-label (RFC 5891 §4, RFC 3492). The platform's IdnMapping throws on hostile input and depends on
/// installed culture data; this does neither.
/// </summary>
internal static class Punycode
{
    private const int Base = 36;
    private const int TMin = 1;
    private const int TMax = 26;

    /// <summary>Appends the A-label of one label in UTF-8. False when it is not UTF-8, holds a code point that domains cannot, or becomes too long.</summary>
    public static bool TryAppendALabel(StringBuilder result, ReadOnlySpan<byte> utf8)
    {
        Span<int> points = stackalloc int[DomainName.MaxLabel];
        int count = 0;
        while (!utf8.IsEmpty)
        {
            if (Rune.DecodeFromUtf8(utf8, out Rune rune, out int used) != System.Buffers.OperationStatus.Done || count == points.Length)
            {
                return false;
            }

            rune = Rune.ToLowerInvariant(rune);
            if (!IsAllowed(rune))
            {
                return false;
            }

            points[count++] = rune.Value;
            utf8 = utf8[used..];
        }

        points = points[..count];
        if (!HasValidShape(points))
        {
            return false;
        }

        int start = result.Length;
        result.Append("xn--");
        return TryEncode(points, result) && result.Length - start <= DomainName.MaxLabel;
    }

    /// <summary>RFC 5891 §4.2.3: hyphens not at the ends nor in the third and fourth place, no leading combining mark.</summary>
    private static bool HasValidShape(ReadOnlySpan<int> points)
    {
        if (points[0] == '-' || points[^1] == '-' || (points.Length > 3 && points[2] == '-' && points[3] == '-'))
        {
            return false;
        }

        return Rune.GetUnicodeCategory(new Rune(points[0])) is not (UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark);
    }

    /// <summary>Letters, marks and digits, as RFC 5892 §2.1 (LetterDigits) after case folding, and its exceptions that need no context.</summary>
    private static bool IsAllowed(Rune rune)
    {
        if (rune.IsAscii)
        {
            return rune.Value == '-' || char.IsAsciiLetterOrDigit((char)rune.Value);
        }

        return Rune.GetUnicodeCategory(rune) switch
        {
            UnicodeCategory.LowercaseLetter or UnicodeCategory.OtherLetter or UnicodeCategory.ModifierLetter
                or UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.DecimalDigitNumber => true,
            _ => rune.Value is 0x00B7 or 0x0375 or 0x05F3 or 0x05F4 or 0x30FB or 0x06FD or 0x06FE or 0x0F0B or 0x3007,
        };
    }

    private static bool TryEncode(ReadOnlySpan<int> points, StringBuilder result)
    {
        int n = 128, delta = 0, bias = 72, handled = 0;
        foreach (int point in points)
        {
            if (point < 128)
            {
                result.Append((char)point);
                handled++;
            }
        }

        int basic = handled;
        if (basic > 0)
        {
            result.Append('-');
        }

        while (handled < points.Length)
        {
            int next = int.MaxValue;
            foreach (int point in points)
            {
                if (point >= n && point < next)
                {
                    next = point;
                }
            }

            // At most 63 code points of at most 0x10FFFF: the product stays below 2^27.
            delta += (next - n) * (handled + 1);
            n = next;
            foreach (int point in points)
            {
                if (point < n)
                {
                    delta++;
                }
                else if (point == n)
                {
                    AppendDelta(result, delta, bias);
                    bias = Adapt(delta, handled + 1, handled == basic);
                    delta = 0;
                    handled++;
                }
            }

            delta++;
            n++;
        }

        return true;
    }

    private static void AppendDelta(StringBuilder result, int delta, int bias)
    {
        int q = delta;
        for (int k = Base; ; k += Base)
        {
            int t = k <= bias ? TMin : k >= bias + TMax ? TMax : k - bias;
            if (q < t)
            {
                break;
            }

            result.Append(Digit(t + ((q - t) % (Base - t))));
            q = (q - t) / (Base - t);
        }

        result.Append(Digit(q));
    }

    private static char Digit(int d) => (char)(d < 26 ? 'a' + d : '0' + d - 26);

    private static int Adapt(int delta, int points, bool first)
    {
        delta = first ? delta / 700 : delta / 2;
        delta += delta / points;
        int k = 0;
        while (delta > (Base - TMin) * TMax / 2)
        {
            delta /= Base - TMin;
            k += Base;
        }

        return k + ((Base - TMin + 1) * delta / (delta + 38));
    }
}
