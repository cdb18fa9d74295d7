using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Routing;

public enum NextHopKind
{
    Mx, Smtp, Discard, Hold, Reject,
}

/// <summary>One <c>[[route]]</c>: patterns are an exact domain, ".sub" or "*.sub" (every subdomain) or "*".</summary>
public sealed record Route(IReadOnlyList<string> Domains, NextHop To);

/// <summary>Finds the next hop of an address: first matching route wins; without a match, MX.</summary>
public interface IRouteTable
{
    NextHop Find(EmailAddress recipient);
}
