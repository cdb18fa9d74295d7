using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.TestKit;

/// <summary>A header read line by line: slow and obvious, to compare with. Lines end with LF here; what else is wrong with line ends is not the header's matter.</summary>
public sealed partial record SlowHeader(HeaderFields Seen, HeaderFields Repeated, int Fields, bool Malformed, int Size, int LongestLine, bool EightBit, bool Ended, string WithoutBcc)
{
    private static readonly Dictionary<string, HeaderFields> Names = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Date"] = HeaderFields.Date,
        ["From"] = HeaderFields.From,
        ["Sender"] = HeaderFields.Sender,
        ["Reply-To"] = HeaderFields.ReplyTo,
        ["To"] = HeaderFields.To,
        ["Cc"] = HeaderFields.Cc,
        ["Bcc"] = HeaderFields.Bcc,
        ["Message-ID"] = HeaderFields.MessageId,
        ["In-Reply-To"] = HeaderFields.InReplyTo,
        ["References"] = HeaderFields.References,
        ["Subject"] = HeaderFields.Subject,
        ["Received"] = HeaderFields.Received,
        ["DKIM-Signature"] = HeaderFields.Signature,
        ["ARC-Seal"] = HeaderFields.Signature,
        ["Resent-Bcc"] = HeaderFields.ResentBcc,
    };

    /// <summary>Reads the header of a message, given as Latin-1 text.</summary>
    public static SlowHeader Read(string message)
    {
        ArgumentNullException.ThrowIfNull(message);
        HeaderFields seen = HeaderFields.None, repeated = HeaderFields.None;
        (List<string> lines, string rest) = Split(message);
        int fields = 0, size = 0, longest = 0;
        bool malformed = false, drops = false, ended = false;
        List<string> left = [];
        foreach (string line in lines)
        {
            bool isField = line is not ("\r\n" or "\r") && line[0] is not (' ' or '\t');
            malformed |= line[0] is ' ' or '\t' && fields == 0;
            if (isField)
            {
                string name = line.Contains(':', StringComparison.Ordinal) ? line[..line.IndexOf(':', StringComparison.Ordinal)].TrimEnd(' ', '\t') : "";
                HeaderFields field = Names.GetValueOrDefault(name);
                bool isBad = name.Length is 0 or > 254 || name.Any(static c => c is < '!' or > '~');
                malformed |= isBad;
                fields += malformed ? 0 : 1;
                field = isBad ? HeaderFields.None : field;
                repeated |= seen & field;
                seen |= field;
            }

            size += malformed ? 0 : line.Length;
            longest = malformed || line == "\r\n" ? longest : Math.Max(longest, line.TrimEnd('\n').Length);
            if (line[0] is not (' ' or '\t'))
            {
                ended |= line[0] == '\n';
                drops = !ended && (Begins(line, "Bcc") || Begins(line, "Resent-Bcc"));
            }

            left.AddRange(drops ? [] : [line]);
        }

        return new SlowHeader(seen, repeated, fields, malformed, size, longest, lines.Any(static l => !Ascii.IsValid(l)), lines.LastOrDefault() == "\r\n", string.Concat(left) + rest);
    }

    private static bool Begins(string line, string name) => line.StartsWith(name, StringComparison.OrdinalIgnoreCase) && Colon().IsMatch(line.AsSpan(name.Length));

    [GeneratedRegex("^[ \t]{0,3}:")]
    private static partial Regex Colon();

    private static (List<string> Lines, string Behind) Split(string text)
    {
        List<string> lines = [];
        for (int at = 0; at < text.Length;)
        {
            int lf = text.IndexOf('\n', at);
            string line = lf < 0 ? text[at..] : text[at..(lf + 1)];
            at += line.Length;
            lines.Add(line);
            if (line == "\r\n")
            {
                return (lines, text[at..]);
            }
        }

        return (lines, "");
    }
}
