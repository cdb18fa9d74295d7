using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Routing;

public enum NextHopKind
{
    Mx, Smtp, Discard, Hold, Reject,
}

/// <summary>Where a route sends mail. Host and Port are set for <see cref="NextHopKind.Smtp"/> only; an IPv6 literal host has no brackets here.</summary>
public sealed record NextHop(NextHopKind Kind, string Host = "", int Port = 0)
{
    public static NextHop ByMx { get; } = new(NextHopKind.Mx);
}

/// <summary>One <c>[[route]]</c>: patterns are an exact domain, ".sub" (every subdomain) or "*".</summary>
public sealed record Route(IReadOnlyList<string> Domains, NextHop To);

/// <summary>Finds the next hop of an address: first matching route wins; without a match, MX.</summary>
public interface IRouteTable
{
    NextHop Find(EmailAddress recipient);
}
