using System.Security.Cryptography;
using HighPerfMta.LoadGen.Commands;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.Tests.LoadGen;

public class MessageTests
{
    private static readonly MessageMark Mark = new(0xfeed1234, 77, 123456789);

    [Theory]
    [InlineData(1, 320)]
    [InlineData(1024, 1024)]
    [InlineData(10 * 1024, 10 * 1024)]
    [InlineData(100 * 1024, 100 * 1024)]
    [InlineData(79_872, 79_872)]
    [InlineData(300_001, 300_001)]
    public void The_wire_form_unstuffs_to_a_message_of_the_wanted_size(long wanted, long size)
    {
        for (var variant = 0; variant < 8; variant++)
        {
            var body = new MessageBody(wanted, variant);
            var wire = Wire(body);

            Assert.EndsWith("\r\n.\r\n", wire, StringComparison.Ordinal);
            var message = Unstuff(wire);
            Assert.Equal(size, message.Length);
            Assert.Equal(size, body.Size);
            Assert.All(message.Split("\r\n"), line => Assert.InRange(line.Length, 0, 998));
            Assert.DoesNotContain("\r", message.Replace("\r\n", "", StringComparison.Ordinal), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_hash_is_that_of_the_unstuffed_message()
    {
        var body = new MessageBody(200_000, 3);

        Assert.Equal(SHA256.HashData(System.Text.Encoding.ASCII.GetBytes(Unstuff(Wire(body)))), body.Hash(Field()));
    }

    [Theory]
    [InlineData("")]
    [InlineData("X-Hpload-Id: ")]
    [InlineData("X-Hpload-Id: feed1234-000000000000004d_00000000075bcd15")]
    [InlineData("X-Hpload-Id: feed123g-000000000000004d 00000000075bcd15")]
    [InlineData("Subject: x")]
    public void What_is_no_mark_is_not_read_as_one(string line) =>
        Assert.False(MessageMark.TryRead(System.Text.Encoding.ASCII.GetBytes(line), out _));

    [Fact]
    public void The_scanner_finds_mark_and_hash_in_every_split_and_behind_other_fields()
    {
        var message = Unstuff(Wire(new MessageBody(400, 3)));
        var received = System.Text.Encoding.ASCII.GetBytes("Received: from a by b;\r\n\tThu, 01 Jan 2026 00:00:00 +0000\r\n" + message);
        using var scanner = new ContentScanner(hashing: true);
        for (var split = 0; split <= received.Length; split++)
        {
            scanner.Reset();
            scanner.Feed(received.AsSpan(0, split));
            scanner.Feed(received.AsSpan(split));

            Assert.Equal(Mark, scanner.Mark);
            Assert.Equal(received.Length, scanner.Size);
            Assert.Equal(SHA256.HashData(System.Text.Encoding.ASCII.GetBytes(message)), scanner.Finish());
        }
    }

    [Fact]
    public void A_mark_in_the_text_of_a_message_is_not_its_mark()
    {
        using var scanner = new ContentScanner(hashing: false);
        scanner.Feed("Subject: returned\r\n\r\n"u8);
        scanner.Feed(Field());

        Assert.Null(scanner.Mark);
    }

    [Fact]
    public void A_mix_deals_out_sizes_by_weight()
    {
        Assert.True(SizeMix.TryParse("1KiB:70,10KiB:25,100KiB:5", out var mix, out _));

        var sizes = Enumerable.Range(0, 1000).Select(i => mix!.For(i).Size).CountBy(s => s).ToDictionary();
        Assert.Equal(700, sizes[1024]);
        Assert.Equal(250, sizes[10240]);
        Assert.Equal(50, sizes[102400]);
    }

    [Theory]
    [InlineData("")]
    [InlineData("1XiB")]
    [InlineData("1KiB:0")]
    [InlineData("1KiB:1:1")]
    [InlineData("65GiB")]
    public void A_bad_size_is_refused(string text) => Assert.False(SizeMix.TryParse(text, out _, out _));

    [Theory]
    [InlineData("500ms", 0.5)]
    [InlineData("1.5s", 1.5)]
    [InlineData("2m", 120)]
    public void Durations_are_read(string text, double seconds)
    {
        Assert.True(Arguments.TryParseDuration(text, out var duration));
        Assert.Equal(TimeSpan.FromSeconds(seconds), duration);
    }

    [Theory]
    [InlineData("5")]
    [InlineData("s")]
    [InlineData("-1s")]
    [InlineData("9000h")]
    public void Bad_durations_are_refused(string text) => Assert.False(Arguments.TryParseDuration(text, out _));

    [Theory]
    [InlineData("rcpt=5%:550,data=1%:452", true)]
    [InlineData("rcpt=101%:550", false)]
    [InlineData("rcpt=5:550", false)]
    [InlineData("body=5%:550", false)]
    [InlineData("data=5%:250", false)]
    public void Rejections_are_read(string text, bool valid) => Assert.Equal(valid, Rejection.TryParse(text, out _));

    [Fact]
    public void A_set_of_sequence_numbers_knows_duplicates_and_what_is_missing()
    {
        var sent = new SequenceSet();
        var got = new SequenceSet();
        foreach (var n in (long[])[0, 1, 63, 64, 70_000, 1_000_000])
        {
            Assert.True(sent.TryAdd(n));
        }

        Assert.True(got.TryAdd(63));
        Assert.False(got.TryAdd(63));
        Assert.True(got.TryAdd(SequenceSet.Limit));
        Assert.Equal(5, sent.CountMissingFrom(got));
        Assert.Equal(0, got.CountMissingFrom(sent));
        Assert.Equal(1, got.Beyond);
        Assert.True(sent.Contains(70_000));
    }

    private static byte[] Field()
    {
        var field = new byte[MessageMark.Length];
        Mark.Write(field);
        return field;
    }

    private static string Wire(MessageBody body)
    {
        var text = System.Text.Encoding.ASCII.GetString(Field()) + System.Text.Encoding.ASCII.GetString(body.Head.Span);
        for (var i = 0L; i < body.Repeats; i++)
        {
            text += System.Text.Encoding.ASCII.GetString(body.Period.Span);
        }

        return text + System.Text.Encoding.ASCII.GetString(body.Tail.Span);
    }

    private static string Unstuff(string wire) =>
        string.Concat(wire[..^3].Split("\r\n").SkipLast(1).Select(l => (l.StartsWith('.') ? l[1..] : l) + "\r\n"));
}
