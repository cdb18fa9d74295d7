using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>The sites of jobs: that of the last routing, else where its domain or chosen next hop leads as far as that is known now. Not for concurrent use.</summary>
internal sealed class SiteNames(ISiteDirectory sites, JobNames names)
{
    private readonly NameMemo<string?> _byDomain = new(names.Domains, sites.SiteOf);

    /// <summary>Finds the site's key; null: not known yet. False when only the record can say: the recipients are in several domains.</summary>
    public bool TryFind(in Job job, out string? site)
    {
        if (job.Site != 0 && sites.SiteKey(job.Site) is { } key)
        {
            site = key;
            return true;
        }

        if (job.Has(JobFlags.Rerouted))
        {
            // A configured next hop's text is its site's key; any other is not known before it is routed.
            string? hop = names.Routes.Get(job.Route);
            site = hop is not null && SiteKeys.IsConfigured(hop) ? hop : null;
            return true;
        }

        site = null;
        if (job.Has(JobFlags.Mixed))
        {
            return false;
        }

        _byDomain.TryGet(job.Domain, out site);
        return true;
    }

    /// <summary>The same for one of its recipients.</summary>
    public string? Find(in Job job, EmailAddress recipient) => TryFind(job, out string? site) ? site : sites.SiteOf(recipient);
}
