using System.Buffers;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class ReplyParserTests
{
    [Theory]
    [InlineData("250 OK\r\n", 250, "", "OK", 8)]
    [InlineData("250 2.1.5 Recipient OK\r\nrest", 250, "2.1.5", "Recipient OK", 24)]
    [InlineData("250\r\n", 250, "", "", 5)]
    [InlineData("250 \n", 250, "", "", 5)]
    [InlineData("550-5.1.1 No such\r\n550 5.1.1 user\r\n", 550, "5.1.1", "No such user", 35)]
    [InlineData("550 4.1.1 class disagrees\r\n", 550, "", "4.1.1 class disagrees", 27)]
    [InlineData("550 5.1.1234 no code\r\n", 550, "", "5.1.1234 no code", 22)]
    [InlineData("450 4.7.1\r\n", 450, "4.7.1", "", 11)]
    [InlineData("550 a\tb\u0001c\u001b[31m\r\n", 550, "", "a?b?c?[31m", 16)]
    [InlineData("550 \u202Eevil\r\n", 550, "", "?evil", 13)]
    public void A_reply_is_the_same_in_any_split(string text, int code, string enhanced, string words, int length)
    {
        byte[] octets = Encoding.UTF8.GetBytes(text);
        for (int split = 0; split <= octets.Length; split++)
        {
            ReadOnlySequence<byte> buffer = CommandParserTests.Sequence(octets[..split], octets[split..]);
            Assert.Equal(ReplyStatus.Reply, ReplyParser.TryRead(buffer, out PeerReply? reply, out SequencePosition consumed));
            Assert.Equal(code, reply!.Code);
            Assert.Equal(enhanced, reply.Enhanced.ToString());
            Assert.Equal(words, reply.Text);
            Assert.Equal(length, buffer.GetOffset(consumed) - buffer.GetOffset(buffer.Start));
        }
    }

    [Theory]
    [InlineData("HTTP/1.1 400 Bad Request\r\n", ReplyStatus.Malformed)]
    [InlineData("250?OK\r\n", ReplyStatus.Malformed)]
    [InlineData("150 OK\r\n", ReplyStatus.Malformed)]
    [InlineData("650 OK\r\n", ReplyStatus.Malformed)]
    [InlineData("25\r\n", ReplyStatus.Malformed)]
    [InlineData("\r\n", ReplyStatus.Malformed)]
    [InlineData("250-a\r\n550 b\r\n", ReplyStatus.Malformed)]
    [InlineData("250-a\r\n250-b\r\n", ReplyStatus.NeedMore)]
    [InlineData("250 OK\r", ReplyStatus.NeedMore)]
    [InlineData("", ReplyStatus.NeedMore)]
    public void What_is_no_reply_or_not_yet(string text, ReplyStatus status)
    {
        ReadOnlySequence<byte> buffer = new(Encoding.ASCII.GetBytes(text));
        Assert.Equal(status, ReplyParser.TryRead(buffer, out PeerReply? reply, out SequencePosition consumed));
        Assert.Null(reply);
        Assert.Equal(0, buffer.GetOffset(consumed));
    }

    [Fact]
    public void Endless_lines_and_endless_replies_are_too_long()
    {
        Assert.Equal(ReplyStatus.TooLong, Try(new string('x', ReplyParser.MaxLine).Insert(0, "250 ")));
        Assert.Equal(ReplyStatus.TooLong, Try(string.Concat(Enumerable.Repeat("250-a\r\n", ReplyParser.MaxLines))));
        Assert.Equal(ReplyStatus.TooLong, Try(string.Concat(Enumerable.Repeat("250-" + new string('a', 1500) + "\r\n", 60))));
    }

    [Fact]
    public void Random_octets_in_two_segments_give_the_same_and_texts_are_clean() =>
        Gen.Select(Gen.Int[0, 9].Select(static i => "25 -\r\n.1aß"[i]).Array[0, 30], Gen.Int[0, 60]).Sample((chars, at) =>
        {
            byte[] octets = Encoding.UTF8.GetBytes(chars);
            int split = Math.Min(at, octets.Length);
            ReplyStatus one = ReplyParser.TryRead(new ReadOnlySequence<byte>(octets), out PeerReply? whole, out _);
            ReplyStatus two = ReplyParser.TryRead(CommandParserTests.Sequence(octets[..split], octets[split..]), out PeerReply? parts, out _);
            Assert.Equal(one, two);
            Assert.Equal(whole?.ToString(), parts?.ToString());
            Assert.DoesNotContain(whole?.Text ?? "", char.IsControl);
        }, iter: 20_000);

    [Fact]
    public void Capabilities_are_those_of_ehlo()
    {
        const string ehlo = "250-mx.example greets\r\n250-pipelining\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n250-BinaryMime\r\n250 DSN\r\n";
        ReplyParser.TryRead(new ReadOnlySequence<byte>(Encoding.ASCII.GetBytes(ehlo)), out PeerReply? reply, out _);
        PeerCapabilities can = PeerCapabilities.Parse(reply!);
        Assert.True(can is { Esmtp: true, Pipelining: true, EightBitMime: true, SmtpUtf8: true, Chunking: true, EnhancedStatusCodes: true, StartTls: true, Dsn: true, BinaryMime: true, Size: 1000 });
        ReplyParser.TryRead(new ReadOnlySequence<byte>("250-PIPELINING\r\n250 SIZE\r\n"u8.ToArray()), out reply, out _);
        can = PeerCapabilities.Parse(reply!);
        Assert.True(can is { Pipelining: false, Size: null });
    }

    [Fact]
    public void A_usual_reply_allocates_nothing()
    {
        ReadOnlySequence<byte> buffer = new("250 2.1.5 Ok\r\n"u8.ToArray());
        Assert.Equal(ReplyStatus.Reply, ReplyParser.TryRead(buffer, out _, out _));
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            ReplyParser.TryRead(buffer, out _, out _);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void Ids_are_read_back_and_sort_as_they_rise() =>
        Gen.Select(Gen.ULong, Gen.ULong).Sample((a, b) =>
        {
            MessageId one = new(a);
            MessageId two = new(b);
            Assert.True(MessageId.TryParse(one.ToString(), out MessageId again));
            Assert.Equal(one, again);
            Assert.True(MessageId.TryParse(one.ToString().ToLowerInvariant(), out again));
            Assert.Equal(one, again);
            Assert.Equal(Math.Sign(a.CompareTo(b)), Math.Sign(string.CompareOrdinal(one.ToString(), two.ToString())));
            Span<byte> octets = stackalloc byte[MessageId.TextLength];
            one.Format(octets);
            Assert.Equal(one.ToString(), Encoding.ASCII.GetString(octets));
        });

    [Theory]
    [InlineData("")]
    [InlineData("1M859F1E8000")]
    [InlineData("1M859F1E800000")]
    [InlineData("1M859F1E8000U")]
    [InlineData("ZZZZZZZZZZZZZ")]
    public void What_is_no_id(string text) => Assert.False(MessageId.TryParse(text, out _));

    private static ReplyStatus Try(string text) => ReplyParser.TryRead(new ReadOnlySequence<byte>(Encoding.ASCII.GetBytes(text)), out _, out _);
}
