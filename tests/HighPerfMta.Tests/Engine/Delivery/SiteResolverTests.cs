using System.Net;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class SiteResolverTests
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static async Task<SiteDecision> DecideAsync(FakeDns dns, string address, bool allowOwn = false, params Route[] routes)
    {
        SiteResolver resolver = new(new RouteTable(routes), dns, new DeliveryOptions { Hostname = "mta.example", AllowOwnAddresses = allowOwn });
        dns.Cached = false;
        SiteDecision decision = await resolver.ResolveAsync(DeliveryBench.Address(address), Stop);
        dns.Cached = true;
        Assert.True(resolver.TryResolve(DeliveryBench.Address(address), out SiteDecision known));
        Assert.Equal((decision.Site?.Key, decision.Kind, decision.Outcome), (known.Site?.Key, known.Kind, known.Outcome));
        return decision;
    }

    [Fact]
    public async Task Hosts_come_in_order_of_preference_and_make_the_key()
    {
        FakeDns dns = new FakeDns().Mx("example.com", "20 c.example", "10 b.example", "10 a.example", "30 d.example");
        SiteDecision decision = await DecideAsync(dns, "x@example.com");
        Assert.Equal("mx:a.example+b.example,c.example,d.example", decision.Site!.Key);
        Assert.Equal([new SiteHost("a.example", 10, 25), new("b.example", 10, 25), new("c.example", 20, 25), new("d.example", 30, 25)], decision.Site.Hosts);
        Assert.Null(decision.Outcome);
        Assert.Equal(NextHopKind.Mx, decision.Kind);
    }

    [Fact]
    public async Task Domains_with_the_same_hosts_share_a_site_and_other_preferences_do_not()
    {
        FakeDns dns = new FakeDns().Mx("one.example", "10 a.example", "20 b.example").Mx("two.example", "5 a.example", "7 b.example")
            .Mx("three.example", "20 a.example", "10 b.example").Mx("four.example", "10 a.example", "10 b.example");
        string one = (await DecideAsync(dns, "x@one.example")).Site!.Key;
        Assert.Equal(one, (await DecideAsync(dns, "x@two.example")).Site!.Key);
        Assert.NotEqual(one, (await DecideAsync(dns, "x@three.example")).Site!.Key);
        Assert.NotEqual(one, (await DecideAsync(dns, "x@four.example")).Site!.Key);
    }

    [Fact]
    public async Task Without_mx_records_the_domain_is_its_own_host()
    {
        SiteDecision decision = await DecideAsync(new FakeDns().Mx("example.com"), "x@example.com");
        Assert.Equal("mx:example.com", decision.Site!.Key);
        Assert.Equal([new SiteHost("example.com", 0, 25)], decision.Site.Hosts);
    }

    [Fact]
    public async Task A_null_mx_fails_with_556()
    {
        DeliveryOutcome outcome = (await DecideAsync(new FakeDns().Mx("example.com", "0 ."), "x@example.com")).Outcome!;
        Assert.Equal((DeliveryStatus.Failed, 556, new EnhancedCode(5, 1, 10), DeliveryStage.Dns), (outcome.Status, outcome.Code, outcome.Enhanced, outcome.Stage));
    }

    [Fact]
    public async Task A_null_mx_among_others_is_passed_over() =>
        Assert.Equal("mx:a.example", (await DecideAsync(new FakeDns().Mx("example.com", "0 .", "10 a.example"), "x@example.com")).Site!.Key);

    [Theory]
    [InlineData(DnsStatus.NoSuchName, DeliveryStatus.Failed, 5, 1, 2)]
    [InlineData(DnsStatus.TemporaryFailure, DeliveryStatus.Deferred, 4, 4, 3)]
    public async Task What_the_dns_cannot_answer_is_an_outcome(DnsStatus status, DeliveryStatus expected, byte @class, ushort subject, ushort detail)
    {
        SiteDecision decision = await DecideAsync(new FakeDns().MxStatus("example.com", status), "x@example.com");
        Assert.Null(decision.Site);
        Assert.Equal((expected, new EnhancedCode(@class, subject, detail), FaultOwner.Recipient), (decision.Outcome!.Status, decision.Outcome.Enhanced, decision.Outcome.Fault));
    }

    [Fact]
    public async Task Our_own_name_and_what_is_less_preferred_are_dropped()
    {
        FakeDns dns = new FakeDns().Mx("example.com", "10 a.example", "20 mta.example", "20 b.example", "30 c.example");
        Assert.Equal("mx:a.example", (await DecideAsync(dns, "x@example.com")).Site!.Key);
        Assert.Equal("mx:a.example,b.example+mta.example,c.example", (await DecideAsync(dns, "x@example.com", allowOwn: true)).Site!.Key);
    }

    [Theory]
    [InlineData("10 mta.example")]
    [InlineData("10 mta.example", "20 a.example")]
    [InlineData("10 MTA.example", "10 a.example")]
    public async Task Being_the_best_host_oneself_is_a_loop(params string[] records)
    {
        DeliveryOutcome outcome = (await DecideAsync(new FakeDns().Mx("example.com", records), "x@example.com")).Outcome!;
        Assert.Equal((DeliveryStatus.Failed, new EnhancedCode(5, 4, 6)), (outcome.Status, outcome.Enhanced));
    }

    [Fact]
    public async Task Our_own_name_as_a_domain_without_mx_is_a_loop() =>
        Assert.Equal(new EnhancedCode(5, 4, 6), (await DecideAsync(new FakeDns().Mx("mta.example"), "x@mta.example")).Outcome!.Enhanced);

    [Theory]
    [InlineData("x@[192.0.2.9]", "mx:[192.0.2.9]", "192.0.2.9")]
    [InlineData("x@[IPv6:2001:db8::9]", "mx:[IPv6:2001:db8::9]", "2001:db8::9")]
    public async Task Address_literals_need_no_dns(string address, string key, string host)
    {
        FakeDns dns = new();
        SiteDecision decision = await DecideAsync(dns, address);
        Assert.Equal(key, decision.Site!.Key);
        Assert.Equal([new SiteHost(host, 0, 25)], decision.Site.Hosts);
        Assert.Empty(dns.Lookups);
    }

    [Fact]
    public async Task The_bare_postmaster_needs_a_route()
    {
        Assert.Equal(DeliveryStatus.Failed, (await DecideAsync(new FakeDns(), "postmaster")).Outcome!.Status);
        Assert.Equal("smtp://192.0.2.1:25", (await DecideAsync(new FakeDns(), "postmaster", false, new Route(["*"], new NextHop(NextHopKind.Smtp, "192.0.2.1", 25)))).Site!.Key);
    }

    [Fact]
    public async Task A_configured_next_hop_is_a_site_with_its_fallbacks_in_order()
    {
        Assert.True(NextHop.TryParse("smtp://relay.example:26,smtp://[::1]:27", out NextHop? hop, out _));
        FakeDns dns = new();
        SiteDecision decision = await DecideAsync(dns, "x@example.com", false, new Route(["*"], hop));
        Assert.Equal("smtp://relay.example:26,smtp://[::1]:27", decision.Site!.Key);
        Assert.Equal([new SiteHost("relay.example", 0, 26), new SiteHost("::1", 1, 27)], decision.Site.Hosts);
        Assert.Empty(dns.Lookups);
    }

    [Fact]
    public async Task Levels_of_tls_are_the_hosts_and_make_sites_of_their_own()
    {
        Assert.True(NextHop.TryParse("smtp://relay.example:26?tls=off,smtps://[::1]", out NextHop? hop, out _));
        SiteDecision configured = await DecideAsync(new FakeDns(), "x@example.com", false, new Route(["*"], hop));
        Assert.Equal("smtp://relay.example:26?tls=off,smtps://[::1]:465", configured.Site!.Key);
        Assert.Equal([new SiteHost("relay.example", 0, 26) { Tls = TlsLevel.Off }, new SiteHost("::1", 1, 465) { IsImplicitTls = true }], configured.Site.Hosts);

        FakeDns dns = new FakeDns().Mx("one.example", "10 a.example").Mx("two.example", "10 a.example");
        Route[] routes = [new Route(["two.example", "[192.0.2.1]"], NextHop.ByMx with { Tls = TlsLevel.Verified })];
        SiteDecision one = await DecideAsync(dns, "x@one.example", false, routes);
        SiteDecision two = await DecideAsync(dns, "x@two.example", false, routes);
        Assert.Equal(("mx:a.example", "mx:a.example?tls=verified"), (one.Site!.Key, two.Site!.Key));
        Assert.Equal([new SiteHost("a.example", 10, 25) { Tls = TlsLevel.Verified }], two.Site.Hosts);
        Assert.Equal("mx:[192.0.2.1]?tls=verified", (await DecideAsync(dns, "x@[192.0.2.1]", false, routes)).Site!.Key);
    }

    [Fact]
    public async Task A_chosen_next_hop_with_another_level_is_another_site_of_the_same_domain()
    {
        FakeDns dns = new FakeDns().Mx("example.com", "10 a.example");
        SiteResolver resolver = new(new RouteTable([]), dns, new DeliveryOptions { Hostname = "mta.example" });
        RouteChoice chosen = new(Released: false, NextHop.ByMx with { Tls = TlsLevel.Off });
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal("mx:a.example", (await resolver.ResolveAsync("example.com", default, Stop)).Site!.Key);
            Assert.Equal("mx:a.example?tls=off", (await resolver.ResolveAsync("example.com", chosen, Stop)).Site!.Key);
        }
    }

    [Theory]
    [InlineData(NextHopKind.Discard)]
    [InlineData(NextHopKind.Hold)]
    [InlineData(NextHopKind.Reject)]
    public async Task Routes_without_a_host_are_told_as_they_are(NextHopKind kind)
    {
        SiteDecision decision = await DecideAsync(new FakeDns(), "x@example.com", false, new Route(["*"], new NextHop(kind)));
        Assert.Equal(new SiteDecision(null, kind, null), decision);
    }

    [Fact]
    public async Task Released_mail_passes_hold_routes_by()
    {
        FakeDns dns = new FakeDns().Mx("example.com", "10 a.example");
        SiteResolver resolver = new(new RouteTable([new Route(["*"], new NextHop(NextHopKind.Hold))]), dns, new DeliveryOptions { Hostname = "mta.example" });
        Assert.Equal("mx:a.example", (await resolver.ResolveAsync("example.com", new RouteChoice(Released: true), Stop)).Site!.Key);
    }

    [Fact]
    public void A_known_destination_is_decided_without_allocating()
    {
        FakeDns dns = new FakeDns().Mx("example.com", "10 a.example");
        SiteResolver resolver = new(new RouteTable([]), dns, new DeliveryOptions { Hostname = "mta.example" });
        EmailAddress address = DeliveryBench.Address("x@example.com");
        Assert.True(resolver.TryResolve(address, out SiteDecision first));
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            resolver.TryResolve(address, out _);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        resolver.TryResolve(address, out SiteDecision again);
        Assert.Same(first.Site, again.Site);
        dns.Mx("example.com", "10 b.example");
        Assert.True(resolver.TryResolve(address, out SiteDecision changed));
        Assert.Equal("mx:b.example", changed.Site!.Key);
    }

    [Fact]
    public async Task A_site_has_a_bounded_number_of_hosts()
    {
        FakeDns dns = new FakeDns().Mx("example.com", [.. Enumerable.Range(0, 64).Select(static i => $"{i} h{i}.example")]);
        Assert.Equal(SiteResolver.MaxHosts, (await DecideAsync(dns, "x@example.com")).Site!.Hosts.Count);
    }

    [Theory]
    [InlineData("127.0.0.1", 25, true, true)]
    [InlineData("127.8.9.1", 2525, true, true)]
    [InlineData("::1", 25, true, true)]
    [InlineData("::ffff:127.0.0.1", 25, true, true)]
    [InlineData("0.0.0.0", 25, true, true)]
    [InlineData("127.0.0.1", 2500, false, false)]
    [InlineData("127.0.0.1", 2525, false, true)]
    [InlineData("198.51.100.7", 25, true, true)]
    [InlineData("198.51.100.7", 26, true, false)]
    [InlineData("198.51.100.8", 25, true, false)]
    public void Own_endpoints_are_known(string address, int port, bool byMx, bool expected)
    {
        DeliveryOptions options = new() { Hostname = "mta.example", OwnEndpoints = [new IPEndPoint(IPAddress.Any, 2525), IPEndPoint.Parse("198.51.100.7:25")] };
        Assert.Equal(expected, new OwnAddresses(options, TimeProvider.System).IsOwn(new IPEndPoint(IPAddress.Parse(address), port), byMx));
        Assert.False(new OwnAddresses(options with { AllowOwnAddresses = true }, TimeProvider.System).IsOwn(new IPEndPoint(IPAddress.Parse(address), port), byMx));
    }
}
