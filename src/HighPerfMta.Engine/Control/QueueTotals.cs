using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Control;

/// <summary>Adds up what a filter selects, in all and by group. Memory is bounded by <see cref="MaxGroups"/>.</summary>
internal sealed class QueueTotals(string? by, IDelivery delivery)
{
    /// <summary>Groups kept apart; the rest is one group named "(others)".</summary>
    public const int MaxGroups = 10_000;

    private readonly Dictionary<string, Sum> _groups = new(StringComparer.Ordinal);
    private readonly HashSet<string> _seen = new(StringComparer.Ordinal);
    private readonly Sum _all = new();

    private sealed class Sum
    {
        public long Messages { get; set; }

        public long Recipients { get; set; }

        public long Bytes { get; set; }

        public JsonObject ToJson() => new() { ["messages"] = Messages, ["recipients"] = Recipients, ["bytes"] = Bytes };
    }

    /// <summary>What a count can be grouped by.</summary>
    public static IReadOnlyList<string> Keys { get; } = ["domain", "site", "state", "reason"];

    public void Add(QueuedMessage message, int[] recipients)
    {
        _all.Messages++;
        _all.Recipients += recipients.Length;
        _all.Bytes += message.Size;
        if (by is null)
        {
            return;
        }

        _seen.Clear();
        foreach (int index in recipients)
        {
            Sum group = Group(KeyOf(message, index), out string key);
            group.Recipients++;
            if (_seen.Add(key))
            {
                group.Messages++;
                group.Bytes += message.Size;
            }
        }
    }

    public JsonObject ToJson()
    {
        JsonObject totals = _all.ToJson();
        if (by is not null)
        {
            JsonArray groups = [];
            foreach ((string key, Sum sum) in _groups.OrderByDescending(static g => g.Value.Recipients).ThenBy(static g => g.Key, StringComparer.Ordinal))
            {
                JsonObject group = sum.ToJson();
                group.Insert(0, by, key);
                groups.Add((JsonNode)group);
            }

            totals["groups"] = groups;
        }

        return totals;
    }

    private Sum Group(string wanted, out string key)
    {
        key = wanted;
        if (!_groups.TryGetValue(key, out Sum? sum))
        {
            key = _groups.Count < MaxGroups ? wanted : "(others)";
            if (!_groups.TryGetValue(key, out sum))
            {
                _groups.Add(key, sum = new Sum());
            }
        }

        return sum;
    }

    private string KeyOf(QueuedMessage message, int index) => by switch
    {
        "domain" => message.Envelope.Recipients[index].Domain,
        "site" => delivery.SiteOf(message.Envelope.Recipients[index]) ?? "(unknown)",
        "state" => QueueSelector.StateName(message.GetRecipient(index).Status),
        _ => MessageJson.ReplyOf(message.GetRecipient(index).LastOutcome) ?? "(no attempt yet)",
    };
}
