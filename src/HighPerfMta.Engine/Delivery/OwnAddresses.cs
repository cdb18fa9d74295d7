using System.Net;
using System.Net.NetworkInformation;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Knows which endpoints are this server's own: mail sent there would come back.</summary>
internal sealed class OwnAddresses(DeliveryOptions options, TimeProvider time)
{
    private static readonly TimeSpan InterfacesAge = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();
    private HashSet<IPAddress>? _interfaces;
    private long _read;

    /// <summary>True when a connection there would be a loop.</summary>
    /// <param name="endpoint">Where mail would go.</param>
    /// <param name="byMx">An MX record said so. No MX host of another is on our loopback; an operator's next hop may well be.</param>
    public bool IsOwn(IPEndPoint endpoint, bool byMx)
    {
        if (options.AllowOwnAddresses)
        {
            return false;
        }

        IPAddress address = Unmap(endpoint.Address);
        if (byMx && (IPAddress.IsLoopback(address) || address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any)))
        {
            return true;
        }

        foreach (IPEndPoint own in options.OwnEndpoints)
        {
            if (own.Port == endpoint.Port && (Unmap(own.Address).Equals(address) || (IsWildcard(own.Address) && IsLocal(address))))
            {
                return true;
            }
        }

        return false;
    }

    private static IPAddress Unmap(IPAddress address) => address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;

    private static bool IsWildcard(IPAddress address) => address.Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);

    private bool IsLocal(IPAddress address)
    {
        if (IPAddress.IsLoopback(address))
        {
            return true;
        }

        lock (_gate)
        {
            if (_interfaces is null || time.GetElapsedTime(_read) > InterfacesAge)
            {
                _interfaces = ReadInterfaces();
                _read = time.GetTimestamp();
            }

            return _interfaces.Contains(address);
        }
    }

    private static HashSet<IPAddress> ReadInterfaces()
    {
        HashSet<IPAddress> addresses = [];
        try
        {
            foreach (NetworkInterface card in NetworkInterface.GetAllNetworkInterfaces())
            {
                foreach (UnicastIPAddressInformation own in card.GetIPProperties().UnicastAddresses)
                {
                    addresses.Add(own.Address);
                }
            }
        }
        catch (NetworkInformationException)
        {
            // Without the list only addresses that were configured by name are known; the Received count still ends a loop.
        }

        return addresses;
    }
}
