using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Routing;

public class RouteTests
{
    [Theory]
    [InlineData("mx", "mx")]
    [InlineData("MX", "mx")]
    [InlineData(" discard ", "discard")]
    [InlineData("hold", "hold")]
    [InlineData("reject", "reject")]
    [InlineData("smtp://mail.example.com:2525", "smtp://mail.example.com:2525")]
    [InlineData("smtp://Mail.Example.com", "smtp://mail.example.com:25")]
    [InlineData("SMTP://192.0.2.1:26/", "smtp://192.0.2.1:26")]
    [InlineData("smtp://[2001:DB8::1]:25", "smtp://[2001:db8::1]:25")]
    [InlineData("smtp://[::1]", "smtp://[::1]:25")]
    [InlineData("smtp://bücher.example", "smtp://xn--bcher-kva.example:25")]
    [InlineData("smtp://a.example, smtp://b.example:26", "smtp://a.example:25,smtp://b.example:26")]
    [InlineData("SMTPS://a.example", "smtps://a.example:465")]
    [InlineData("smtps://[::1]:2465/?TLS=Verified", "smtps://[::1]:2465?tls=verified")]
    [InlineData("smtp://a.example?tls=off", "smtp://a.example:25?tls=off")]
    [InlineData("smtp://a.example?tls=required, smtps://b.example", "smtp://a.example:25?tls=required,smtps://b.example:465")]
    [InlineData("MX?tls=opportunistic", "mx?tls=opportunistic")]
    public void Next_hops_have_one_form(string text, string expected)
    {
        Assert.True(NextHop.TryParse(text, out NextHop? hop, out string error), error);
        Assert.Equal(expected, hop.ToString());
        Assert.True(NextHop.TryParse(expected, out NextHop? again, out _));
        Assert.Equal(hop, again);
    }

    [Theory]
    [InlineData("")]
    [InlineData("relay")]
    [InlineData("smtp://")]
    [InlineData("smtp://:25")]
    [InlineData("smtp://host:0")]
    [InlineData("smtp://host:65536")]
    [InlineData("smtp://host:+25")]
    [InlineData("smtp://host:")]
    [InlineData("smtp://2001:db8::1")]
    [InlineData("smtp://[2001:db8::1")]
    [InlineData("smtp://[192.0.2.1]:25")]
    [InlineData("smtp://a b")]
    [InlineData("smtp://a\r\nb")]
    [InlineData("http://a.example")]
    [InlineData("mx,smtp://a.example")]
    [InlineData("mx?")]
    [InlineData("mx?tls=yes")]
    [InlineData("mx?tls=0")]
    [InlineData("smtp://a.example?")]
    [InlineData("smtp://a.example?tls")]
    [InlineData("smtp://a.example?tls=required&x=y")]
    [InlineData("smtp://a.example?tls=required?tls=off")]
    [InlineData("smtp://?tls=off")]
    [InlineData("smtps://a.example?tls=off")]
    [InlineData("smtps://a.example?tls=opportunistic")]
    [InlineData("hold?tls=off")]
    public void What_is_no_next_hop_is_refused_with_a_reason(string text)
    {
        Assert.False(NextHop.TryParse(text, out _, out string error));
        Assert.NotEqual("", error);
    }

    [Theory]
    [InlineData("a@example.com", "exact")]
    [InlineData("a@sub.example.com", "below")]
    [InlineData("a@deep.sub.example.com", "below")]
    [InlineData("a@notexample.com", "any")]
    [InlineData("a@com", "any")]
    [InlineData("a@other.net", "any")]
    [InlineData("a@x.other.net", "starred")]
    [InlineData("a@[192.0.2.1]", "literal")]
    [InlineData("a@[192.0.2.2]", "any")]
    [InlineData("postmaster", "any")]
    public void Patterns_match_whole_labels(string address, string expected)
    {
        RouteTable table = new(
        [
            new Route(["Example.com"], To("exact")), new Route([".example.com"], To("below")), new Route(["*.other.net"], To("starred")), new Route(["[192.0.2.1]"], To("literal")),
            new Route(["*"], To("any")),
        ]);
        Assert.Equal(expected, table.Find(DeliveryBench.Address(address)).Host);
    }

    [Fact]
    public void The_first_route_wins_however_exact_a_later_one_is()
    {
        RouteTable table = new([new Route([".com"], To("first")), new Route(["example.com"], To("second")), new Route(["*"], To("third")), new Route(["example.net", "*"], To("fourth"))]);
        Assert.Equal("first", table.Find(DeliveryBench.Address("a@example.com")).Host);
        Assert.Equal("third", table.Find(DeliveryBench.Address("a@example.net")).Host);
    }

    [Fact]
    public void Without_a_match_mail_goes_by_mx() => Assert.Same(NextHop.ByMx, new RouteTable([new Route(["example.com"], To("x"))]).Find(DeliveryBench.Address("a@example.net")));

    [Fact]
    public void Finding_a_route_allocates_nothing()
    {
        RouteTable table = new([new Route([".example.com"], To("below")), new Route(["*"], To("any"))]);
        EmailAddress address = DeliveryBench.Address("a@deep.sub.example.com");
        table.Find(address);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            table.Find(address);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("**")]
    [InlineData("*example.com")]
    [InlineData("example..com")]
    [InlineData("exa mple.com")]
    [InlineData("[not-an-address]")]
    public void Bad_patterns_are_refused(string pattern)
    {
        Assert.False(RouteTable.TryParsePattern(pattern, out _, out string? error));
        Assert.NotEqual("", error);
        Assert.Throws<ArgumentException>(() => new RouteTable([new Route([pattern], NextHop.ByMx)]));
    }

    [Theory]
    [InlineData("mx", TlsLevel.Verified, "mx?tls=verified")]
    [InlineData("mx?tls=off", TlsLevel.Verified, "mx?tls=off")]
    [InlineData("smtp://a,smtp://b?tls=off,smtps://c", TlsLevel.Opportunistic, "smtp://a:25?tls=opportunistic,smtp://b:25?tls=off,smtps://c:465?tls=required")]
    [InlineData("smtps://a", TlsLevel.Verified, "smtps://a:465?tls=verified")]
    [InlineData("hold", TlsLevel.Required, "hold")]
    public void A_route_gives_its_level_to_servers_without_one(string hop, TlsLevel level, string expected)
    {
        Assert.True(NextHop.TryParse(hop, out NextHop? parsed, out _));
        Assert.Equal(expected, parsed.WithTls(level).ToString());
    }

    private static NextHop To(string host) => new(NextHopKind.Smtp, host, 25);
}
