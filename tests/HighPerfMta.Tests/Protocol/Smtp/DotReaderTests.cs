using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class DotReaderTests
{
    /// <summary>Octets that matter to the reader, so that short random texts meet every case.</summary>
    private static readonly Gen<byte[]> Octets = Gen.Int[0, 5].Select(static i => "\r\n.a\0\u00E4"[i]).Select(static c => (byte)c).Array[0, 24];

    private static readonly Gen<byte[]> Messages = Gen.Int[0, 6].Select(static i => new[] { "\r\n", ".", "a", "..", " text ", "\r\n.", "ä" }[i]).Array[0, 30]
        .Select(static parts => Encoding.UTF8.GetBytes(string.Concat(parts).Replace("\r\n.\r\n", "\r\n.x\r\n", StringComparison.Ordinal)));

    [Theory]
    [InlineData(".\r\n", "", DotStatus.NeedMore)]
    [InlineData("a\r\n.\r\n", "a\r\n", DotStatus.NeedMore)]
    [InlineData("..\r\n.\r\n", ".\r\n", DotStatus.NeedMore)]
    [InlineData(".a\r\n.\r\n", "a\r\n", DotStatus.NeedMore)]
    [InlineData("a\r\n..\r\n...\r\n.\r\n", "a\r\n.\r\n..\r\n", DotStatus.NeedMore)]
    [InlineData("a.\r\n.\r\n", "a.\r\n", DotStatus.NeedMore)]
    // What smugglers send: none is an end, each is a violation, and the true end is found.
    [InlineData("a\n.\n\r\n.\r\n", null, DotStatus.BareLineFeed)]
    [InlineData("a\n.\r\n\r\n.\r\n", null, DotStatus.BareLineFeed)]
    [InlineData("a\r\n.\nMAIL FROM:<x@y>\r\n.\r\n", null, DotStatus.BareLineFeed)]
    [InlineData("a\r.\r\r\n.\r\n", null, DotStatus.BareCarriageReturn)]
    [InlineData("a\r\n.\rb\r\n.\r\n", null, DotStatus.BareCarriageReturn)]
    [InlineData("a\r.\r\nb\r\n.\r\n", null, DotStatus.BareCarriageReturn)]
    [InlineData("a\r\r\n.\r\n", null, DotStatus.BareCarriageReturn)]
    [InlineData("a\r\n\0.\r\n\r\n.\r\n", null, DotStatus.Nul)]
    [InlineData("a\r\n.\0\r\n\r\n.\r\n", null, DotStatus.Nul)]
    [InlineData("a\r\0\n.\r\0\n\r\n.\r\n", null, DotStatus.BareCarriageReturn)]
    [InlineData("12345678901\r\n.\r\n", null, DotStatus.LineTooLong)]
    [InlineData("1234567890\r\n.1234567890\r\n.\r\n", "1234567890\r\n1234567890\r\n", DotStatus.NeedMore)]
    public void Only_crlf_dot_crlf_ends_and_everything_odd_is_a_violation(string wire, string? text, DotStatus violation)
    {
        byte[] input = Encoding.Latin1.GetBytes(wire + "NEXT");
        for (int first = 0; first <= input.Length; first++)
        {
            for (int second = first; second <= input.Length; second++)
            {
                (string read, int consumed, DotStatus found) = Read(input, 10, first, second);
                Assert.Equal(violation, found);
                Assert.Equal(wire.Length, consumed);
                if (text is not null)
                {
                    Assert.Equal(text, read);
                }
            }
        }
    }

    [Fact]
    public void Agrees_with_a_reader_that_looks_at_one_octet_after_another() =>
        Gen.Select(Octets, Gen.Int[0, 24], Gen.Int[0, 24]).Sample((octets, a, b) =>
        {
            byte[] input = [.. octets, .. "\r\n.\r\n"u8, .. "NEXT"u8];
            (string text, int consumed, DotStatus violation) = Read(input, 1000, Math.Min(Math.Min(a, b), input.Length), Math.Min(Math.Max(a, b), input.Length));
            (string expected, int end, bool bad) = TextByLines.Read(Encoding.Latin1.GetString(input));
            Assert.Equal(end, consumed);
            Assert.Equal(bad, violation != DotStatus.NeedMore);
            if (!bad)
            {
                Assert.Equal(expected, text);
            }
        }, iter: 20_000);

    [Fact]
    public void What_the_writer_stuffs_the_reader_reads_back() =>
        Gen.Select(Messages, Gen.Int[4, 40], Gen.Int[1, 40]).Sample((message, room, step) =>
        {
            byte[] wire = Write(message, room, step);
            (string text, int consumed, DotStatus violation) = Read(wire, 10_000, wire.Length, wire.Length);
            Assert.Equal(DotStatus.NeedMore, violation);
            Assert.Equal(wire.Length, consumed);
            string expected = Encoding.Latin1.GetString(message);
            Assert.Equal(expected.Length == 0 || expected.EndsWith("\r\n", StringComparison.Ordinal) ? expected : expected + "\r\n", text);
        }, iter: 20_000);

    [Fact]
    public void The_writer_never_sends_a_bare_cr_or_lf_nor_an_end_inside_the_message() =>
        Gen.Select(Octets, Gen.Int[4, 20], Gen.Int[1, 20]).Sample((octets, room, step) =>
        {
            string wire = Encoding.Latin1.GetString(Write(octets, room, step));
            Assert.DoesNotContain('\n', wire.Replace("\r\n", "", StringComparison.Ordinal));
            Assert.DoesNotContain('\r', wire.Replace("\r\n", "", StringComparison.Ordinal));
            Assert.Equal(wire.Length - 3, ("\r\n" + wire).IndexOf("\r\n.\r\n", StringComparison.Ordinal));
        }, iter: 20_000);

    /// <summary>Reads the input in three parts.</summary>
    internal static (string Text, int Consumed, DotStatus Violation) Read(byte[] input, int maxLine, int first, int second)
    {
        DotReader reader = new(maxLine);
        StringBuilder text = new();
        int total = 0;
        foreach (Range part in new[] { ..first, first..second, second.. })
        {
            ReadOnlySpan<byte> octets = input.AsSpan(part);
            byte[] output = new byte[octets.Length + 2];
            DotStatus status = reader.Read(octets, output, out int consumed, out int written);
            total += consumed;
            text.Append(Encoding.Latin1.GetString(output, 0, written));
            if (status == DotStatus.End)
            {
                break;
            }

            Assert.Equal(octets.Length, consumed);
        }

        return (text.ToString(), total, reader.Violation);
    }

    private static byte[] Write(byte[] message, int room, int step)
    {
        DotWriter writer = default;
        MemoryStream wire = new();
        byte[] output = new byte[room];
        for (int at = 0; at < message.Length;)
        {
            writer.Write(message.AsSpan(at, Math.Min(step, message.Length - at)), output, out int consumed, out int written);
            wire.Write(output, 0, written);
            at += consumed;
        }

        byte[] finish = new byte[DotWriter.MaxFinish];
        wire.Write(finish, 0, writer.Finish(finish));
        return wire.ToArray();
    }
}
