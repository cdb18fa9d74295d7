using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class HeaderScannerTests
{
    private static readonly string[] Pieces =
    [
        "\r\n", "\r\n", "\r\n", "\r\n\r\n", "\r", " ", "\t", ":", "From", "bcc", "Bcc:", "RESENT-bcc", "Resent-", "b", "subject:", "Received :", "dkim-signature", "DKIM-Signature:", "arc-SEAL:", "x", "\u00e4",
    ];

    private static readonly Gen<string[]> Words = Gen.Int[0, Pieces.Length - 1].Select(static i => Pieces[i]).Array[0, 14];

    [Theory]
    [InlineData("From: a\r\n\r\n", HeaderFields.From, HeaderFields.None, 1, false)]
    [InlineData("from \t: a\r\nTO:b\r\nCc: c\r\nBCC: d\r\n\r\n", HeaderFields.From | HeaderFields.To | HeaderFields.Cc | HeaderFields.Bcc, HeaderFields.None, 4, false)]
    [InlineData("Date:a\r\nSender:b\r\nReply-To:c\r\nMessage-ID:d\r\nIn-Reply-To:e\r\nReferences:f\r\nSubject:g\r\n\r\n", HeaderFields.Single & ~(HeaderFields.From | HeaderFields.To | HeaderFields.Cc | HeaderFields.Bcc), HeaderFields.None, 7, false)]
    [InlineData("From: a\r\nFROM: b\r\n\r\nFrom: c\r\n", HeaderFields.From, HeaderFields.From, 2, false)]
    [InlineData("Received: a\r\nreceived: b\r\nDKIM-Signature: c\r\nARC-Seal: d\r\n\r\n", HeaderFields.Received | HeaderFields.Signature, HeaderFields.Received | HeaderFields.Signature, 4, false)]
    [InlineData("Subject: a\r\n From: b\r\n\tTo: c\r\n\r\n", HeaderFields.Subject, HeaderFields.None, 1, false)]
    [InlineData("\r\nFrom: a\r\n", HeaderFields.None, HeaderFields.None, 0, false)]
    [InlineData("", HeaderFields.None, HeaderFields.None, 0, false)]
    [InlineData("From", HeaderFields.None, HeaderFields.None, 0, true)]
    [InlineData("From ", HeaderFields.None, HeaderFields.None, 0, true)]
    [InlineData("From:", HeaderFields.From, HeaderFields.None, 1, false)]
    [InlineData("From a@b.example Mon\r\nTo: x\r\n\r\n", HeaderFields.To, HeaderFields.None, 0, true)]
    [InlineData(": x\r\n\r\n", HeaderFields.None, HeaderFields.None, 0, true)]
    [InlineData(" : x\r\n\r\n", HeaderFields.None, HeaderFields.None, 0, true)]
    [InlineData("Fr\u00f6m: x\r\n\r\n", HeaderFields.None, HeaderFields.None, 0, true)]
    [InlineData("Fr\u0001m: x\r\n\r\n", HeaderFields.None, HeaderFields.None, 0, true)]
    [InlineData("a-name-that-is-longer-than-all-of-those-that-matter: x\r\nX-From: y\r\nFromX: z\r\n\r\n", HeaderFields.None, HeaderFields.None, 3, false)]
    public void Fields_are_the_same_in_any_split(string text, HeaderFields seen, HeaderFields repeated, int fields, bool malformed)
    {
        byte[] octets = Encoding.Latin1.GetBytes(text);
        for (int first = 0; first <= octets.Length; first++)
        {
            for (int second = first; second <= octets.Length; second++)
            {
                HeaderScanner scanner = Scan(octets, first, second);
                Assert.Equal((seen, repeated, fields, malformed), (scanner.Seen, scanner.Repeated, scanner.FieldCount, scanner.HasMalformedLine));
            }
        }
    }

    [Theory]
    [InlineData("From: a\r\n\r\n\u00e4", false, 11, 8)]
    [InlineData("From: \u00e4\r\n\r\n", true, 11, 8)]
    [InlineData("From: a\r\n \u00e4bcdefgh\r\nX: y", true, 24, 10)]
    public void Octets_and_lines_are_counted_in_the_header_alone(string text, bool eightBit, long size, int longest)
    {
        byte[] octets = Encoding.Latin1.GetBytes(text);
        for (int split = 0; split <= octets.Length; split++)
        {
            HeaderScanner scanner = Scan(octets, split, split);
            Assert.Equal((eightBit, size, longest), (scanner.HasEightBit, scanner.Size, scanner.LongestLine));
        }
    }

    [Fact]
    public void A_name_is_too_long_in_one_piece_and_octet_by_octet()
    {
        foreach (int length in (int[])[253, 254, 255, 256, 300, 5000])
        {
            byte[] octets = Encoding.Latin1.GetBytes(new string('n', length) + ": x\r\n\r\n");
            HeaderScanner whole = Scan(octets, octets.Length, octets.Length), single = default;
            foreach (byte octet in octets)
            {
                single.Feed([octet]);
            }

            Assert.Equal((length > 254, length > 254 ? 0 : 1), (whole.HasMalformedLine, whole.FieldCount));
            Assert.Equal((whole.HasMalformedLine, whole.FieldCount, whole.Size), (single.HasMalformedLine, single.FieldCount, single.Size));
        }
    }

    [Fact]
    public void What_is_behind_a_malformed_line_is_not_measured()
    {
        HeaderScanner scanner = Scan(Encoding.Latin1.GetBytes($"A: b\r\nno field\r\n{new string('x', 5000)}\r\nFrom: a\r\nReceived: b\r\n"), 9, 2000);
        Assert.Equal((1, 6L, 5, HeaderFields.From | HeaderFields.Received, 1), (scanner.FieldCount, scanner.Size, scanner.LongestLine, scanner.Seen, scanner.ReceivedCount));
    }

    [Fact]
    public void What_is_taken_ends_with_the_empty_line()
    {
        HeaderScanner scanner = default;
        Assert.Equal(6, scanner.Feed("A: b\r\n"u8));
        Assert.Equal(2, scanner.Feed("\r\nA: b\r\n"u8));
        Assert.Equal(0, scanner.Feed("A: b\r\n"u8));
        Assert.False(scanner.InHeader);
    }

    [Fact]
    public void Random_headers_are_read_as_by_a_slow_reader() =>
        Gen.Select(Words, Gen.Int[0, 80], Gen.Int[0, 80]).Sample((words, a, b) =>
        {
            string text = string.Concat(words);
            byte[] octets = Encoding.Latin1.GetBytes(text);
            int first = Math.Min(Math.Min(a, b), octets.Length), second = Math.Min(Math.Max(a, b), octets.Length);
            HeaderScanner scanner = Scan(octets, first, second);
            SlowHeader slow = SlowHeader.Read(text);
            Assert.Equal((slow.Seen, slow.Repeated, slow.Fields, slow.Malformed, slow.Size), (scanner.Seen, scanner.Repeated, scanner.FieldCount, scanner.HasMalformedLine, (int)scanner.Size));
            Assert.Equal((slow.LongestLine, slow.EightBit), (scanner.LongestLine, scanner.HasEightBit));
        }, iter: 20_000);

    [Fact]
    public void Random_headers_lose_their_hidden_recipients_in_any_split_and_nothing_else() =>
        Gen.Select(Words, Gen.Int[0, 80], Gen.Int[0, 80]).Sample((words, a, b) =>
        {
            string text = string.Concat(words);
            byte[] octets = Encoding.Latin1.GetBytes(text);
            int first = Math.Min(Math.Min(a, b), octets.Length), second = Math.Min(Math.Max(a, b), octets.Length);
            Assert.Equal(SlowHeader.Read(text).WithoutBcc, Filtered(octets, first, second));
        }, iter: 20_000);

    [Theory]
    [InlineData("From: a\r\nBcc: b\r\n c\r\nTo: d\r\n\r\nBcc: e\r\n", "From: a\r\nTo: d\r\n\r\nBcc: e\r\n")]
    [InlineData("resent-BCC : b\r\nBccx: c\r\n\r\n", "Bccx: c\r\n\r\n")]
    [InlineData("DKIM-Signature: a\r\nBcc: b\r\n\r\n", "DKIM-Signature: a\r\n\r\n")]
    [InlineData("Bcc \t : b\r\nBcc    : c\r\nBcc me\r\nBcc\r\n\r\n", "Bcc    : c\r\nBcc me\r\nBcc\r\n\r\n")]
    [InlineData("Resent-Bcc   : b\r\nResent-Bcc    : c\r\nbcc   ", "Resent-Bcc    : c\r\nbcc   ")]
    [InlineData("From: a\r\nBc", "From: a\r\nBc")]
    [InlineData("From: a\r\nBcc", "From: a\r\nBcc")]
    [InlineData("From: a\r\nBcc: b", "From: a\r\n")]
    public void Hidden_recipients_are_taken_out_in_any_split(string text, string expected)
    {
        byte[] octets = Encoding.Latin1.GetBytes(text);
        for (int first = 0; first <= octets.Length; first++)
        {
            for (int second = first; second <= octets.Length; second++)
            {
                Assert.Equal(expected, Filtered(octets, first, second));
            }
        }
    }

    private static HeaderScanner Scan(byte[] octets, int first, int second)
    {
        HeaderScanner scanner = default;
        scanner.Feed(octets.AsSpan(0, first));
        scanner.Feed(octets.AsSpan(first, second - first));
        scanner.Feed(octets.AsSpan(second));
        if (scanner.InHeader)
        {
            scanner.Finish();
        }

        return scanner;
    }

    private static string Filtered(byte[] octets, int first, int second)
    {
        BccFilter filter = default;
        StringBuilder left = new();
        foreach (byte[] piece in (byte[][])[octets[..first], octets[first..second], octets[second..]])
        {
            byte[] buffer = new byte[piece.Length + BccFilter.Slack];
            piece.CopyTo(buffer, 0);
            left.Append(Encoding.Latin1.GetString(buffer, 0, filter.Filter(buffer, piece.Length)));
        }

        byte[] held = new byte[BccFilter.Slack];
        return left.Append(Encoding.Latin1.GetString(held, 0, filter.Finish(held))).ToString();
    }
}
