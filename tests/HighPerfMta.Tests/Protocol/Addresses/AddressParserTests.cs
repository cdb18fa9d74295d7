using System.Globalization;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Tests.Protocol.Addresses;

public class AddressParserTests
{
    [Theory]
    [InlineData("a@b", "a", "b")]
    [InlineData("First.Last+tag@Example.COM", "First.Last+tag", "example.com")]
    [InlineData("!#$%&'*+-/=?^_`{|}~@x.example", "!#$%&'*+-/=?^_`{|}~", "x.example")]
    [InlineData("\"joe\"@x.example", "joe", "x.example")]
    [InlineData("\"joe.doe\"@x.example", "joe.doe", "x.example")]
    [InlineData("\"joe doe\"@x.example", "\"joe doe\"", "x.example")]
    [InlineData("\"a@b\"@x.example", "\"a@b\"", "x.example")]
    [InlineData("\"a\\\"b\\\\c\"@x.example", "\"a\\\"b\\\\c\"", "x.example")]
    [InlineData("\"\\a\\b\"@x.example", "ab", "x.example")]
    [InlineData("\"\"@x.example", "\"\"", "x.example")]
    [InlineData("a@[192.0.2.1]", "a", "[192.0.2.1]")]
    [InlineData("a@[IPv6:2001:DB8:0:0::1]", "a", "[IPv6:2001:db8::1]")]
    [InlineData("a@[ipv6:::ffff:192.0.2.1]", "a", "[IPv6:::ffff:192.0.2.1]")]
    [InlineData("POSTMASTER", "postmaster", "")]
    [InlineData("用户@例子.example", "用户", "xn--fsqu00a.example")]
    [InlineData("a@MÜNCHEN.example", "a", "xn--mnchen-3ya.example")]
    [InlineData("a@xn--Mnchen-3YA.example", "a", "xn--mnchen-3ya.example")]
    public void Addresses_have_one_form(string text, string local, string domain)
    {
        Assert.True(AddressParser.TryParse(text, out EmailAddress? address, out string error), error);
        Assert.Equal(local, address.LocalPart);
        Assert.Equal(domain, address.Domain);
        Assert.True(AddressParser.TryParse(address.ToString(), out EmailAddress? again, out error), error);
        Assert.Equal(address, again);
    }

    [Theory]
    [InlineData("")]
    [InlineData("a")]
    [InlineData("@")]
    [InlineData("@b")]
    [InlineData("a@")]
    [InlineData("a@b@c")]
    [InlineData(".a@b")]
    [InlineData("a.@b")]
    [InlineData("a..b@c")]
    [InlineData("a b@c")]
    [InlineData("a(comment)@b")]
    [InlineData("a<b@c")]
    [InlineData("\"a@b")]
    [InlineData("\"a\\\"@b")]
    [InlineData("\"a\"b@c")]
    [InlineData("\"a\tb\"@c")]
    [InlineData("a@-b.example")]
    [InlineData("a@b-.example")]
    [InlineData("a@b..example")]
    [InlineData("a@b.example.")]
    [InlineData("a@b_c.example")]
    [InlineData("a@b c")]
    [InlineData("a@[192.0.2]")]
    [InlineData("a@[192.0.2.256]")]
    [InlineData("a@[192.0.02.1]")]
    [InlineData("a@[192.0.2.1")]
    [InlineData("a@192.0.2.1]")]
    [InlineData("a@[2001:db8::1]")]
    [InlineData("a@[IPv6:192.0.2.1]")]
    [InlineData("a@[IPv6:fe80::1%eth0]")]
    [InlineData("a@[X-other:text]")]
    [InlineData("a@[]")]
    [InlineData("a@\u0301x.example")]
    [InlineData("a@x\u202Ey.example")]
    [InlineData("a\u202Eb@x.example")]
    [InlineData("a\u0085b@x.example")]
    [InlineData("a\u2028b@x.example")]
    public void What_is_no_address(string text) => Assert.False(AddressParser.TryParse(text, out _, out _));

