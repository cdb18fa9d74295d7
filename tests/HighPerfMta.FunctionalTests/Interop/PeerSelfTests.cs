using System.Globalization;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Interop;

/// <summary>The peers by themselves: when one of these fails, the fault is not in our server.</summary>
public class PeerSelfTests
{
    [Fact]
    public async Task Swaks_through_postfix_reaches_the_sink()
    {
        string swaks = Peer.Require("swaks");
        await using CapturingSink sink = new();
        await using PostfixInstance postfix = await PostfixInstance.StartAsync($"relayhost = [127.0.0.1]:{sink.Port.ToString(CultureInfo.InvariantCulture)}");
        await Peer.RunAsync(swaks, ["--server", "127.0.0.1", "--port", postfix.Port.ToString(CultureInfo.InvariantCulture), "--from", "a@example.org", "--to", "b@example.net"]);
        Assert.Equal(["b@example.net"], (await sink.NextAsync()).Recipients);
    }

    [Fact]
    public async Task Unbound_answers()
    {
        await using UnboundInstance dns = await UnboundInstance.StartAsync("home.test. A 127.0.0.6");
        Assert.True(dns.Port > 0);
    }
}
