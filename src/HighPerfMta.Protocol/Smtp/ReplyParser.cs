using System.Buffers;
using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// Reads replies of remote servers, which are hostile until shown otherwise: every dimension has a limit. LF alone is taken as
/// a line end, since old servers send it and nothing can be smuggled into a client that way.
/// </summary>
public static class ReplyParser
{
    /// <summary>Octets of a line with its end.</summary>
    public const int MaxLine = 2048;

    /// <summary>Octets of a reply.</summary>
    public const int MaxReply = 64 * 1024;

    /// <summary>Lines of a reply.</summary>
    public const int MaxLines = 500;

    /// <summary>Replies that most deliveries meet, so that the common case makes no objects.</summary>
    private static readonly PeerReply[] Common =
    [
        new(250, new EnhancedCode(2, 0, 0), "OK"), new(250, new EnhancedCode(2, 0, 0), "Ok"), new(250, EnhancedCode.None, "OK"),
        new(250, EnhancedCode.None, "Ok"), new(250, EnhancedCode.None, "ok"),
        new(250, new EnhancedCode(2, 1, 0), "Ok"), new(250, new EnhancedCode(2, 1, 0), "OK"), new(250, new EnhancedCode(2, 1, 0), "Sender OK"),
        new(250, new EnhancedCode(2, 1, 5), "Ok"), new(250, new EnhancedCode(2, 1, 5), "OK"), new(250, new EnhancedCode(2, 1, 5), "Recipient OK"),
        new(354, EnhancedCode.None, "End data with <CR><LF>.<CR><LF>"), new(354, EnhancedCode.None, "Start mail input; end with <CRLF>.<CRLF>"),
        new(354, EnhancedCode.None, "End data with <CR><LF>.<CR><LF>."), new(221, new EnhancedCode(2, 0, 0), "Bye"),
    ];

