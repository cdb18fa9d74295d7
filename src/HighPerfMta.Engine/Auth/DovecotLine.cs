using System.Text;

namespace HighPerfMta.Engine.Auth;

/// <summary>A line of Dovecot's auth protocol: fields with TABs between them; TAB, LF, CR, NUL and SOH in a field are escaped with SOH.</summary>
internal static class DovecotLine
{
    /// <summary>Octets of a line, as Dovecot bounds it (AUTH_CLIENT_MAX_LINE_LENGTH).</summary>
    public const int MaxLength = 8192;

    public static string Escape(string field)
    {
        StringBuilder text = new(field.Length);
        foreach (char c in field)
        {
            string? code = c switch { '\u0001' => "\u00011", '\t' => "\u0001t", '\r' => "\u0001r", '\n' => "\u0001n", '\0' => "\u00010", _ => null };
            _ = code is null ? text.Append(c) : text.Append(code);
        }

        return text.ToString();
    }

    public static string Unescape(string field)
    {
        StringBuilder text = new(field.Length);
        for (int i = 0; i < field.Length; i++)
        {
            if (field[i] != '\u0001' || i + 1 == field.Length)
            {
                text.Append(field[i]);
                continue;
            }

            text.Append(field[++i] switch { '1' => '\u0001', 't' => '\t', 'r' => '\r', 'n' => '\n', '0' => '\0', var other => other });
        }

        return text.ToString();
    }

    /// <summary>The value of <c>name=value</c> among fields; null when there is none.</summary>
    public static string? Find(string[] fields, string name)
    {
        foreach (string field in fields)
        {
            if (field.Length > name.Length && field[name.Length] == '=' && field.StartsWith(name, StringComparison.Ordinal))
            {
                return Unescape(field[(name.Length + 1)..]);
            }
        }

        return null;
    }
}
