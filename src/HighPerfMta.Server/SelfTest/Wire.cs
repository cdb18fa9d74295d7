using System.Globalization;
using System.Text;

namespace HighPerfMta.Server.SelfTest;

/// <summary>Octets as text for people: what a server says must not reach a terminal as it is.</summary>
internal static class Wire
{
    /// <summary>Printable ASCII stays, everything else and the backslash becomes an escape; long text is cut in its middle.</summary>
    /// <param name="latin1">Octets as Latin-1.</param>
    /// <param name="most">Characters of the result, about.</param>
    public static string Escape(string latin1, int most = 160)
    {
        StringBuilder text = new();
        if (latin1.Length > most)
        {
            latin1 = $"{latin1[..(most / 2)]}\u0000{latin1[^(most / 2)..]}";
        }

        bool cut = latin1.Length > most;
        for (int i = 0; i < latin1.Length; i++)
        {
            _ = cut && i == most / 2 ? text.Append(" ... ") : Append(text, latin1[i]);
        }

        return text.ToString();
    }

    private static StringBuilder Append(StringBuilder text, char c) => c switch
    {
        '\r' => text.Append("\\r"),
        '\n' => text.Append("\\n"),
        '\\' => text.Append("\\\\"),
        >= ' ' and <= '~' => text.Append(c),
        _ => text.Append("\\x").Append(((int)c).ToString("x2", CultureInfo.InvariantCulture)),
    };
}
