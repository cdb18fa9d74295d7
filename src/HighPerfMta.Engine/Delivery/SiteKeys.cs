namespace HighPerfMta.Engine.Delivery;

/// <summary>The forms of <see cref="Site.Key"/>.</summary>
internal static class SiteKeys
{
    /// <summary>Before the hosts of an MX set.</summary>
    public const string Mx = "mx:";

    /// <summary>Before a configured next hop.</summary>
    private const string Smtp = "smtp://";

    private const string Smtps = "smtps://";

    /// <summary>The text is the key of a configured next hop.</summary>
    public static bool IsConfigured(string key) => key.StartsWith(Smtp, StringComparison.Ordinal) || key.StartsWith(Smtps, StringComparison.Ordinal);

    /// <summary>The operator named the hosts: what is wrong with them is no property of the recipient's address.</summary>
    public static bool IsConfigured(this Site site) => IsConfigured(site.Key);
}
