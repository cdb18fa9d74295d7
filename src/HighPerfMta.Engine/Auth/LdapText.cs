using System.Globalization;
using System.Text;

namespace HighPerfMta.Engine.Auth;

/// <summary>Names of users on their way into filters and distinguished names.</summary>
internal static class LdapText
{
    /// <summary>A value in a filter (RFC 4515 §3).</summary>
    public static string EscapeFilter(string value)
    {
        StringBuilder text = new(value.Length);
        foreach (byte octet in Encoding.UTF8.GetBytes(value))
        {
            _ = octet is (byte)'*' or (byte)'(' or (byte)')' or (byte)'\\' or 0 or >= 0x80
                ? text.Append(CultureInfo.InvariantCulture, $"\\{octet:x2}")
                : text.Append((char)octet);
        }

        return text.ToString();
    }

    /// <summary>A value in a distinguished name (RFC 4514 §2.4): everything but letters, digits and a few others as hexadecimal pairs.</summary>
    public static string EscapeDn(string value)
    {
        StringBuilder text = new(value.Length);
        foreach (byte octet in Encoding.UTF8.GetBytes(value))
        {
            _ = char.IsAsciiLetterOrDigit((char)octet) || octet is (byte)'.' or (byte)'-' or (byte)'_' or (byte)'@'
                ? text.Append((char)octet)
                : text.Append(CultureInfo.InvariantCulture, $"\\{octet:x2}");
        }

        return text.ToString();
    }

    /// <summary>Puts a user in a template; {user}, {local} and {domain} are replaced in one pass, so that a name cannot bring a placeholder in.</summary>
    public static string Fill(string template, string user, Func<string, string> escape)
    {
        int at = user.LastIndexOf('@');
        StringBuilder text = new(template.Length + user.Length);
        for (int i = 0; i < template.Length; i++)
        {
            (string Name, string Value)? part = PlaceholderAt(template.AsSpan(i), user, at);
            _ = part is { } found ? text.Append(escape(found.Value)) : text.Append(template[i]);
            i += part is { } skipped ? skipped.Name.Length - 1 : 0;
        }

        return text.ToString();
    }

    private static (string, string)? PlaceholderAt(ReadOnlySpan<char> text, string user, int at) =>
        text.StartsWith("{user}") ? ("{user}", user)
        : text.StartsWith("{local}") ? ("{local}", at < 0 ? user : user[..at])
        : text.StartsWith("{domain}") ? ("{domain}", at < 0 ? "" : user[(at + 1)..])
        : null;
}
