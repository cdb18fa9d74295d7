using System.Buffers;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// Command lines and their arguments (RFC 5321 §4.1.1). Pure: bytes in, values out; "need more" consumes nothing, and any split of the
/// same bytes gives the same result.
/// </summary>
public static partial class CommandParser
{
    private const byte Cr = (byte)'\r';
    private const byte Lf = (byte)'\n';

    /// <summary>
    /// Takes one line from the buffer. A line in one segment is a view of the buffer; one that straddles segments is copied to
    /// <paramref name="scratch"/>.
    /// </summary>
    /// <param name="buffer">What was received.</param>
    /// <param name="maxLength">Octets of a line with its CRLF.</param>
    /// <param name="scratch">At least <paramref name="maxLength"/> octets; may be reused once the line is done with.</param>
    /// <param name="line">The line without CRLF; empty unless <see cref="LineStatus.Line"/>.</param>
    /// <param name="consumed">Up to where the buffer is done with; its start for NeedMore and TooLong.</param>
    public static LineStatus TryReadLine(
        in ReadOnlySequence<byte> buffer, int maxLength, Span<byte> scratch, out ReadOnlySpan<byte> line, out SequencePosition consumed)
    {
        ReadOnlySpan<byte> first = buffer.FirstSpan;
        if (first.Length > maxLength)
        {
            first = first[..maxLength];
        }

        LineStatus status = ScanLine(first, out int lineLength, out int used);
        if (status != LineStatus.NeedMore)
        {
            line = first[..lineLength];
            consumed = buffer.GetPosition(used);
            return status;
        }

        if (buffer.IsSingleSegment || first.Length == maxLength)
        {
            line = default;
            consumed = buffer.Start;
            return first.Length == maxLength ? LineStatus.TooLong : LineStatus.NeedMore;
        }

        return ReadStraddlingLine(buffer, maxLength, scratch, out line, out consumed);
    }

    /// <summary>Drops octets up to and including the next CRLF, after anything but <see cref="LineStatus.Line"/>. True when the CRLF was found;
    /// false when all was dropped but a last CR whose LF may still come.</summary>
    public static bool DiscardLine(in ReadOnlySequence<byte> buffer, out SequencePosition consumed)
    {
        long position = 0;
        bool afterCr = false;
        foreach (ReadOnlyMemory<byte> memory in buffer)
        {
            ReadOnlySpan<byte> span = memory.Span;
            if (span.IsEmpty)
            {
                continue;
            }

            if (afterCr && span[0] == Lf)
            {
                consumed = buffer.GetPosition(position + 1);
                return true;
            }

            int end = span.IndexOf("\r\n"u8);
            if (end >= 0)
            {
                consumed = buffer.GetPosition(position + end + 2);
                return true;
            }

            afterCr = span[^1] == Cr;
            position += span.Length;
        }

        consumed = buffer.GetPosition(afterCr ? position - 1 : position);
        return false;
    }

    /// <summary>Splits a line into verb and arguments; the verb is not case-sensitive (RFC 5321 §2.4).</summary>
    public static SmtpCommand Parse(ReadOnlySpan<byte> line)
    {
        int space = line.IndexOf((byte)' ');
        ReadOnlySpan<byte> word = space < 0 ? line : line[..space];
        ReadOnlySpan<byte> arguments = space < 0 ? default : line[(space + 1)..].Trim((byte)' ');
        return new SmtpCommand(FindVerb(word), arguments, line);
    }

    private static LineStatus ReadStraddlingLine(
        in ReadOnlySequence<byte> buffer, int maxLength, Span<byte> scratch, out ReadOnlySpan<byte> line, out SequencePosition consumed)
    {
        int length = (int)Math.Min(buffer.Length, maxLength);
        Span<byte> copy = scratch[..length];
        buffer.Slice(0, length).CopyTo(copy);
        LineStatus status = ScanLine(copy, out int lineLength, out int used);
        if (status == LineStatus.NeedMore)
        {
            line = default;
            consumed = buffer.Start;
            return length == maxLength ? LineStatus.TooLong : LineStatus.NeedMore;
        }

        line = copy[..lineLength];
        consumed = buffer.GetPosition(used);
        return status;
    }

    /// <summary>
    /// Only CRLF ends a line. A bare CR, bare LF or NUL makes the line a violation, which lasts until the next CRLF: what is behind it was an
    /// address or a name for whoever sent the line, and would be a command of somebody else here.
    /// </summary>
    private static LineStatus ScanLine(ReadOnlySpan<byte> span, out int lineLength, out int used)
    {
        lineLength = 0;
        used = 0;
        int stop = span.IndexOfAny(Cr, Lf, (byte)0);
        if (stop < 0)
        {
            return LineStatus.NeedMore;
        }

        if (span[stop] == Cr && stop + 1 == span.Length)
        {
            return LineStatus.NeedMore;
        }

        if (span[stop] == Cr && span[stop + 1] == Lf)
        {
            lineLength = stop;
            used = stop + 2;
            return LineStatus.Line;
        }

        used = stop + 1;
        return span[stop] switch { Cr => LineStatus.BareCarriageReturn, Lf => LineStatus.BareLineFeed, _ => LineStatus.Nul };
    }

    private static SmtpVerb FindVerb(ReadOnlySpan<byte> word)
    {
        if (word.Length == 4)
        {
            uint key = Fold(word);
            return key switch
            {
                0x68656C6F => SmtpVerb.Helo,
                0x65686C6F => SmtpVerb.Ehlo,
                0x6D61696C => SmtpVerb.Mail,
                0x72637074 => SmtpVerb.Rcpt,
                0x64617461 => SmtpVerb.Data,
                0x62646174 => SmtpVerb.Bdat,
                0x72736574 => SmtpVerb.Rset,
                0x6E6F6F70 => SmtpVerb.Noop,
                0x68656C70 => SmtpVerb.Help,
                0x76726679 => SmtpVerb.Vrfy,
                0x6578706E => SmtpVerb.Expn,
                0x71756974 => SmtpVerb.Quit,
                0x61757468 => SmtpVerb.Auth,
                0x6C686C6F => SmtpVerb.Lhlo,
                0x6574726E => SmtpVerb.Etrn,
                _ => SmtpVerb.Unknown,
            };
        }

        return word.Length switch
        {
            8 when System.Text.Ascii.EqualsIgnoreCase(word, "starttls"u8) => SmtpVerb.StartTls,
            8 when System.Text.Ascii.EqualsIgnoreCase(word, "xforward"u8) => SmtpVerb.Xforward,
            7 when System.Text.Ascii.EqualsIgnoreCase(word, "xclient"u8) => SmtpVerb.Xclient,
            _ => SmtpVerb.Unknown,
        };
    }

    /// <summary>Four octets as a big-endian number with A to Z folded; other octets stay apart, so that "Ma\u0009l" is no verb.</summary>
    private static uint Fold(ReadOnlySpan<byte> word)
    {
        uint key = 0;
        foreach (byte b in word)
        {
            key = (key << 8) | (b is >= (byte)'A' and <= (byte)'Z' ? b | 0x20u : b);
        }

        return key;
    }
}
