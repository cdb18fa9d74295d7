using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Control;

/// <summary>
/// Sites without a running server and without DNS: a configured next hop by its text, as a running server names it; what goes by MX by its domain, as the hosts are not known.
/// </summary>
internal sealed class RouteSites(IRouteTable routes) : ISiteDirectory
{
    public string? SiteOf(EmailAddress recipient) => SiteOf(recipient.Domain);

    public string? SiteOf(string domain)
    {
        NextHop hop = routes.Find(domain);
        return hop.Kind == NextHopKind.Mx ? $"mx of {domain}" : hop.ToString();
    }

    /// <summary>Numbers of sites are not kept over a stop.</summary>
    public string? SiteKey(int number) => null;
}
