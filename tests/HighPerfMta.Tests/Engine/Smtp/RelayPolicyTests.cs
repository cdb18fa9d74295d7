using System.Net;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Tests.Engine.Smtp;

public class RelayPolicyTests
{
    private static readonly RelayPolicy Policy = new(new RelayOptions
    {
        Networks = [IPNetwork.Parse("10.0.0.0/8"), IPNetwork.Parse("2001:db8::/32")],
        Domains = ["Example.NET", ".sub.example", "[192.0.2.9]", "bücher.example"],
    });

    [Theory]
    [InlineData("10.255.0.1", true)]
    [InlineData("11.0.0.1", false)]
    [InlineData("2001:db8::25", true)]
    [InlineData("2001:db9::25", false)]
    [InlineData("::ffff:10.0.0.1", true)]
    [InlineData("::ffff:11.0.0.1", false)]
    [InlineData("2001:db8::25%3", true)]
    public void Networks(string client, bool trusted) => Assert.Equal(trusted, Policy.IsTrusted(RelayPolicy.Normalize(IPAddress.Parse(client))));

    [Fact]
    public void No_address_is_no_trust() => Assert.False(Policy.IsTrusted(null));

    [Theory]
    [InlineData("a@example.net", true)]
    [InlineData("a@EXAMPLE.net", true)]
    [InlineData("a@x.example.net", false)]
    [InlineData("a@notexample.net", false)]
    [InlineData("a@sub.example", false)]
    [InlineData("a@x.sub.example", true)]
    [InlineData("a@x.y.sub.example", true)]
    [InlineData("a@xsub.example", false)]
    [InlineData("a@xn--bcher-kva.example", true)]
    [InlineData("a@BÜCHER.example", true)]
    [InlineData("a@[192.0.2.9]", true)]
    [InlineData("a@[192.0.2.8]", false)]
    [InlineData("a%b@example.net", false)]
    [InlineData("b!a@example.net", false)]
    [InlineData("\"a@b\"@example.net", false)]
    [InlineData("\"a\\@b\"@example.net", false)]
    [InlineData("\"a b\"@example.net", true)]
    public void Recipients_of_strangers_on_an_mx(string address, bool accepted)
    {
        Assert.True(AddressParser.TryParse(address, out EmailAddress? recipient, out string error), error);
        Assert.Equal(accepted, Policy.CheckRecipient(ListenerProfile.Mx, trusted: false, recipient) is null);
        Assert.Null(Policy.CheckRecipient(ListenerProfile.Mx, trusted: true, recipient));
        Assert.NotNull(Policy.CheckRecipient(ListenerProfile.Relay, trusted: false, recipient));
    }
}
