using HighPerfMta.Protocol.Addresses;
using MimeKit;

namespace HighPerfMta.Tests.Protocol.Reports;

/// <summary>A report as another program reads it.</summary>
internal sealed class ReportReader
{
    public ReportReader(ReadOnlyMemory<byte> octets)
    {
        Octets = octets.ToArray();
        using MemoryStream stream = new(Octets);
        Message = MimeMessage.Load(stream);
        Report = Assert.IsType<MultipartReport>(Message.Body);
        Assert.Equal("delivery-status", Report.ReportType);
        Assert.Equal(3, Report.Count);
    }

    public byte[] Octets { get; }

    public MimeMessage Message { get; }

    public MultipartReport Report { get; }

    public string Text => Assert.IsType<TextPart>(Report[0]).Text;

    /// <summary>The groups of the second part: the message's first, then one a recipient.</summary>
    public HeaderListCollection Groups => Assert.IsType<MessageDeliveryStatus>(Report[1]).StatusGroups;

    /// <summary>The text of the third part.</summary>
    public string Returned
    {
        get
        {
            using MemoryStream text = new();
            switch (Report[2])
            {
                case TextRfc822Headers headers:
                    // The reader makes a message of it: what it read is written as it stood.
                    headers.Message!.Headers.WriteTo(text, CancellationToken.None);
                    break;
                case MimePart part:
                    part.Content!.DecodeTo(text, CancellationToken.None);
                    break;
                default:
                    Assert.Fail($"the third part is {Report[2].ContentType}");
                    break;
            }

            return System.Text.Encoding.UTF8.GetString(text.ToArray());
        }
    }

    public static EmailAddress Address(string text) => AddressParser.TryParse(text, out EmailAddress? address, out string error) ? address! : throw new FormatException(error);

    /// <summary>What holds for every report whatever it is made of.</summary>
    public void CheckForm(bool utf8)
    {
        int start = 0;
        for (int i = 0; i < Octets.Length; i++)
        {
            byte octet = Octets[i];
            Assert.True(octet is >= 0x20 and < 0x7F or (byte)'\t' or (byte)'\r' or (byte)'\n' || (utf8 && octet >= 0x80), $"octet {octet:X2} at {i}");
            Assert.Equal(octet == '\n', i > 0 && Octets[i - 1] == '\r');
            if (octet == '\n')
            {
                Assert.InRange(i - 1 - start, 0, 998);
                start = i + 1;
            }
        }

        Assert.Equal(start, Octets.Length);
    }
}
