using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>
/// Networks of both families, immutable. 8 octets for one of IPv4 and 32 for one of IPv6, less where they touch; an address is found in as many steps as their number has binary digits.
/// </summary>
internal sealed class NetworkSet
{
    private readonly AddressRanges<uint> _v4;
    private readonly AddressRanges<UInt128> _v6;

    public NetworkSet(IReadOnlyCollection<IPNetwork> networks)
    {
        Count = networks.Count;
        _v4 = new AddressRanges<uint>(networks.Where(static n => !IsV6(n)).Select(static n =>
        {
            uint first = (uint)ClientKey.Of(n.BaseAddress);
            return (first, first | (n.PrefixLength == 0 ? uint.MaxValue : (uint)((1UL << (32 - n.PrefixLength)) - 1)));
        }));
        _v6 = new AddressRanges<UInt128>(networks.Where(IsV6).Select(static n =>
        {
            UInt128 first = ClientKey.Of(n.BaseAddress);
            return (first, first | (n.PrefixLength == 0 ? UInt128.MaxValue : (UInt128.One << (128 - n.PrefixLength)) - 1));
        }));
    }

    /// <summary>Networks that were given.</summary>
    public int Count { get; }

    /// <summary>Ranges that are kept of them.</summary>
    public int Ranges => _v4.Count + _v6.Count;

    /// <param name="address">In the form of <see cref="RelayPolicy.Normalize"/>.</param>
    public bool Holds(IPAddress address) =>
        Count > 0 && (address.AddressFamily == AddressFamily.InterNetwork ? _v4.Holds((uint)ClientKey.Of(address)) : _v6.Holds(ClientKey.Of(address)));

    private static bool IsV6(IPNetwork network) => network.BaseAddress.AddressFamily == AddressFamily.InterNetworkV6;
}
