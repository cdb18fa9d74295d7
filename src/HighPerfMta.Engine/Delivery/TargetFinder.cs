using System.Net;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Hosts of one preference with their addresses.</summary>
/// <param name="Targets">In the order to try; empty when no host has an address.</param>
/// <param name="Next">Index of the first host of the next preference.</param>
/// <param name="IsOwn">One of the addresses is this server's: hosts of this preference and less preferred ones are not to be tried.</param>
/// <param name="Failure">A lookup that failed for now; null when all were answered.</param>
internal readonly record struct TargetGroup(IReadOnlyList<DeliveryTarget> Targets, int Next, bool IsOwn, DeliveryOutcome? Failure);

/// <summary>
/// Looks up the addresses of a site's hosts, one preference at a time: most connections need the first only. Hosts of one preference come in random
/// order (RFC 5321 §5.1), the addresses of a host in turns of the families, IPv6 first. Safe for concurrent use.
/// </summary>
internal sealed class TargetFinder(IDnsResolver dns, OwnAddresses own, Random random)
{
    /// <summary>Addresses of one host that are tried.</summary>
    private const int MaxAddresses = 8;

    public async ValueTask<TargetGroup> FindAsync(Site site, int first, CancellationToken cancellation)
    {
        int next = first;
        while (next < site.Hosts.Count && site.Hosts[next].Preference == site.Hosts[first].Preference)
        {
            next++;
        }

        SiteHost[] hosts = new SiteHost[next - first];
        for (int i = 0; i < hosts.Length; i++)
        {
            hosts[i] = site.Hosts[first + i];
        }

        Shuffle(hosts);
        Task<(List<IPAddress>, DeliveryOutcome?)>[] lookups = new Task<(List<IPAddress>, DeliveryOutcome?)>[hosts.Length];
        for (int i = 0; i < hosts.Length; i++)
        {
            lookups[i] = LookUpAsync(hosts[i].Name, cancellation);
        }

        List<DeliveryTarget> targets = [];
        bool isOwn = false;
        DeliveryOutcome? failure = null;
        for (int i = 0; i < hosts.Length; i++)
        {
            (List<IPAddress> addresses, DeliveryOutcome? failed) = await lookups[i];
            failure ??= failed;
            foreach (IPAddress address in addresses)
            {
                IPEndPoint endpoint = new(address, hosts[i].Port);
                isOwn |= own.IsOwn(endpoint, byMx: !site.IsConfigured());
                targets.Add(new DeliveryTarget(hosts[i].Name, endpoint) { Tls = hosts[i].Tls, IsImplicitTls = hosts[i].IsImplicitTls });
            }
        }

        return new TargetGroup(targets, next, isOwn, failure);
    }

    private async Task<(List<IPAddress> Addresses, DeliveryOutcome? Failure)> LookUpAsync(string host, CancellationToken cancellation)
    {
        if (IPAddress.TryParse(host, out IPAddress? literal))
        {
            return ([literal], null);
        }

        ValueTask<DnsAnswer<IPAddress>> six = dns.LookupAddressesAsync(host, ipv6: true, cancellation);
        ValueTask<DnsAnswer<IPAddress>> four = dns.LookupAddressesAsync(host, ipv6: false, cancellation);
        DnsAnswer<IPAddress> sixes;
        DnsAnswer<IPAddress> fours;
        try
        {
            sixes = await six;
        }
        finally
        {
            fours = await four;
        }

        DnsAnswer<IPAddress>? failed = sixes.Status == DnsStatus.TemporaryFailure ? sixes : fours.Status == DnsStatus.TemporaryFailure ? fours : null;
        return (TakeTurns([.. sixes.Records], [.. fours.Records]), failed is null ? null : SiteOutcomes.HostLookupFailed(failed.Explanation));
    }

    private List<IPAddress> TakeTurns(IPAddress[] sixes, IPAddress[] fours)
    {
        Shuffle(sixes);
        Shuffle(fours);
        List<IPAddress> addresses = [];
        for (int i = 0; addresses.Count < MaxAddresses && i < Math.Max(sixes.Length, fours.Length); i++)
        {
            if (i < sixes.Length)
            {
                addresses.Add(sixes[i]);
            }

            if (i < fours.Length)
            {
                addresses.Add(fours[i]);
            }
        }

        return addresses;
    }

    private void Shuffle<T>(T[] items)
    {
        if (items.Length < 2)
        {
            return;
        }

        lock (random)
        {
            random.Shuffle(items);
        }
    }
}
