using System.Buffers;
using System.Text;
using System.Text.RegularExpressions;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using HighPerfMta.TestKit;

namespace HighPerfMta.Fuzz;

public static partial class Targets
{
    /// <summary>The header scanner and the filter of hidden recipients against a reader of whole lines, in one piece, in pieces and octet by octet.</summary>
    private static void Header(byte[] octets)
    {
        SlowHeader slow = SlowHeader.Read(Encoding.Latin1.GetString(octets));
        foreach (int piece in (int[])[Math.Max(1, octets.Length), 1, 5])
        {
            HeaderScanner scanner = default;
            BccFilter filter = default;
            StringBuilder left = new();
            byte[] buffer = new byte[piece + BccFilter.Slack];
            for (int at = 0; at < octets.Length; at += piece)
            {
                ReadOnlySpan<byte> part = octets.AsSpan(at, Math.Min(piece, octets.Length - at));
                scanner.Feed(part);
                part.CopyTo(buffer);
                left.Append(Encoding.Latin1.GetString(buffer, 0, filter.Filter(buffer, part.Length)));
            }

            left.Append(Encoding.Latin1.GetString(buffer, 0, filter.Finish(buffer)));
            Require(scanner.InHeader != slow.Ended, "the header ends elsewhere");
            if (scanner.InHeader)
            {
                scanner.Finish();
            }

            Require(scanner.Seen == slow.Seen && scanner.Repeated == slow.Repeated && scanner.FieldCount == slow.Fields, "other fields are seen");
            Require(scanner.HasMalformedLine == slow.Malformed && scanner.Size == slow.Size, "a malformed line or an octet is missed or invented");
            Require(scanner.LongestLine == slow.LongestLine && scanner.HasEightBit == slow.EightBit, "another longest line, or an octet above 127 is missed or invented");
            Require(left.ToString() == slow.WithoutBcc, "more or less than hidden recipients is taken out");
        }
    }

    /// <summary>DATA in pieces, the size of which the input says, against DATA in one piece.</summary>
    private static void Dots(byte[] octets)
    {
        byte[] input = [.. octets, .. "\r\n.\r\nbehind"u8];
        int piece = octets.Length == 0 ? 1 : 1 + (octets[0] % 7);
        DotReader whole = new(64), parts = new(64);
        byte[] output = new byte[input.Length + 2], pieces = new byte[input.Length + (2 * input.Length) + 2];
        Require(whole.Read(input, output, out int consumed, out int written) == DotStatus.End, "no end");
        int taken = 0, filled = 0;
        DotStatus status = DotStatus.NeedMore;
        while (status == DotStatus.NeedMore && taken < input.Length)
        {
            status = parts.Read(input.AsSpan(taken, Math.Min(piece, input.Length - taken)), pieces.AsSpan(filled), out int more, out int wrote);
            taken += more;
            filled += wrote;
        }

        Require(status == DotStatus.End && taken == consumed, "a split moves the end");
        Require(whole.Violation == parts.Violation, "a split changes the violation");
        Require(whole.IsViolated || output.AsSpan(0, written).SequenceEqual(pieces.AsSpan(0, filled)), "a split changes the text");
    }

    /// <summary>Lines and verbs against a reader of text: what a line is, which verb, what BDAT and simple paths say.</summary>
    private static void CommandText(byte[] octets)
    {
        string text = Encoding.Latin1.GetString(octets);
        LineStatus status = CommandParser.TryReadLine(new ReadOnlySequence<byte>(octets), MaxLine, new byte[MaxLine], out ReadOnlySpan<byte> line, out _);
        int stop = text.AsSpan(0, Math.Min(text.Length, MaxLine)).IndexOfAny('\r', '\n', '\0');
        bool isCut = stop < 0 || (text[stop] == '\r' && stop + 1 == Math.Min(text.Length, MaxLine));
        LineStatus expected = isCut ? (text.Length >= MaxLine ? LineStatus.TooLong : LineStatus.NeedMore)
            : text[stop] == '\0' ? LineStatus.Nul
            : text[stop] == '\n' ? LineStatus.BareLineFeed
            : text[stop + 1] == '\n' ? LineStatus.Line : LineStatus.BareCarriageReturn;
        Require(status == expected, $"{status}, not {expected}");
        if (status != LineStatus.Line)
        {
            return;
        }

        Require(line.Length == stop, "the line ends elsewhere");
        SmtpCommand command = CommandParser.Parse(line);
        string[] words = text[..stop].Split(' ', 2);
        Require(command.Verb == (Enum.TryParse(words[0], ignoreCase: true, out SmtpVerb verb) && words[0].All(char.IsAsciiLetter) ? verb : SmtpVerb.Unknown), "another verb");
        string arguments = words.Length > 1 ? words[1].Trim(' ') : "";
        Require(Encoding.Latin1.GetString(command.Arguments) == arguments, "other arguments");
        Match chunk = Bdat().Match(arguments);
        bool isChunk = long.TryParse(chunk.Groups[1].Value, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out long said) && said < long.MaxValue;
        Require(CommandParser.ParseBdat(command.Arguments, out long size, out bool last) is null == isChunk, "a chunk is taken or refused");
        Require(!isChunk || (size == said && last == chunk.Groups[2].Success), "another chunk");
        if (SimpleRcpt().Match(arguments) is { Success: true } simple)
        {
            Require(CommandParser.ParseRcpt(command.Arguments, true, out EmailAddress? recipient) is null, "a simple path is refused");
            Require(recipient!.ToString() == $"{simple.Groups[1].Value}@{simple.Groups[2].Value}", "another path");
        }
    }

    /// <summary>A record that is read, written again and read again says the same; one that is cut is read or refused.</summary>
    private static void EnvelopeRecord(byte[] octets)
    {
        Decode(() =>
        {
            AcceptedRecord read = AcceptedCodec.Read(1, octets);
            RecordWriter writer = new(256);
            try
            {
                AcceptedCodec.Write(ref writer, read.Envelope, read.ChunkOwner, read.Chunks);
                AcceptedRecord again = AcceptedCodec.Read(1, writer.Written.Span);
                Require(Told(read) == Told(again), $"a record changes by being written: {Told(read)} to {Told(again)}");
                RequireClean(read.Envelope.Sender);
            }
            finally
            {
                writer.Dispose();
            }
        });
        for (int length = 0; length < octets.Length; length += 1 + (octets.Length / 64))
        {
            Decode(() => AcceptedCodec.Read(1, octets.AsSpan(0, length)));
        }
    }

    private static string Told(in AcceptedRecord record)
    {
        Envelope e = record.Envelope;
        return string.Join('|', e.Sender, string.Join(',', e.Recipients.Select(static r => r.ToString())), e.ReceivedAt.Ticks, e.Body, e.SmtpUtf8, e.ClientAddress, e.HeloName, e.Tls, e.Forwarded, e.User, e.Submitter,
            record.Chunks.Length > 0 ? record.ChunkOwner : 0, string.Join(',', record.Chunks.Select(static (RecordRef c) => c.ToString())));
    }

    [GeneratedRegex("^([0-9]{1,20})(?: +([Ll][Aa][Ss][Tt]))?$")]
    private static partial Regex Bdat();

    [GeneratedRegex("^[Tt][Oo]:<([a-zA-Z0-9]{1,20})@([a-z0-9]{1,20}\\.[a-z]{2,10})>$")]
    private static partial Regex SimpleRcpt();
}
