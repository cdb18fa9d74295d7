using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;
using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Routing;

/// <summary>
/// Routes by domain. The first route that matches wins, however exact a later one is. Look-up takes time by the number of the domain's labels, not by
/// the number of routes, and does not allocate. Immutable.
/// </summary>
public sealed class RouteTable : IRouteTable
{
    private readonly FrozenDictionary<string, (int Order, NextHop To)>.AlternateLookup<ReadOnlySpan<char>> _exact;
    private readonly FrozenDictionary<string, (int Order, NextHop To)>.AlternateLookup<ReadOnlySpan<char>> _below;
    private readonly (int Order, NextHop To) _any = (int.MaxValue, NextHop.ByMx);

    /// <exception cref="ArgumentException">A pattern is not valid; configuration checks with <see cref="TryParsePattern"/> first.</exception>
    public RouteTable(IReadOnlyList<Route> routes)
    {
        ArgumentNullException.ThrowIfNull(routes);
        Dictionary<string, (int, NextHop)> exact = [];
        Dictionary<string, (int, NextHop)> below = [];
        for (int i = 0; i < routes.Count; i++)
        {
            foreach (string text in routes[i].Domains)
            {
                if (!TryParsePattern(text, out string pattern, out string? error))
                {
                    throw new ArgumentException(error, nameof(routes));
                }

                if (pattern != "*")
                {
                    (pattern[0] == '.' ? below : exact).TryAdd(pattern.TrimStart('.'), (i, routes[i].To));
                }
                else if (i < _any.Order)
                {
                    _any = (i, routes[i].To);
                }
            }
        }

        _exact = exact.ToFrozenDictionary(StringComparer.Ordinal).GetAlternateLookup<ReadOnlySpan<char>>();
        _below = below.ToFrozenDictionary(StringComparer.Ordinal).GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>Brings a pattern to its one form: a domain, an address literal, ".sub" (also for "*.sub") or "*".</summary>
    public static bool TryParsePattern(string text, out string pattern, [NotNullWhen(false)] out string? error)
    {
        ArgumentNullException.ThrowIfNull(text);
        error = null;
        pattern = "*";
        if (text == "*")
        {
            return true;
        }

        bool below = text.StartsWith('.') || text.StartsWith("*.", StringComparison.Ordinal);
        string name = below ? text[(text.IndexOf('.', StringComparison.Ordinal) + 1)..] : text;
        if (DomainName.TryNormalize(name, out string domain))
        {
            pattern = below ? "." + domain : domain;
            return true;
        }

        if (!below && text.StartsWith('[') && AddressParser.TryParse("x@" + text, out EmailAddress? literal, out _))
        {
            pattern = literal!.Domain;
            return true;
        }

        error = $"'{text}' is no pattern of domains; allowed: a domain, \".domain\" for everything below it, or \"*\"";
        return false;
    }

    public NextHop Find(EmailAddress recipient)
    {
        ArgumentNullException.ThrowIfNull(recipient);
        return Find(recipient.Domain);
    }

    public NextHop Find(string domain)
    {
        ArgumentNullException.ThrowIfNull(domain);
        (int Order, NextHop To) best = _any;
        ReadOnlySpan<char> rest = domain;
        if (_exact.TryGetValue(rest, out (int Order, NextHop To) exact) && exact.Order < best.Order)
        {
            best = exact;
        }

        while (!domain.StartsWith('[') && rest.IndexOf('.') is >= 0 and int dot)
        {
            rest = rest[(dot + 1)..];
            if (_below.TryGetValue(rest, out (int Order, NextHop To) found) && found.Order < best.Order)
            {
                best = found;
            }
        }

        return best.To;
    }
}
