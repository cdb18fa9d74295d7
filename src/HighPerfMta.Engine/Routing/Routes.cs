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
    /// <param name="domain">In its normal form, an address literal with its brackets, or empty.</param>
    NextHop Find(string domain);

    NextHop Find(EmailAddress recipient);
}