    [Fact]
    public void Limits_of_local_part_domain_and_path()
    {
        string local = new('l', 64);
        string label = new('d', 63);
        string domain = $"{label}.{label}.{label}"[..189];
        Assert.True(AddressParser.TryParse($"{local}@{domain}", out _, out _));
        Assert.Equal(254, $"{local}@{domain}".Length);
        Assert.False(AddressParser.TryParse($"{local}@{domain}d", out _, out _));
        Assert.False(AddressParser.TryParse($"{local}l@x", out _, out _));
        Assert.False(AddressParser.TryParse($"a@{label}d.example", out _, out _));
        Assert.False(AddressParser.TryParse(new string('ä', 33) + "@x.example", out _, out _));
        Assert.True(AddressParser.TryParse(new string('ä', 32) + "@x.example", out _, out _));
    }

    [Theory]
    [InlineData(new byte[] { 0xC0, 0x80 })]
    [InlineData(new byte[] { 0xC1, 0xBF })]
    [InlineData(new byte[] { 0xE0, 0x80, 0xAF })]
    [InlineData(new byte[] { 0xED, 0xA0, 0x80 })]
    [InlineData(new byte[] { 0xF4, 0x90, 0x80, 0x80 })]
    [InlineData(new byte[] { 0xFF })]
    [InlineData(new byte[] { 0xC3 })]
    public void Octets_that_are_no_utf8_are_no_address(byte[] octets)
    {
        Assert.False(AddressParser.TryParseMailbox([.. octets, .. "@x.example"u8], true, out _, out _));
        Assert.False(AddressParser.TryParseMailbox([.. "a@"u8, .. octets, .. ".example"u8], true, out _, out _));
        Assert.False(AddressParser.TryParseMailbox([.. "\""u8, .. octets, .. "\"@x.example"u8], true, out _, out _));
    }

    [Fact]
    public void What_parses_has_no_control_characters_and_parses_again_to_the_same() =>
        Gen.Int[0, 19].Select(static i => "ab.@\"\\ <>\r\n\0[]:1%!äü"[i]).Array[0, 20].Sample(static chars =>
        {
            if (AddressParser.TryParse(new string(chars), out EmailAddress? address, out _))
            {
                string text = address.ToString();
                Assert.DoesNotContain(text, char.IsControl);
                Assert.True(AddressParser.TryParse(text, out EmailAddress? again, out string error), error);
                Assert.Equal(address, again);
            }
        }, iter: 50_000);

    [Fact]
    public void International_labels_agree_with_the_platform()
    {
        IdnMapping platform = new() { UseStd3AsciiRules = true };
        Gen.Int[0, 11].Select(static i => "abz0-äöé漢字яω"[i]).Array[1, 20].Sample(chars =>
        {
            string label = new(chars);
            if (Ascii.IsValid(label) || !DomainName.TryNormalize(label, out string domain))
            {
                return;
            }

            Assert.Equal(platform.GetAscii(label), domain);
            Assert.Equal(label, platform.GetUnicode(domain));
        }, iter: 20_000);
    }

    [Theory]
    [InlineData("<@a.example:b@c.example>", "b@c.example")]
    [InlineData("<@a.example,@[192.0.2.1],@[IPv6:2001:db8::1]:b@c.example>", "b@c.example")]
    [InlineData("<@a.example,b@c.example>", null)]
    [InlineData("<@:b@c.example>", null)]
    [InlineData("<@a.example:postmaster>", null)]
    [InlineData("<@a.example:>", null)]
    public void A_source_route_is_checked_and_dropped(string path, string? address)
    {
        bool right = Parse(path, out EmailAddress? found);
        Assert.Equal(address, right ? found!.ToString() : null);
    }

    private static bool Parse(string path, out EmailAddress? address) =>
        global::HighPerfMta.Protocol.Smtp.CommandParser.ParseRcpt(Encoding.ASCII.GetBytes("TO:" + path), false, out address) is null;
}
