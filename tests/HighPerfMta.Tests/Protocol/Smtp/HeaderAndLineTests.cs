using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class HeaderAndLineTests
{
    [Theory]
    [InlineData("Received: a\r\nRECEIVED : b\r\nreceived:c\r\nX: y\r\n\r\nReceived: body\r\n", 3, false)]
    [InlineData("Subject: x\r\n Received: folded\r\n", 0, true)]
    [InlineData("Receivedx: a\r\nReceive: b\r\nX-Received: c\r\n", 0, true)]
    [InlineData("\r\nReceived: a\r\n", 0, false)]
    [InlineData("", 0, true)]
    [InlineData("Received", 0, true)]
    public void Received_fields_are_counted_until_the_empty_line_in_any_split(string text, int count, bool inHeader)
    {
        byte[] octets = Encoding.ASCII.GetBytes(text);
        for (int split = 0; split <= octets.Length; split++)
        {
            HeaderScanner scanner = default;
            scanner.Feed(octets.AsSpan(0, split));
            scanner.Feed(octets.AsSpan(split));
            Assert.Equal(count, scanner.ReceivedCount);
            Assert.Equal(inHeader, scanner.InHeader);
        }
    }

    [Theory]
    [InlineData("a\r\nb\r\n", DotStatus.NeedMore, true)]
    [InlineData("a\r\nb", DotStatus.NeedMore, false)]
    [InlineData("", DotStatus.NeedMore, false)]
    [InlineData("a\nb\r\n", DotStatus.BareLineFeed, true)]
    [InlineData("a\rb\r\n", DotStatus.BareCarriageReturn, true)]
    [InlineData("a\r", DotStatus.BareCarriageReturn, false)]
    [InlineData("a\0\r\n", DotStatus.Nul, true)]
    [InlineData("12345678901\r\n", DotStatus.LineTooLong, true)]
    [InlineData("1234567890\r\n", DotStatus.NeedMore, true)]
    public void Chunks_obey_the_same_rules_in_any_split(string text, DotStatus violation, bool ends)
    {
        byte[] octets = Encoding.ASCII.GetBytes(text);
        for (int first = 0; first <= octets.Length; first++)
        {
            for (int second = first; second <= octets.Length; second++)
            {
                LineChecker checker = new(10);
                checker.Check(octets.AsSpan(0, first));
                checker.Check(octets.AsSpan(first, second - first));
                checker.Check(octets.AsSpan(second));
                Assert.Equal(violation, checker.Finish());
                Assert.Equal(ends, checker.EndsWithCrLf);
            }
        }
    }

    [Fact]
    public void A_split_changes_nothing_for_random_octets() =>
        Gen.Select(Gen.Int[0, 4].Select(static i => (byte)"\r\na\0:"[i]).Array[0, 20], Gen.Int[0, 20], Gen.Int[0, 20]).Sample((octets, a, b) =>
        {
            LineChecker whole = new(5);
            whole.Check(octets);
            LineChecker parts = new(5);
            int first = Math.Min(Math.Min(a, b), octets.Length);
            int second = Math.Min(Math.Max(a, b), octets.Length);
            parts.Check(octets.AsSpan(0, first));
            parts.Check(octets.AsSpan(first, second - first));
            parts.Check(octets.AsSpan(second));
            Assert.Equal(whole.Finish(), parts.Finish());
            Assert.Equal(whole.EndsWithCrLf, parts.EndsWithCrLf);
        }, iter: 20_000);
}
