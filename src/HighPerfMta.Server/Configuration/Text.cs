using System.Text;

namespace HighPerfMta.Server.Configuration;

/// <summary>Text of others on its way to a terminal or a log.</summary>
internal static class Text
{
    /// <summary>Control characters, line ends included, and what reorders text on a terminal are shown as <c>\u001B</c>.</summary>
    public static string OneLine(string text)
    {
        int first = 0;
        while (first < text.Length && !IsUnsafe(text[first]))
        {
            first++;
        }

        if (first == text.Length)
        {
            return text;
        }

        StringBuilder clean = new(text.Length + 16);
        foreach (char c in text)
        {
            if (IsUnsafe(c))
            {
                clean.Append("\\u").Append(((int)c).ToString("X4", System.Globalization.CultureInfo.InvariantCulture));
            }
            else
            {
                clean.Append(c);
            }
        }

        return clean.ToString();
    }

    private static bool IsUnsafe(char c) =>
        char.IsControl(c) || c is '\u2028' or '\u2029' or (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069') or '\u200E' or '\u200F';
}
