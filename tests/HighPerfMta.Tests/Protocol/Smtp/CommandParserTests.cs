using System.Buffers;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class CommandParserTests
{
    private const int MaxLine = 32;

    [Theory]
    [InlineData("NOOP\r\nrest", LineStatus.Line, "NOOP", 6)]
    [InlineData("\r\n", LineStatus.Line, "", 2)]
    [InlineData("NOOP\r", LineStatus.NeedMore, "", 0)]
    [InlineData("NOOP", LineStatus.NeedMore, "", 0)]
    [InlineData("", LineStatus.NeedMore, "", 0)]
    [InlineData("NO\nOP\r\n", LineStatus.BareLineFeed, null, 3)]
    [InlineData("NO\n", LineStatus.BareLineFeed, null, 3)]
    [InlineData("NO\r\r\n", LineStatus.BareCarriageReturn, null, 3)]
    [InlineData("NO\rOP\r\nX", LineStatus.BareCarriageReturn, null, 3)]
    [InlineData("NO\0OP\r\nX", LineStatus.Nul, null, 3)]
    [InlineData("123456789012345678901234567890\r\n", LineStatus.Line, "123456789012345678901234567890", 32)]
    [InlineData("1234567890123456789012345678901\r\n", LineStatus.TooLong, "", 0)]
    public void A_line_is_the_same_in_any_split(string text, LineStatus status, string? line, int consumed)
    {
        byte[] octets = Encoding.Latin1.GetBytes(text);
        for (int split = 0; split <= octets.Length; split++)
        {
            ReadOnlySequence<byte> buffer = Sequence(octets[..split], octets[split..]);
            LineStatus found = CommandParser.TryReadLine(buffer, MaxLine, new byte[MaxLine], out ReadOnlySpan<byte> read, out SequencePosition end);
            Assert.Equal(status, found);
            Assert.Equal(consumed, Taken(buffer, end));
            if (line is not null)
            {
                Assert.Equal(line, Encoding.Latin1.GetString(read));
            }
        }
    }

    [Fact]
    public void Random_octets_in_one_and_in_three_segments_give_the_same() =>
        Gen.Select(Gen.Int[0, 4].Select(static i => (byte)"\r\na\0 "[i]).Array[0, 40], Gen.Int[0, 40], Gen.Int[0, 40]).Sample((octets, a, b) =>
        {
            int first = Math.Min(Math.Min(a, b), octets.Length);
            int second = Math.Min(Math.Max(a, b), octets.Length);
            ReadOnlySequence<byte> whole = new(octets);
            ReadOnlySequence<byte> parts = Sequence(octets[..first], octets[first..second], octets[second..]);
            LineStatus one = CommandParser.TryReadLine(whole, MaxLine, new byte[MaxLine], out ReadOnlySpan<byte> line, out SequencePosition end);
            LineStatus three = CommandParser.TryReadLine(parts, MaxLine, new byte[MaxLine], out ReadOnlySpan<byte> other, out SequencePosition otherEnd);
            Assert.Equal(one, three);
            Assert.Equal(line.ToArray(), other.ToArray());
            Assert.Equal(Taken(whole, end), Taken(parts, otherEnd));
            Assert.Equal(CommandParser.DiscardLine(whole, out end), CommandParser.DiscardLine(parts, out otherEnd));
            Assert.Equal(Taken(whole, end), Taken(parts, otherEnd));
        }, iter: 20_000);

    [Theory]
    [InlineData("mail FROM:<a@b>", SmtpVerb.Mail, "FROM:<a@b>")]
    [InlineData("EHLO  x ", SmtpVerb.Ehlo, "x")]
    [InlineData("StartTls", SmtpVerb.StartTls, "")]
    [InlineData("QUIT", SmtpVerb.Quit, "")]
    [InlineData("MAILX", SmtpVerb.Unknown, "")]
    [InlineData("GET / HTTP/1.1", SmtpVerb.Unknown, "/ HTTP/1.1")]
    [InlineData("", SmtpVerb.Unknown, "")]
    public void Verbs_are_not_case_sensitive(string line, SmtpVerb verb, string arguments)
    {
        SmtpCommand command = CommandParser.Parse(Encoding.ASCII.GetBytes(line));
        Assert.Equal(verb, command.Verb);
        Assert.Equal(arguments, Encoding.ASCII.GetString(command.Arguments));
    }

    [Theory]
    [InlineData("FROM:<a@b.example>", "a@b.example", null, BodyEncoding.SevenBit, false)]
    [InlineData("from: <a@B.Example>", "a@b.example", null, BodyEncoding.SevenBit, false)]
    [InlineData("FROM:<>", null, null, BodyEncoding.SevenBit, false)]
    [InlineData("FROM:<a@b> SIZE=1000 BODY=8BITMIME SMTPUTF8", "a@b", 1000L, BodyEncoding.EightBitMime, true)]
    [InlineData("FROM:<a@b>  body=7bit  size=0", "a@b", 0L, BodyEncoding.SevenBit, false)]
    [InlineData("FROM:<a@b> SIZE=99999999999999999999", "a@b", long.MaxValue, BodyEncoding.SevenBit, false)]
    [InlineData("FROM:<\"a > b\"@c>", "\"a > b\"@c", null, BodyEncoding.SevenBit, false)]
    [InlineData("FROM:<@x,@y:a@b>", "a@b", null, BodyEncoding.SevenBit, false)]
    public void Mail_that_is_right(string arguments, string? sender, long? size, BodyEncoding body, bool utf8)
    {
        Assert.Null(CommandParser.ParseMail(Encoding.UTF8.GetBytes(arguments), out MailParameters mail));
        Assert.Equal(sender, mail.Sender?.ToString());
        Assert.Equal(size, mail.Size);
        Assert.Equal(body, mail.Body);
        Assert.Equal(utf8, mail.SmtpUtf8);
    }

    [Theory]
    [InlineData("FROM:<a@b>", null)]
    [InlineData("FROM:<a@b> AUTH=<>", "<>")]
    [InlineData("FROM:<a@b> auth=c@D.example SIZE=1", "c@d.example")]
    [InlineData("FROM:<> AUTH=c+2Bd+3De@f", "c+d=e@f")]
    [InlineData("FROM:<a@b> AUTH=+22c+20d+22@f", "\"c d\"@f")]
    [InlineData("FROM:<a@b> AUTH=+C3+A4@f", "\u00E4@f")]
    public void The_submitter_is_decoded(string arguments, string? expected)
    {
        Assert.Null(CommandParser.ParseMail(Encoding.UTF8.GetBytes(arguments), out MailParameters mail));
        Assert.Equal(expected, mail.Submitter);
    }

    [Theory]
    [InlineData("", "501 5.5.4")]
    [InlineData("TO:<a@b>", "501 5.5.4")]
    [InlineData("FROM:a@b", "501 5.1.7")]
    [InlineData("FROM:<a@b", "501 5.1.7")]
    [InlineData("FROM:<a>", "501 5.1.7")]
    [InlineData("FROM:<postmaster>", "501 5.1.7")]
    [InlineData("FROM:<a@b>SIZE=1", "501 5.5.4")]
    [InlineData("FROM:<a@b> SIZE=-1", "501 5.5.4")]
    [InlineData("FROM:<a@b> SIZE=1 SIZE=1", "501 5.5.4")]
    [InlineData("FROM:<a@b> SIZE=", "501 5.5.4")]
    [InlineData("FROM:<a@b> BODY=9BIT", "501 5.5.4")]
    [InlineData("FROM:<a@b> BODY=BINARYMIME", "501 5.5.4")]
    [InlineData("FROM:<a@b> SMTPUTF8=yes", "501 5.5.4")]
    [InlineData("FROM:<a@b> RET=HDRS", "555 5.5.4")]
    [InlineData("FROM:<a@b> AUTH=<", "501 5.5.4")]
    [InlineData("FROM:<a@b> AUTH=a+2b@c", "501 5.5.4")]
    [InlineData("FROM:<a@b> AUTH=a+2", "501 5.5.4")]
    [InlineData("FROM:<a@b> AUTH=a+", "501 5.5.4")]
    [InlineData("FROM:<a@b> AUTH=\u00E4@b", "501 5.5.4")]
    [InlineData("FROM:<a@b> AUTH=postmaster", "501 5.5.4")]
    [InlineData("FROM:<ä@b>", "553 5.6.7")]
    [InlineData("FROM:<a@ä.example>", "553 5.6.7")]
    public void Mail_that_is_wrong(string arguments, string codes) =>
        Assert.Equal(codes, Codes(CommandParser.ParseMail(Encoding.UTF8.GetBytes(arguments), out _)));

    [Theory]
    [InlineData("TO:<a@b>", false, "a@b")]
    [InlineData("to: <Postmaster>", false, "postmaster")]
    [InlineData("TO:<a@[127.0.0.1]>", false, "a@[127.0.0.1]")]
    [InlineData("TO:<ä@münchen.example>", true, "ä@xn--mnchen-3ya.example")]
    public void Rcpt_that_is_right(string arguments, bool utf8, string recipient)
    {
        Assert.Null(CommandParser.ParseRcpt(Encoding.UTF8.GetBytes(arguments), utf8, out var address));
        Assert.Equal(recipient, address!.ToString());
    }

    [Theory]
    [InlineData("TO:<>", "501 5.1.3")]
    [InlineData("TO:a@b", "501 5.1.3")]
    [InlineData("FROM:<a@b>", "501 5.5.4")]
    [InlineData("TO:<a@b> NOTIFY=NEVER", "555 5.5.4")]
    [InlineData("TO:<ä@b>", "553 5.6.7")]
    [InlineData("TO:<a@b@c>", "501 5.1.3")]
    public void Rcpt_that_is_wrong(string arguments, string codes) =>
        Assert.Equal(codes, Codes(CommandParser.ParseRcpt(Encoding.UTF8.GetBytes(arguments), false, out _)));

    [Theory]
    [InlineData("0", 0, false, null)]
    [InlineData("1000 last", 1000, true, null)]
    [InlineData("9223372036854775806", long.MaxValue - 1, false, null)]
    [InlineData("9223372036854775807", 0, false, "501 5.5.4")]
    [InlineData("", 0, false, "501 5.5.4")]
    [InlineData("10 FIRST", 10, false, "501 5.5.4")]
    [InlineData("-1", 0, false, "501 5.5.4")]
    [InlineData("1 LAST x", 1, false, "501 5.5.4")]
    public void Bdat(string arguments, long size, bool last, string? codes)
    {
        Assert.Equal(codes, Codes(CommandParser.ParseBdat(Encoding.ASCII.GetBytes(arguments), out long found, out bool foundLast)));
        if (codes is null)
        {
            Assert.Equal(size, found);
            Assert.Equal(last, foundLast);
        }
    }

    [Fact]
    public void Nothing_is_allocated_per_command()
    {
        ReadOnlySequence<byte> buffer = new("MAIL FROM:<> SIZE=1000 BODY=8BITMIME\r\n"u8.ToArray());
        byte[] scratch = new byte[512];
        Assert.Equal(38, Once(buffer, scratch));
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            Once(buffer, scratch);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    private static long Once(in ReadOnlySequence<byte> buffer, byte[] scratch)
    {
        CommandParser.TryReadLine(buffer, 512, scratch, out ReadOnlySpan<byte> line, out SequencePosition end);
        SmtpCommand command = CommandParser.Parse(line);
        return CommandParser.ParseMail(command.Arguments, out _) is null ? Taken(buffer, end) : -1;
    }

    private static long Taken(in ReadOnlySequence<byte> buffer, SequencePosition end) => buffer.GetOffset(end) - buffer.GetOffset(buffer.Start);

    private static string? Codes(SmtpReply? reply) => reply is null ? null : $"{reply.Code} {reply.Enhanced}";

    internal static ReadOnlySequence<byte> Sequence(params byte[][] parts)
    {
        Piece first = new(parts[0], 0);
        Piece last = first;
        foreach (byte[] part in parts.Skip(1))
        {
            last = last.Append(part);
        }

        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Piece : ReadOnlySequenceSegment<byte>
    {
        public Piece(byte[] octets, long index)
        {
            Memory = octets;
            RunningIndex = index;
        }

        public Piece Append(byte[] octets)
        {
            Piece next = new(octets, RunningIndex + Memory.Length);
            Next = next;
            return next;
        }
    }
}
