using System.CommandLine;
using HighPerfMta.Engine.Control;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Server.Commands;

/// <summary>The options that select messages; all that are given must hold.</summary>
internal sealed class FilterOptions
{
    private readonly Option<string[]> _ids = new("--id") { Description = "queue id; may be repeated", HelpName = "ID", AllowMultipleArgumentsPerToken = true };
    private readonly Option<string?> _domain = new("--domain") { Description = "recipient's domain, or .domain for its subdomains", HelpName = "DOMAIN" };
    private readonly Option<string?> _site = new("--site") { Description = "site, as count --by site shows it", HelpName = "SITE" };
    private readonly Option<string?> _sender = new("--sender") { Description = "sender's address, @domain, or <> for the null sender", HelpName = "ADDRESS" };
    private readonly Option<string?> _recipient = new("--recipient") { Description = "recipient's address, or @domain", HelpName = "ADDRESS" };
    private readonly Option<string?> _state = new("--state") { Description = string.Join(", ", QueueSelector.States), HelpName = "STATE" };
    private readonly Option<string?> _reason = new("--reason") { Description = "regular expression over the last reply", HelpName = "REGEX" };
    private readonly Option<TimeSpan?> _older = Duration("--older", "in the queue for at least this time, such as 2h");
    private readonly Option<TimeSpan?> _newer = Duration("--newer", "in the queue for at most this time");
    private readonly Option<int?> _limit = new("--limit") { Description = "at most so many messages", HelpName = "N" };

    public IEnumerable<Option> All => [_ids, _domain, _site, _sender, _recipient, _state, _reason, _older, _newer, _limit];

    public FilterBody Read(ParseResult parsed) => new()
    {
        Ids = parsed.GetValue(_ids) ?? [],
        Domain = parsed.GetValue(_domain),
        Site = parsed.GetValue(_site),
        Sender = parsed.GetValue(_sender),
        Recipient = parsed.GetValue(_recipient),
        State = parsed.GetValue(_state),
        Reason = parsed.GetValue(_reason),
        OlderSeconds = parsed.GetValue(_older)?.TotalSeconds,
        NewerSeconds = parsed.GetValue(_newer)?.TotalSeconds,
        Limit = parsed.GetValue(_limit),
    };

    /// <summary>No condition is given; a limit is none.</summary>
    public static bool IsEmpty(FilterBody filter) =>
        filter.Ids.Count == 0
        && filter is { Domain: null, Site: null, Sender: null, Recipient: null, State: null, Reason: null, OlderSeconds: null, NewerSeconds: null };

    private static Option<TimeSpan?> Duration(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "TIME",
        CustomParser = result =>
        {
            if (Units.TryParseDuration(result.Tokens[0].Value, out TimeSpan duration))
            {
                return duration;
            }

            result.AddError($"{name}: \"{result.Tokens[0].Value}\" is no duration; write 30s, 15m, 2h or 5d");
            return null;
        },
    };
}
