using System.Globalization;
using System.Net;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>Delivery by MX through a real DNS server.</summary>
public class MxTests
{
    [Fact]
    public async Task The_best_mx_that_answers_gets_the_mail()
    {
        await using CapturingSink second = new(address: IPAddress.Parse("127.0.0.2"));
        await using UnboundInstance dns = await UnboundInstance.StartAsync(
            "shop.test. MX 10 dead.test.", "shop.test. MX 20 alive.test.", "dead.test. A 127.0.0.3", "alive.test. A 127.0.0.2");
        await using MtaProcess mta = await StartAsync(dns, second.Port);
        await SendAsync(mta, "user@shop.test");
        Assert.Equal(["user@shop.test"], (await second.NextAsync()).Recipients);
    }

    [Fact]
    public async Task A_domain_without_mx_is_reached_at_its_address()
    {
        await using CapturingSink sink = new(address: IPAddress.Parse("127.0.0.4"));
        await using UnboundInstance dns = await UnboundInstance.StartAsync("plain.test. A 127.0.0.4");
        await using MtaProcess mta = await StartAsync(dns, sink.Port);
        await SendAsync(mta, "user@plain.test");
        Assert.Equal(["user@plain.test"], (await sink.NextAsync()).Recipients);
    }

    [Fact]
    public async Task Null_mx_and_unknown_domains_bounce_at_once_with_the_right_status()
    {
        await using CapturingSink sink = new(address: IPAddress.Parse("127.0.0.5"));
        await using UnboundInstance dns = await UnboundInstance.StartAsync("nomail.test. MX 0 .", "home.test. A 127.0.0.5");
        await using MtaProcess mta = await StartAsync(dns, sink.Port);
        await SendAsync(mta, "user@nomail.test");
        string report = (await sink.NextAsync()).Content;
        Assert.Contains("Status: 5.1.10\r\n", report, StringComparison.Ordinal);
        await SendAsync(mta, "user@nowhere.test");
        report = (await sink.NextAsync()).Content;
        Assert.Contains("Status: 5.1.2\r\n", report, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_failing_name_server_defers()
    {
        await using UnboundInstance dns = await UnboundInstance.StartAsync("home.test. A 127.0.0.6");
        await using MtaProcess mta = await StartAsync(dns, 9);
        await SendAsync(mta, "user@broken.test");
        string list = "";
        await Eventually.TrueAsync(
            async () => (list = await mta.CommandAsync(0, "queue", "list", "--json")).Contains("4.4.3", StringComparison.Ordinal),
            () => list + mta.Log);
        Assert.Contains("user@broken.test", list, StringComparison.Ordinal);
    }

    private static Task<MtaProcess> StartAsync(UnboundInstance dns, int smtpPort) => MtaProcess.StartAsync($"""
        [dns]
        servers = ["127.0.0.1:{dns.Port.ToString(CultureInfo.InvariantCulture)}"]

        [delivery]
        smtp_port = {smtpPort.ToString(CultureInfo.InvariantCulture)}
        allow_own_addresses = true
        """);

    private static Task SendAsync(MtaProcess mta, string recipient) => Peer.RunAsync(
        Peer.Require("swaks"),
        ["--server", "127.0.0.1", "--port", mta.Port.ToString(CultureInfo.InvariantCulture), "--from", "sender@home.test", "--to", recipient]);
}
