using System.Text;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Tests.Protocol.Addresses;

public sealed class AddressCacheTests
{
    [Fact]
    public void An_address_that_was_met_equals_its_other_forms_and_no_other_address()
    {
        EmailAddress first = Parse("met.lately@mail.example.net");
        Assert.Equal(first, Parse("met.lately@mail.example.net"));
        Assert.Equal(first.Domain, Parse("met.never.before@mail.example.net").Domain);
        Assert.Equal(first, Parse("met.lately@MAIL.example.net"));
        Assert.NotEqual(first, Parse("Met.lately@mail.example.net"));
        Assert.Equal(first, Parse("\"met.lately\"@mail.example.net"));
        Assert.True(AddressParser.TryParseMailbox("postmaster"u8, allowUtf8: false, out EmailAddress? postmaster, out _));
        Assert.Equal("", postmaster.Domain);
    }

    /// <summary>Many more than there are places, each one twice at once and again much later: whatever was driven out, the answer is the address's own.</summary>
    [Fact]
    public void Addresses_that_drive_each_other_out_are_never_taken_for_each_other()
    {
        for (int round = 0; round < 2; round++)
        {
            for (int i = 0; i < 8 * AddressCache.Places; i++)
            {
                string text = $"user{i}@host{i % (3 * AddressCache.Places)}.example";
                EmailAddress address = Parse(text);
                Assert.Equal((text, $"user{i}", $"host{i % (3 * AddressCache.Places)}.example"), (address.ToString(), address.LocalPart, address.Domain));
                Assert.Equal(address, Parse(text));
            }
        }
    }

    private static EmailAddress Parse(string text)
    {
        Assert.True(AddressParser.TryParseMailbox(Encoding.ASCII.GetBytes(text), allowUtf8: false, out EmailAddress? address, out string error), error);
        return address;
    }
}
