using System.Net;
using System.Runtime.CompilerServices;
using System.Text;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Routes and MX records make sites (RFC 5321 §5.1, RFC 7505). Addresses of hosts are looked up by couriers, when a connection is opened.
/// Decisions are kept as long as the MX answer they were made from, so that equal destinations share one site. Safe for concurrent use.
/// </summary>
public sealed class SiteResolver : ISiteResolver
{
    /// <summary>Hosts of a site; more are not tried.</summary>
    internal const int MaxHosts = 16;

    private readonly IRouteTable _routes;
    private readonly IDnsResolver _dns;
    private readonly DeliveryOptions _options;
    private readonly GenerationCache<string, Decided> _decided = new(20_000);
    private readonly ConditionalWeakTable<NextHop, Decided> _configured = [];

    public SiteResolver(IRouteTable routes, IDnsResolver dns, DeliveryOptions options)
    {
        _routes = routes;
        _dns = dns;
        _options = options;
    }

    /// <summary>A decision and the answer it was made from.</summary>
    private sealed record Decided(object? Source, SiteDecision Decision, TlsLevel? Tls = null);

    public bool TryResolve(string domain, in RouteChoice choice, out SiteDecision decision)
    {
        ArgumentNullException.ThrowIfNull(domain);
        return TryDecide(domain, Choose(domain, choice), out decision);
    }

    public ValueTask<SiteDecision> ResolveAsync(string domain, in RouteChoice choice, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(domain);
        return TryDecide(domain, Choose(domain, choice), out SiteDecision decision)
            ? new ValueTask<SiteDecision>(decision)
            : LookUpAsync(domain, Choose(domain, choice).Tls, cancellation);
    }

