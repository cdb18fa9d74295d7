using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Tells the sites of queued mail, as far as they are known.</summary>
public interface ISiteDirectory
{
    /// <summary>The key of the site that the recipient's mail goes to, as far as it is known without waiting for DNS; null when it is not.</summary>
    string? SiteOf(EmailAddress recipient);

    /// <summary>As the other, for a domain in its normal form.</summary>
    string? SiteOf(string domain);

    /// <summary>The key of a site by its number (<see cref="Job.Site"/>); null for 0 and for a number that is nobody's now.</summary>
    string? SiteKey(int number);
}
