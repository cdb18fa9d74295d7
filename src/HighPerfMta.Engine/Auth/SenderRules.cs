using HighPerfMta.Protocol.Addresses;

namespace HighPerfMta.Engine.Auth;

/// <summary>Says as whom a user may send. A user is looked up once, at login.</summary>
public sealed class SenderRules
{
    private readonly SenderCheck _check;
    private readonly Dictionary<string, List<AddressPattern>> _byUser = new(StringComparer.Ordinal);

    public SenderRules(SubmissionOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _check = options.Senders;
        foreach (SenderRule rule in options.Rules)
        {
            foreach (string user in rule.Users)
            {
                if (!_byUser.TryGetValue(user, out List<AddressPattern>? addresses))
                {
                    _byUser.Add(user, addresses = []);
                }

                addresses.AddRange(rule.Addresses);
            }
        }
    }

    /// <summary>What the user may send as: the name itself where it is an address, what the backend says, and what the configuration adds.</summary>
    public AllowedSenders Of(AuthenticatedUser user)
    {
        ArgumentNullException.ThrowIfNull(user);
        if (_check == SenderCheck.Any)
        {
            return new AllowedSenders([AddressPattern.All]);
        }

        List<AddressPattern> patterns = [];

        // A name without a domain is nobody's address, and no name is a pattern: it is the client's word.
        if (AddressParser.TryParse(user.Name, out EmailAddress? own, out _) && own.Domain.Length > 0)
        {
            patterns.Add(AddressPattern.Of(own));
        }

        foreach (string text in user.Addresses)
        {
            if (AddressPattern.TryParse(text, out AddressPattern? pattern))
            {
                patterns.Add(pattern);
            }
        }

        int at = user.Name.LastIndexOf('@');
        foreach (string key in (string[])[user.Name, at < 0 ? "" : "*" + user.Name[at..], "*"])
        {
            patterns.AddRange(_byUser.GetValueOrDefault(key) ?? []);
        }

        return new AllowedSenders(patterns);
    }
}

/// <summary>What one user may send as.</summary>
public sealed class AllowedSenders(IReadOnlyList<AddressPattern> patterns)
{
    /// <summary>The reverse-path may be used. The null sender is everyone's: it is that of notifications (RFC 8098 §3).</summary>
    /// <param name="sender">Null is the null sender.</param>
    public bool Has(EmailAddress? sender) => sender is null || patterns.Any(p => p.Matches(sender));
}
