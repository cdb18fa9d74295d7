using System.Runtime.Intrinsics;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Protocol.Smtp;

/// <summary>Texts of many lines, over which reader and writer pass 64 octets at a time where nothing is special about them.</summary>
public class LongTextTests
{
    private const int MaxLine = 100;

    /// <summary>Mostly plain lines, some as long as they may be or longer by one; now and then what is special.</summary>
    private static readonly Gen<byte[]> Texts = Gen.Frequency(
            (24, Gen.Int[0, 80].Select(static n => new string('a', n) + "\r\n")),
            (2, Gen.Int[MaxLine - 1, MaxLine].Select(static n => new string('b', n) + "\r\n")),
            (2, Gen.Int[0, 70].Select(static n => "." + new string('c', n) + "\r\n")),
            (4, Gen.Int[0, 130].Select(static n => new string('d', n))),
            (1, Gen.Int[0, 5].Select(static i => new[] { "..\r\n", "\r\n.", ".x.", "\r\n\r\n", "\u00E4", "." }[i])))
        .Array[0, 30].Select(static parts => Encoding.Latin1.GetBytes(string.Concat(parts)));

    private static readonly Gen<byte[]> OddTexts = Gen.Select(Texts, Gen.Int[0, 3], Gen.Int[0, 3000], static (text, odd, at) =>
        odd == 3 ? text : [.. text.AsSpan(0, Math.Min(at, text.Length)), new[] { (byte)'\r', (byte)'\n', (byte)0 }[odd], .. text.AsSpan(Math.Min(at, text.Length))]);

    [Fact]
    public void The_reader_agrees_with_one_that_splits_lines() =>
        Gen.Select(OddTexts, Gen.Int[0, 3000], Gen.Int[0, 3000]).Sample(static (text, a, b) =>
        {
            byte[] wire = [.. text, .. "\r\n.\r\n"u8, .. "NEXT"u8];
            int first = Math.Min(Math.Min(a, b), wire.Length);
            (string read, int consumed, DotStatus violation) = DotReaderTests.Read(wire, MaxLine, first, Math.Min(Math.Max(a, b), wire.Length));
            (string expected, int end, bool bad) = TextByLines.Read(Encoding.Latin1.GetString(wire), MaxLine);
            Assert.Equal(end, consumed);
            Assert.Equal(bad, violation != DotStatus.NeedMore);
            if (!bad)
            {
                Assert.Equal(expected, read);
            }
        }, iter: 20_000);

    [Theory]
    [InlineData(64)]
    [InlineData(100)]
    [InlineData(998)]
    public void The_longest_line_is_taken_wherever_it_stands_and_one_octet_more_is_not(int most)
    {
        for (int before = 0; before < 130; before++)
        {
            foreach (int longer in (int[])[0, 1])
            {
                byte[] wire = Encoding.ASCII.GetBytes(new string('x', before % 60) + "\r\n" + new string('y', before / 2) + "\r\n" + new string('z', most + longer) + "\r\nshort\r\n" + new string('z', 64) + "\r\n.\r\n");
                DotReader reader = new(most);
                Assert.Equal(DotStatus.End, reader.Read(wire, new byte[wire.Length + 2], out _, out _));
                Assert.Equal(longer == 0 ? DotStatus.NeedMore : DotStatus.LineTooLong, reader.Violation);
            }
        }
    }

    [Fact]
    public void What_passes_without_a_copy_and_what_is_written_make_the_same_octets_as_a_writer_of_single_octets() =>
        Gen.Select(OddTexts, Gen.Int[0, 200], Gen.Int[1, 2000], Gen.Int[8, 2000]).Sample(static (text, least, step, room) =>
        {
            byte[] single = Write(text, least: int.MaxValue, step: 1, room: 8, out int passed);
            Assert.Equal(0, passed);
            Assert.Equal(Encoding.Latin1.GetString(single), Encoding.Latin1.GetString(Write(text, least, step, room, out _)));
        }, iter: 10_000);

    [Fact]
    public void Plain_lines_pass_up_to_the_last_end_of_a_line_and_others_not_at_all()
    {
        byte[] lines = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat(new string('x', 70) + "\r\n", 20)));
        DotWriter writer = default;
        Assert.False(writer.TryPass(lines, 1441, out _));
        if (!Vector256.IsHardwareAccelerated)
        {
            Assert.False(writer.TryPass(lines, 1, out _));
            return;
        }

        Assert.True(writer.TryPass(lines, 1000, out int count));
        Assert.Equal(0, count % 72);
        Assert.InRange(count, 1000, 1440);
        Assert.False(writer.TryPass([.. "."u8, .. lines], 1, out _));
        Assert.False(writer.TryPass([.. "x\n"u8, .. lines], 1, out _));
        Assert.True(writer.TryPass([.. lines, .. "."u8, .. lines], 1, out count));
        Assert.InRange(count, 1000, 1440);

        // None was written since: the text goes on at the start of a line.
        byte[] end = new byte[DotWriter.MaxFinish];
        Assert.Equal(".\r\n", Encoding.ASCII.GetString(end, 0, writer.Finish(end)));
    }

    private static byte[] Write(byte[] text, int least, int step, int room, out int passed)
    {
        DotWriter writer = default;
        using MemoryStream wire = new();
        byte[] output = new byte[room];
        passed = 0;
        for (int at = 0; at < text.Length;)
        {
            ReadOnlySpan<byte> input = text.AsSpan(at, Math.Min(step, text.Length - at));
            if (writer.TryPass(input, least, out int count))
            {
                wire.Write(input[..count]);
                passed += count;
            }
            else
            {
                writer.Write(input, output, out count, out int written);
                wire.Write(output, 0, written);
            }

            at += count;
        }

        byte[] end = new byte[DotWriter.MaxFinish];
        wire.Write(end, 0, writer.Finish(end));
        return wire.ToArray();
    }
}