    public bool TryResolve(EmailAddress recipient, out SiteDecision decision)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        return TryResolve(recipient.Domain, default, out decision);
    }

    public ValueTask<SiteDecision> ResolveAsync(EmailAddress recipient, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        return ResolveAsync(recipient.Domain, default, cancellation);
    }

    private NextHop Choose(string domain, in RouteChoice choice)
    {
        NextHop to = choice.To ?? _routes.Find(domain);
        return choice.Released && to.Kind == NextHopKind.Hold ? NextHop.ByMx : to;
    }

    private bool TryDecide(string domain, NextHop to, out SiteDecision decision)
    {
        switch (to.Kind)
        {
            case NextHopKind.Mx:
                break;
            case NextHopKind.Smtp:
                decision = _configured.GetValue(to, static hop => new Decided(null, FromNextHop(hop))).Decision;
                return true;
            default:
                decision = new SiteDecision(null, to.Kind, null);
                return true;
        }

        bool literal = domain.StartsWith('[');
        if (literal || domain.Length == 0)
        {
            decision = literal ? WithTls(FromLiteral(domain), to.Tls) : new SiteDecision(null, NextHopKind.Mx, SiteOutcomes.NoDomain);
            return true;
        }

        bool known = _dns.TryGetMx(domain, out DnsAnswer<MxRecord>? answer);
        decision = known ? Decide(domain, to.Tls, answer!) : default;
        return known;
    }

    private async ValueTask<SiteDecision> LookUpAsync(string domain, TlsLevel? tls, CancellationToken cancellation) =>
        Decide(domain, tls, await _dns.LookupMxAsync(domain, cancellation));

    private SiteDecision Decide(string domain, TlsLevel? tls, DnsAnswer<MxRecord> answer)
    {
        if (_decided.TryGet(domain, out Decided? known) && ReferenceEquals(known.Source, answer) && known.Tls == tls)
        {
            return known.Decision;
        }

        SiteDecision decision = WithTls(FromAnswer(domain, answer), tls);
        _decided.Set(domain, new Decided(answer, decision, tls));
        return decision;
    }

    /// <summary>Domains behind the same hosts are one site only if they are secured alike.</summary>
    private static SiteDecision WithTls(SiteDecision decision, TlsLevel? tls) => decision.Site is not { } site || tls is not { } level
        ? decision
        : decision with { Site = new Site($"{site.Key}?tls={TlsLevels.ToWord(level)}", [.. site.Hosts.Select(h => h with { Tls = level })]) };

    private SiteDecision FromAnswer(string domain, DnsAnswer<MxRecord> answer)
    {
        switch (answer.Status)
        {
            case DnsStatus.Found:
                return FromRecords(domain, answer.Records);
            case DnsStatus.NoData:
                // RFC 5321 §5.1: without MX records the domain's own address is the implicit MX.
                return IsOwnName(domain)
                    ? Failed(SiteOutcomes.Loop(domain))
                    : new SiteDecision(new Site(SiteKeys.Mx + domain, [new SiteHost(domain, 0, _options.SmtpPort)]), NextHopKind.Mx, null);
            case DnsStatus.NoSuchName:
                return Failed(SiteOutcomes.NoSuchDomain(domain));
            default:
                return Failed(SiteOutcomes.DnsFailed(domain, answer.Explanation));
        }
    }

    private SiteDecision FromRecords(string domain, IReadOnlyList<MxRecord> records)
    {
        if (records is [{ Exchange: "" }])
        {
            return Failed(SiteOutcomes.NullMx(domain));
        }

        int own = int.MaxValue;
        List<SiteHost> hosts = [];
        foreach (MxRecord record in records)
        {
            if (IsOwnName(record.Exchange))
            {
                own = Math.Min(own, record.Preference);
            }
            else if (record.Exchange.Length > 0)
            {
                hosts.Add(new SiteHost(record.Exchange, record.Preference, _options.SmtpPort));
            }
        }

        // RFC 5321 §5.1: hosts at our own preference and less preferred ones would only send the mail back here.
        hosts.RemoveAll(h => h.Preference >= own);
        if (hosts.Count == 0)
        {
            return Failed(own == int.MaxValue ? SiteOutcomes.NoUsableMx(domain) : SiteOutcomes.Loop(domain));
        }

        hosts.Sort(static (a, b) => a.Preference != b.Preference ? a.Preference.CompareTo(b.Preference) : string.CompareOrdinal(a.Name, b.Name));
        if (hosts.Count > MaxHosts)
        {
            hosts.RemoveRange(MaxHosts, hosts.Count - MaxHosts);
        }

        return new SiteDecision(new Site(KeyOf(hosts), hosts), NextHopKind.Mx, null);
    }

    /// <summary>The hosts in order: "+" between equal preferences, "," before the next one. Domains with the same set have the same key.</summary>
    private static string KeyOf(List<SiteHost> hosts)
    {
        StringBuilder key = new(SiteKeys.Mx);
        for (int i = 0; i < hosts.Count; i++)
        {
            if (i > 0)
            {
                key.Append(hosts[i].Preference == hosts[i - 1].Preference ? '+' : ',');
            }

            key.Append(hosts[i].Name);
        }

        return key.ToString();
    }

    private SiteDecision FromLiteral(string literal)
    {
        const string six = "[IPv6:";
        string text = literal.StartsWith(six, StringComparison.OrdinalIgnoreCase) ? literal[six.Length..^1] : literal[1..^1];
        return IPAddress.TryParse(text, out IPAddress? address)
            ? new SiteDecision(new Site(SiteKeys.Mx + literal, [new SiteHost(address.ToString(), 0, _options.SmtpPort)]), NextHopKind.Mx, null)
            : Failed(SiteOutcomes.NoSuchDomain(literal));
    }

    private static SiteDecision FromNextHop(NextHop first)
    {
        List<SiteHost> hosts = [];
        for (NextHop? hop = first; hop is not null; hop = hop.Fallback)
        {
            hosts.Add(new SiteHost(hop.Host, hosts.Count, hop.Port) { Tls = hop.Tls, IsImplicitTls = hop.IsImplicitTls });
        }

        return new SiteDecision(new Site(first.ToString(), hosts), NextHopKind.Smtp, null);
    }

    private bool IsOwnName(string name) => !_options.AllowOwnAddresses && name.Equals(_options.Hostname, StringComparison.OrdinalIgnoreCase);

    private static SiteDecision Failed(DeliveryOutcome outcome) => new(null, NextHopKind.Mx, outcome);
}
