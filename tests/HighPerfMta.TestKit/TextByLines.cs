using System.Text;

namespace HighPerfMta.TestKit;

/// <summary>What DATA means, as RFC 5321 tells it: split at CRLF, a line of one dot ends, one leading dot goes; a CR, LF or NUL left in a line is bad.</summary>
public static class TextByLines
{
    /// <param name="wire">Octets as Latin-1, with an end of the message among them.</param>
    /// <param name="maxLine">Octets of a line without CRLF and without stuffing.</param>
    /// <returns>The text; how many octets there were up to its end; whether it is bad.</returns>
    public static (string Text, int End, bool Bad) Read(string wire, int maxLine = int.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(wire);
        StringBuilder text = new();
        bool bad = false;
        for (int at = 0; ;)
        {
            int crlf = wire.IndexOf("\r\n", at, StringComparison.Ordinal);
            string line = wire[at..crlf];
            at = crlf + 2;
            if (line == ".")
            {
                return (text.ToString(), at, bad);
            }

            line = line.StartsWith('.') ? line[1..] : line;
            bad |= line.Length > maxLine || line.AsSpan().ContainsAny('\r', '\n', '\0');
            text.Append(line).Append("\r\n");
        }
    }
}
