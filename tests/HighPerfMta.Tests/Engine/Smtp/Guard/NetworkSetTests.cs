using System.Net;
using CsCheck;
using HighPerfMta.Engine.Smtp.Guard;

namespace HighPerfMta.Tests.Engine.Smtp.Guard;

public class NetworkSetTests
{
    // Few bits that vary, so that networks overlap, touch and are hit.
    private static readonly Gen<IPNetwork> V4 = Gen.Select(Gen.UInt, Gen.Int[0, 32], static (bits, prefix) => Network(Four(bits), prefix));
    private static readonly Gen<IPNetwork> V6 = Gen.Select(Gen.UInt, Gen.Int[0, 128], static (bits, prefix) => Network(Six(bits), prefix));

    [Fact]
    public void Holds_what_one_of_its_networks_holds() =>
        Gen.Select(Gen.OneOf(V4, V6).Array[0, 30], Gen.UInt.Array[20]).Sample(static (networks, probes) =>
        {
            NetworkSet set = new(networks);
            Assert.True(set.Ranges <= set.Count);
            foreach (IPAddress address in probes.SelectMany(static p => (IPAddress[])[Four(p), Six(p)]).Concat(networks.SelectMany(Edges)))
            {
                Assert.Equal(networks.Any(n => n.BaseAddress.AddressFamily == address.AddressFamily && n.Contains(address)), set.Holds(address));
            }
        });

    [Fact]
    public void Networks_that_touch_become_one()
    {
        NetworkSet set = new([IPNetwork.Parse("10.0.1.0/24"), IPNetwork.Parse("10.0.0.0/24"), IPNetwork.Parse("10.0.0.7/32"), IPNetwork.Parse("2001:db8::/33"), IPNetwork.Parse("2001:db8:8000::/33")]);
        Assert.Equal((5, 2), (set.Count, set.Ranges));
        Assert.True(set.Holds(IPAddress.Parse("10.0.1.255")));
        Assert.False(set.Holds(IPAddress.Parse("10.0.2.0")));
        Assert.True(set.Holds(IPAddress.Parse("2001:db8:ffff::1")));
    }

    [Theory]
    [InlineData("0.0.0.0/0", "255.255.255.255", "::1")]
    [InlineData("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.1")]
    public void All_of_a_family_is_none_of_the_other(string network, string held, string other)
    {
        NetworkSet set = new([IPNetwork.Parse(network)]);
        Assert.True(set.Holds(IPAddress.Parse(held)));
        Assert.False(set.Holds(IPAddress.Parse(other)));
    }

    private static IPAddress Four(uint bits) => new([10, (byte)(bits & 1), (byte)((bits >> 1) & 3), (byte)(bits >> 24)]);

    private static IPAddress Six(uint bits)
    {
        byte[] octets = new byte[16];
        octets[0] = 0x20;
        octets[7] = (byte)(bits & 3);
        octets[8] = (byte)((bits >> 2) & 1);
        octets[15] = (byte)(bits >> 24);
        return new IPAddress(octets);
    }

    private static IPNetwork Network(IPAddress address, int prefix)
    {
        byte[] octets = address.GetAddressBytes();
        for (int bit = prefix; bit < 8 * octets.Length; bit++)
        {
            octets[bit / 8] &= (byte)~(0x80 >> (bit % 8));
        }

        return new IPNetwork(new IPAddress(octets), prefix);
    }

    /// <summary>The first and the last address, and those beside them.</summary>
    private static IEnumerable<IPAddress> Edges(IPNetwork network)
    {
        byte[] first = network.BaseAddress.GetAddressBytes();
        byte[] last = [.. first];
        for (int bit = network.PrefixLength; bit < 8 * first.Length; bit++)
        {
            last[bit / 8] |= (byte)(0x80 >> (bit % 8));
        }

        return [new IPAddress(first), new IPAddress(last), Step(first, -1), Step(last, 1)];
    }

    private static IPAddress Step(byte[] octets, int by)
    {
        byte[] next = [.. octets];
        for (int i = next.Length - 1; i >= 0; i--)
        {
            int sum = next[i] + by;
            next[i] = (byte)sum;
            if (sum is >= 0 and <= 255)
            {
                break;
            }
        }

        return new IPAddress(next);
    }
}
