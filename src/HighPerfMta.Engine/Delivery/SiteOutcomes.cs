using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Outcomes that routing and DNS decide, before there is a connection.</summary>
internal static class SiteOutcomes
{
    public static DeliveryOutcome NoDomain { get; } = Failed(0, new EnhancedCode(5, 1, 2), "the address has no domain and no route matches it");

    /// <summary>RFC 7505 §4.1 and §5.</summary>
    public static DeliveryOutcome NullMx(string domain) => Failed(556, new EnhancedCode(5, 1, 10), $"the domain {domain} does not accept mail (null MX)");

    public static DeliveryOutcome NoSuchDomain(string domain) => Failed(0, new EnhancedCode(5, 1, 2), $"the domain {domain} does not exist");

    public static DeliveryOutcome NoUsableMx(string domain) => Failed(0, new EnhancedCode(5, 1, 2), $"the MX records of {domain} name no usable host");

    public static DeliveryOutcome NoAddress(string site) => Failed(0, new EnhancedCode(5, 1, 2), $"no host for mail to {site} has an address");

    public static DeliveryOutcome Loop(string domain) => Failed(0, new EnhancedCode(5, 4, 6), $"mail for {domain} would come back to this server (loop)");

    public static DeliveryOutcome DnsFailed(string domain, string explanation) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Dns, FaultOwner.Recipient, 0, new EnhancedCode(4, 4, 3), $"the DNS gave no answer for {domain}: {explanation}");

    /// <summary>No host of the site could be looked up.</summary>
    public static DeliveryOutcome HostLookupFailed(string explanation) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Dns, FaultOwner.Site, 0, new EnhancedCode(4, 4, 3), $"the DNS gave no answer: {explanation}");

    /// <summary>A configured next hop cannot be used; the operator will mend it, and the mail waits.</summary>
    public static DeliveryOutcome BadNextHop(DeliveryOutcome permanent) =>
        permanent with { Status = DeliveryStatus.Deferred, Fault = FaultOwner.Site, Enhanced = permanent.Enhanced with { Class = 4 } };

    private static DeliveryOutcome Failed(int code, EnhancedCode enhanced, string text) =>
        new(DeliveryStatus.Failed, DeliveryStage.Dns, FaultOwner.Recipient, code, enhanced, text);
}
