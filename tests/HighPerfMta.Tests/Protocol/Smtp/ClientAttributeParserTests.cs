using System.Net;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Tests.Protocol.Smtp;

public class ClientAttributeParserTests
{
    [Fact]
    public void Everything_that_xclient_has()
    {
        ClientAttributes read = Xclient("NAME=spike.example ADDR=192.0.2.1 port=1025 Proto=ESMTP HELO=+5Bspike+5D DESTADDR=IPV6:2001:db8::2 DESTPORT=25");
        Assert.Equal("spike.example", read.Name);
        Assert.Equal(IPAddress.Parse("192.0.2.1"), read.Address);
        Assert.Equal(1025, read.Port);
        Assert.Equal("ESMTP", read.Protocol);
        Assert.Equal("[spike]", read.Helo);
        Assert.Equal(IPAddress.Parse("2001:db8::2"), read.DestinationAddress);
        Assert.Equal(25, read.DestinationPort);
        Assert.True(read.Has(ClientAttribute.Name) && read.Has(ClientAttribute.DestinationPort) && !read.Has(ClientAttribute.Identifier));
    }

    [Fact]
    public void Everything_that_xforward_has()
    {
        ClientAttributes read = Xforward("NAME=a.example ADDR=ipv6:::1 PORT=99 PROTO=UUCP HELO=b.example IDENT=3CF6B2AAE8 SOURCE=remote");
        Assert.Equal(IPAddress.IPv6Loopback, read.Address);
        Assert.Equal(("UUCP", "3CF6B2AAE8", "REMOTE"), (read.Protocol!, read.Identifier!, read.Source!));
    }

    [Theory]
    [InlineData("ADDR=[UNAVAILABLE]")]
    [InlineData("ADDR=[unavailable]")]
    [InlineData("NAME=[TEMPUNAVAIL]")]
    [InlineData("HELO=+5BUNAVAILABLE+5D")]
    public void What_is_not_available_is_given_and_null(string text)
    {
        ClientAttributes read = Xclient(text);
        Assert.NotEqual(ClientAttribute.None, read.Given);
        Assert.Null(read.Address ?? (object?)read.Name ?? read.Helo);
    }

    [Fact]
    public void A_mapped_address_is_what_it_maps() => Assert.Equal(IPAddress.Parse("192.0.2.1"), Xclient("ADDR=IPV6:::ffff:192.0.2.1").Address);

    [Theory]
    [InlineData("")]
    [InlineData("NAME")]
    [InlineData("NAME=")]
    [InlineData("=x")]
    [InlineData("COLOUR=red")]
    [InlineData("IDENT=x")] // XFORWARD has it
    [InlineData("LOGIN=x")]
    [InlineData("NAME=a NAME=b")]
    [InlineData("NAME=a+")]
    [InlineData("NAME=a+4")]
    [InlineData("NAME=a+4G")]
    [InlineData("NAME=a+0D+0ARCPT")]
    [InlineData("NAME=a+00")]
    [InlineData("NAME=a+20b")]
    [InlineData("NAME=a+FF")]
    [InlineData("NAME=a(b")]
    [InlineData("NAME=caf\u00e9")]
    [InlineData("ADDR=2001:db8::1")]
    [InlineData("ADDR=IPV6:192.0.2.1")]
    [InlineData("ADDR=192.0.2")]
    [InlineData("ADDR=[192.0.2.1]")]
    [InlineData("ADDR=IPV6:fe80::1%1")]
    [InlineData("ADDR=spike.example")]
    [InlineData("PORT=0")]
    [InlineData("PORT=65536")]
    [InlineData("PORT=-1")]
    [InlineData("PROTO=UUCP")]
    public void What_is_wrong_is_501_and_nothing_counts(string text)
    {
        Assert.Equal(501, ClientAttributeParser.ParseXclient(Encoding.Latin1.GetBytes(text), out ClientAttributes read)?.Code);
        Assert.Equal(ClientAttribute.None, read.Given);
    }

    [Fact]
    public void A_value_has_at_most_255_octets()
    {
        Assert.Equal(255, Xclient("NAME=" + new string('a', 255)).Name!.Length);
        Assert.Equal(501, ClientAttributeParser.ParseXclient(Encoding.ASCII.GetBytes("NAME=" + new string('a', 256)), out _)?.Code);
    }

    [Fact]
    public void A_later_command_stands_in_place_of_what_it_gives()
    {
        ClientAttributes both = Xforward("NAME=a ADDR=192.0.2.1 HELO=h").With(Xforward("ADDR=[UNAVAILABLE] IDENT=i"));
        Assert.Equal(("a", null, "h", "i"), (both.Name, both.Address, both.Helo, both.Identifier));
        Assert.Equal(ClientAttribute.Name | ClientAttribute.Address | ClientAttribute.Helo | ClientAttribute.Identifier, both.Given);
    }

    [Fact]
    public void Whatever_comes_is_answered_and_what_is_taken_is_clean() => Gen.Byte.Array[0, 60].Sample(static octets =>
    {
        byte[] text = [.. "NAME="u8, .. octets];
        if (ClientAttributeParser.ParseXforward(text, out ClientAttributes read) is null)
        {
            Assert.DoesNotContain(read.Name ?? "", static c => c is <= ' ' or >= '\u007f');
        }
    }, iter: 20_000);

    private static ClientAttributes Xclient(string text)
    {
        Assert.Null(ClientAttributeParser.ParseXclient(Encoding.ASCII.GetBytes(text), out ClientAttributes read));
        return read;
    }

    private static ClientAttributes Xforward(string text)
    {
        Assert.Null(ClientAttributeParser.ParseXforward(Encoding.ASCII.GetBytes(text), out ClientAttributes read));
        return read;
    }
}
