using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Which hosts and addresses are tried, in what order, and what it means when none takes a session.</summary>
public class CourierConnectTests
{
    private static readonly SocketException Refused = new((int)SocketError.ConnectionRefused);

    private static Site Site(params string[] hosts) =>
        new("mx:" + string.Join(',', hosts), [.. hosts.Select(static h => new SiteHost(h.Split('/')[0], int.Parse(h.Split('/')[1], System.Globalization.CultureInfo.InvariantCulture), 25))]);

    private static void RefuseAllBut(CourierBench bench, params string[] working) =>
        bench.Mx.OnConnect = (endpoint, _) => ValueTask.FromResult<Exception?>(working.Contains(endpoint.Address.ToString()) ? null : Refused);

    private static IEnumerable<string> Connects(CourierBench bench) => bench.Mx.Connects.Select(static e => e.Address.ToString());

    [Fact]
    public async Task Addresses_of_a_host_are_tried_in_turns_of_the_families()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10") };
        bench.Dns.Host("a.example", "192.0.2.1", "192.0.2.2", "2001:db8::1");
        RefuseAllBut(bench, "192.0.2.2", "192.0.2.1");
        Assert.Equal(DeliveryStatus.Delivered, (await bench.SendAsync()).Status);
        Assert.Equal("2001:db8::1", Connects(bench).First());
        Assert.Equal(2, Connects(bench).Count());
    }

    [Fact]
    public async Task Hosts_are_tried_by_preference_and_looked_up_only_when_needed()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/20", "c.example/30") };
        bench.Dns.Host("a.example", "192.0.2.1").Host("b.example", "192.0.2.2").Host("c.example", "192.0.2.3");
        RefuseAllBut(bench, "192.0.2.2", "192.0.2.3");
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal("b.example[192.0.2.2]", outcome.Peer);
        Assert.Equal(["192.0.2.1", "192.0.2.2"], Connects(bench));
        Assert.DoesNotContain(bench.Dns.Lookups, static l => l.Contains("c.example", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Equal_hosts_share_the_load()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/10", "c.example/10") };
        bench.Dns.Host("a.example", "192.0.2.1").Host("b.example", "192.0.2.2").Host("c.example", "192.0.2.3");
        SmtpCourierFactory factory = bench.NewFactory();
        for (int i = 0; i < 60; i++)
        {
            await using ICourier courier = factory.Create(bench.Site);
            await courier.DeliverAsync(bench.Task(null, "\r\nx\r\n", "a@example.com"), CancellationToken.None);
        }

        Assert.Equal(60, Connects(bench).Count());
        Assert.All(Connects(bench).GroupBy(static a => a), static g => Assert.InRange(g.Count(), 5, 40));
        Assert.Equal(3, Connects(bench).Distinct().Count());
    }

    [Fact]
    public async Task A_host_that_greets_with_a_refusal_is_passed_over()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/20") };
        bench.Dns.Host("a.example", "192.0.2.1").Host("b.example", "192.0.2.2");
        bench.Mx.Script = static (session, line) => session == 0 && line == "greeting" ? "554 no service" : null;
        Assert.Equal("b.example[192.0.2.2]", (await bench.SendAsync()).Peer);
        await Waiting.UntilAsync(() => bench.Mx.LinesOf(0).Contains("QUIT"));
    }

    [Fact]
    public async Task A_temporary_refusal_outweighs_a_permanent_one()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/20", "c.example/30") };
        bench.Dns.Host("a.example", "192.0.2.1").Host("b.example", "192.0.2.2").Host("c.example", "192.0.2.3");
        bench.Mx.Script = static (session, line) => line == "greeting" ? session == 1 ? "421 busy" : "554 no service" : null;
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, 421), (outcome.Status, outcome.Code));
        Assert.Equal(3, bench.Mx.Sessions);
    }

    [Fact]
    public async Task Nobody_listening_defers_and_says_where()
    {
        await using CourierBench bench = new();
        RefuseAllBut(bench);
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Site, new EnhancedCode(4, 4, 1)), (outcome.Status, outcome.Stage, outcome.Fault, outcome.Enhanced));
        Assert.Contains("mx.example[192.0.2.1]", outcome.Text, StringComparison.Ordinal);
        Assert.Equal(CourierState.Closed, bench.Courier.State);
    }

    [Fact]
    public async Task The_number_of_attempts_is_bounded()
    {
        await using CourierBench bench = new() { Site = Site([.. Enumerable.Range(0, 16).Select(static i => $"h{i}.example/{i}")]) };
        for (int i = 0; i < 16; i++)
        {
            bench.Dns.Host($"h{i}.example", [.. Enumerable.Range(0, 30).Select(n => $"198.51.{i}.{n}")]);
        }

        RefuseAllBut(bench);
        await bench.SendAsync();
        Assert.InRange(Connects(bench).Count(), 2, 12);
        Assert.True(Connects(bench).Select(static a => a.Split('.')[2]).Distinct().Count() >= 2);
    }

    [Theory]
    [InlineData(DnsStatus.NoSuchName, "mx:a.example", DeliveryStatus.Failed, 5, 1, 2)]
    [InlineData(DnsStatus.NoData, "mx:a.example", DeliveryStatus.Failed, 5, 1, 2)]
    [InlineData(DnsStatus.TemporaryFailure, "mx:a.example", DeliveryStatus.Deferred, 4, 4, 3)]
    [InlineData(DnsStatus.NoSuchName, "smtp://a.example:25", DeliveryStatus.Deferred, 4, 1, 2)]
    [InlineData(DnsStatus.TemporaryFailure, "smtp://a.example:25", DeliveryStatus.Deferred, 4, 4, 3)]
    public async Task A_host_without_address(DnsStatus dns, string key, DeliveryStatus status, byte @class, ushort subject, ushort detail)
    {
        await using CourierBench bench = new() { Site = new Site(key, [new SiteHost("a.example", 0, 25)]) };
        bench.Dns.HostStatus("a.example", dns);
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal((status, new EnhancedCode(@class, subject, detail), DeliveryStage.Dns), (outcome.Status, outcome.Enhanced, outcome.Stage));
        Assert.Empty(bench.Mx.Connects);
    }

    [Fact]
    public async Task One_host_that_cannot_be_looked_up_leaves_the_others_and_the_hope()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/10", "c.example/20") };
        bench.Dns.HostStatus("a.example", DnsStatus.TemporaryFailure).HostStatus("b.example", DnsStatus.NoSuchName).Host("c.example", "192.0.2.3");
        Assert.Equal("c.example[192.0.2.3]", (await bench.SendAsync()).Peer);
        await bench.Courier.QuitAsync();
        bench.Dns.HostStatus("c.example", DnsStatus.NoSuchName);
        Assert.Equal((DeliveryStatus.Deferred, new EnhancedCode(4, 4, 3)), ((await bench.SendAsync()).Status, (await bench.SendAsync()).Enhanced));
    }

    [Fact]
    public async Task Our_own_address_and_what_is_less_preferred_are_not_tried()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/20", "c.example/20", "d.example/30") };
        bench.Options = bench.Options with { OwnEndpoints = [IPEndPoint.Parse("198.51.100.1:25")] };
        bench.Dns.Host("a.example", "192.0.2.1").Host("b.example", "192.0.2.2").Host("c.example", "192.0.2.3", "198.51.100.1").Host("d.example", "192.0.2.4");
        RefuseAllBut(bench);
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal(["192.0.2.1"], Connects(bench));
        Assert.Equal((DeliveryStatus.Deferred, DeliveryStage.Connect), (outcome.Status, outcome.Stage));
    }

    [Theory]
    [InlineData("127.0.0.1", "mx:", false, DeliveryStatus.Failed)]
    [InlineData("198.51.100.1", "mx:", false, DeliveryStatus.Failed)]
    [InlineData("198.51.100.1", "smtp://", false, DeliveryStatus.Deferred)]
    [InlineData("127.0.0.1", "smtp://", false, DeliveryStatus.Delivered)]
    [InlineData("127.0.0.1", "mx:", true, DeliveryStatus.Delivered)]
    [InlineData("198.51.100.1", "mx:", true, DeliveryStatus.Delivered)]
    public async Task Mail_to_ourselves_is_a_loop(string address, string scheme, bool allow, DeliveryStatus expected)
    {
        await using CourierBench bench = new() { Site = new Site(scheme + "a.example", [new SiteHost("a.example", 0, 25)]) };
        bench.Options = bench.Options with { OwnEndpoints = [IPEndPoint.Parse("198.51.100.1:25")], AllowOwnAddresses = allow };
        bench.Dns.Host("a.example", address);
        DeliveryOutcome outcome = await bench.SendAsync();
        Assert.Equal(expected, outcome.Status);
        if (expected != DeliveryStatus.Delivered)
        {
            Assert.Equal((4, 6), (outcome.Enhanced.Subject, outcome.Enhanced.Detail));
            Assert.Empty(bench.Mx.Connects);
        }
    }

    [Fact]
    public async Task A_host_that_does_not_answer_is_given_up_after_the_connect_time_out()
    {
        await using CourierBench bench = new() { Site = Site("a.example/10", "b.example/20") };
        bench.Dns.Host("a.example", "192.0.2.1").Host("b.example", "192.0.2.2");
        bench.Mx.OnConnect = async (endpoint, token) =>
        {
            if (endpoint.Address.ToString() == "192.0.2.1")
            {
                await Task.Delay(Timeout.Infinite, token);
            }

            return null;
        };
        Task<DeliveryOutcome> sending = bench.SendAsync();
        await Waiting.UntilAsync(() => bench.Mx.Connects.Count == 1);
        bench.Time.Advance(bench.Options.ConnectTimeout - TimeSpan.FromSeconds(1));
        Assert.False(sending.IsCompleted);
        bench.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("b.example[192.0.2.2]", (await sending).Peer);
    }

    [Theory]
    [InlineData("192.0.2.9", "[192.0.2.9]")]
    [InlineData("2001:db8::9", "[2001:db8::9]")]
    public async Task An_address_literal_is_its_own_host(string literal, string peer)
    {
        await using CourierBench bench = new() { Site = new Site($"mx:[{literal}]", [new SiteHost(literal, 0, 25)]) };
        Assert.Equal(peer, (await bench.SendAsync()).Peer);
        Assert.Empty(bench.Dns.Lookups);
    }

    [Fact]
    public async Task Another_port_is_named_in_the_peer()
    {
        await using CourierBench bench = new() { Site = new Site("smtp://mx.example:2525", [new SiteHost("mx.example", 0, 2525)]) };
        Assert.Equal("mx.example[192.0.2.1]:2525", (await bench.SendAsync()).Peer);
    }

    [Fact]
    public async Task Cancellation_while_connecting_or_looking_up_is_our_own_fault()
    {
        foreach (bool lookup in (bool[])[true, false])
        {
            await using CourierBench bench = new();
            TaskCompletionSource hang = new();
            bench.Dns.Before = _ => lookup ? hang.Task : Task.CompletedTask;
            bench.Mx.OnConnect = static async (_, token) =>
            {
                await Task.Delay(Timeout.Infinite, token);
                return null;
            };
            using CancellationTokenSource stop = new();
            DeliveryTask task = bench.Task(null, "\r\nx\r\n", "a@example.com");
            Task sending = bench.Courier.DeliverAsync(task, stop.Token).AsTask();
            await Waiting.UntilAsync(() => lookup ? !bench.Dns.Lookups.IsEmpty : !bench.Mx.Connects.IsEmpty);
            await stop.CancelAsync();
            await sending;
            Assert.Equal((DeliveryStatus.Deferred, FaultOwner.Local), (task.Outcomes[0].Status, task.Outcomes[0].Fault));
        }
    }

    [Fact]
    public async Task Real_sockets_fall_back_from_a_closed_port()
    {
        await using CourierBench bench = new() { Connector = new HighPerfMta.Engine.Net.SocketConnector() };
        bench.Options = bench.Options with { AllowOwnAddresses = true };
        using Socket closed = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        closed.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        IPEndPoint open = bench.Mx.Listen();
        bench.Dns.Host("a.example", "127.0.0.1");
        bench.Site = new Site("smtp://x", [new SiteHost("a.example", 0, ((IPEndPoint)closed.LocalEndPoint!).Port), new SiteHost("a.example", 1, open.Port)]);
        Assert.Equal($"a.example[127.0.0.1]:{open.Port}", (await bench.SendAsync()).Peer);
        await bench.Courier.QuitAsync();
        Assert.Equal("QUIT", bench.Mx.LinesOf(0).Last());
    }
}