    /// <summary>Takes one reply from the buffer. Nothing is consumed unless the result is <see cref="ReplyStatus.Reply"/>.</summary>
    public static ReplyStatus TryRead(in ReadOnlySequence<byte> buffer, out PeerReply? reply, out SequencePosition consumed)
    {
        reply = null;
        consumed = buffer.Start;
        ReadOnlySpan<byte> first = buffer.FirstSpan;
        if (buffer.IsSingleSegment || first.IndexOf((byte)'\n') >= 4 && first.Length > 3 && first[3] != (byte)'-')
        {
            return Read(first, buffer, out reply, ref consumed);
        }

        int length = (int)Math.Min(buffer.Length, MaxReply + 1);
        byte[] copy = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            buffer.Slice(0, length).CopyTo(copy);
            return Read(copy.AsSpan(0, length), buffer, out reply, ref consumed);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(copy);
        }
    }

    private static ReplyStatus Read(ReadOnlySpan<byte> octets, in ReadOnlySequence<byte> buffer, out PeerReply? reply, ref SequencePosition consumed)
    {
        ReplyStatus status = Measure(octets, out int length, out int lines);
        reply = null;
        if (status == ReplyStatus.Reply)
        {
            reply = Build(octets[..length], lines);
            consumed = buffer.GetPosition(length);
        }

        return status;
    }

    /// <summary>Finds the end of the reply and checks its form; the verdict on a prefix never changes with what follows.</summary>
    private static ReplyStatus Measure(ReadOnlySpan<byte> octets, out int length, out int lines)
    {
        length = 0;
        lines = 0;
        while (true)
        {
            ReadOnlySpan<byte> rest = octets[length..];
            int lf = rest[..Math.Min(rest.Length, MaxLine)].IndexOf((byte)'\n');
            if (lf < 0)
            {
                return rest.Length >= MaxLine || octets.Length >= MaxReply ? ReplyStatus.TooLong : ReplyStatus.NeedMore;
            }

            ReadOnlySpan<byte> line = TrimEnd(rest[..lf]);
            if (!HasCode(line) || !line[..3].SequenceEqual(octets[..3]))
            {
                return ReplyStatus.Malformed;
            }

            length += lf + 1;
            lines++;
            if (length > MaxReply)
            {
                return ReplyStatus.TooLong;
            }

            if (line.Length == 3 || line[3] == (byte)' ')
            {
                return ReplyStatus.Reply;
            }

            if (lines == MaxLines)
            {
                return ReplyStatus.TooLong;
            }
        }
    }

    private static ReadOnlySpan<byte> TrimEnd(ReadOnlySpan<byte> line) => line is [.., (byte)'\r'] ? line[..^1] : line;

    private static bool HasCode(ReadOnlySpan<byte> line) =>
        line.Length >= 3 && line[0] is >= (byte)'2' and <= (byte)'5' && char.IsAsciiDigit((char)line[1]) && char.IsAsciiDigit((char)line[2])
        && (line.Length == 3 || line[3] is (byte)' ' or (byte)'-');

    private static PeerReply Build(ReadOnlySpan<byte> octets, int lines)
    {
        int code = ((octets[0] - '0') * 100) + ((octets[1] - '0') * 10) + octets[2] - '0';
        ReadOnlySpan<byte> line = NextLine(ref octets);
        EnhancedCode enhanced = TakeEnhanced(ref line, octets0: (byte)(code / 100));
        if (lines == 1)
        {
            return FindCommon(code, enhanced, line) ?? new PeerReply(code, enhanced, Clean(line, DeliveryOutcome.MaxText));
        }

        var all = new string[lines];
        var text = new StringBuilder();
        for (int i = 0; i < lines; i++)
        {
            all[i] = Clean(line, MaxLine);
            if (text.Length < DeliveryOutcome.MaxText)
            {
                text.Append(i > 0 && all[i].Length > 0 ? " " : "").Append(all[i]);
            }

            if (i + 1 < lines)
            {
                line = NextLine(ref octets);
                TakeEnhanced(ref line, (byte)(code / 100));
            }
        }

        text.Length = Cut(text.ToString(), DeliveryOutcome.MaxText);
        return new PeerReply(code, enhanced, text.ToString()) { Lines = all };
    }

    /// <summary>The text of the next line, without code and line end.</summary>
    private static ReadOnlySpan<byte> NextLine(ref ReadOnlySpan<byte> octets)
    {
        int lf = octets.IndexOf((byte)'\n');
        ReadOnlySpan<byte> line = TrimEnd(octets[..lf]);
        octets = octets[(lf + 1)..];
        return line.Length > 4 ? line[4..] : default;
    }

    /// <summary>Takes <c>class.subject.detail</c> off the text when its class agrees with the code (RFC 2034 §4, RFC 3463 §2).</summary>
    private static EnhancedCode TakeEnhanced(ref ReadOnlySpan<byte> text, byte octets0)
    {
        if (text.Length < 5 || text[0] != '0' + octets0 || text[1] != (byte)'.' || octets0 == 3)
        {
            return EnhancedCode.None;
        }

        ReadOnlySpan<byte> rest = text[2..];
        if (!TakeNumber(ref rest, out ushort subject) || rest.IsEmpty || rest[0] != (byte)'.')
        {
            return EnhancedCode.None;
        }

        rest = rest[1..];
        if (!TakeNumber(ref rest, out ushort detail) || !(rest.IsEmpty || rest[0] == (byte)' '))
        {
            return EnhancedCode.None;
        }

        text = rest.TrimStart((byte)' ');
        return new EnhancedCode(octets0, subject, detail);
    }

    private static bool TakeNumber(ref ReadOnlySpan<byte> text, out ushort number)
    {
        int digits = text.IndexOfAnyExceptInRange((byte)'0', (byte)'9');
        digits = digits < 0 ? text.Length : digits;
        number = 0;
        if (digits is 0 or > 3)
        {
            return false;
        }

        foreach (byte b in text[..digits])
        {
            number = (ushort)((number * 10) + (b - '0'));
        }

        text = text[digits..];
        return true;
    }

    private static PeerReply? FindCommon(int code, EnhancedCode enhanced, ReadOnlySpan<byte> text)
    {
        foreach (PeerReply reply in Common)
        {
            if (reply.Code == code && reply.Enhanced == enhanced && Ascii.Equals(text, reply.Text))
            {
                return reply;
            }
        }

        return null;
    }

    /// <summary>Text of at most <paramref name="limit"/> characters; controls, and octets that are not UTF-8, become "?".</summary>
    private static string Clean(ReadOnlySpan<byte> text, int limit)
    {
        if (text.IsEmpty)
        {
            return "";
        }

        string raw = Encoding.UTF8.GetString(text);
        int length = Cut(raw, limit);
        return string.Create(length, raw, static (target, source) =>
        {
            for (int i = 0; i < target.Length; i++)
            {
                char c = source[i];
                target[i] = IsHarmful(c) ? '?' : c;
            }
        });
    }

    private static int Cut(string text, int limit) =>
        text.Length <= limit ? text.Length : char.IsHighSurrogate(text[limit - 1]) ? limit - 1 : limit;

    private static bool IsHarmful(char c) =>
        char.IsControl(c) || c is '\uFFFD' or '\u2028' or '\u2029' or '\uFEFF' or '\u200E' or '\u200F' or (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069');
}
