using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>Adds up what a filter selects, in all and by group. Memory is bounded by <see cref="MaxGroups"/>.</summary>
internal sealed class QueueTotals
{
    /// <summary>Groups kept apart; the rest is one group named "(others)".</summary>
    public const int MaxGroups = 10_000;

    private const string Others = "(others)";
    private const string Unknown = "(unknown)";
    private const string NoReply = "(no attempt yet)";

    private readonly string? _by;
    private readonly JobNames _names;
    private readonly SiteNames _sites;
    private readonly NameMemo<Sum> _domains;
    private readonly NameMemo<Sum> _reasons;
    private readonly Dictionary<string, Sum> _groups = new(StringComparer.Ordinal);
    private readonly Sum _all = new();
    private Sum? _lastSite;
    private string? _lastSiteKey;
    private long _message;

    /// <exception cref="FilterException"><paramref name="by"/> is none of <see cref="Keys"/>.</exception>
    public QueueTotals(string? by, JobNames names, ISiteDirectory sites)
    {
        if (by is not null && !Keys.Contains(by))
        {
            throw new FilterException($"by: \"{by}\" is not one of {string.Join(", ", Keys)}");
        }

        _by = by;
        _names = names;
        _sites = new SiteNames(sites, names);
        _domains = new NameMemo<Sum>(names.Domains, Group);
        _reasons = new NameMemo<Sum>(names.Reasons, Group);
    }

    private sealed class Sum
    {
        private long _message;

        public long Messages { get; private set; }

        public long Recipients { get; private set; }

        public long Bytes { get; private set; }

        /// <summary>A message counts once, however many of its jobs come here.</summary>
        public void Add(long message, long recipients, long bytes)
        {
            Recipients += recipients;
            if (_message != message)
            {
                _message = message;
                Messages++;
                Bytes += bytes;
            }
        }

        public JsonObject ToJson() => new() { ["messages"] = Messages, ["recipients"] = Recipients, ["bytes"] = Bytes };
    }

    /// <summary>What a count can be grouped by.</summary>
    public static IReadOnlyList<string> Keys { get; } = ["domain", "site", "state", "reason"];

    /// <summary>The entry does not say to which groups the job belongs, or how many recipients it has.</summary>
    public bool NeedsRecord(in Job job) => job.Count == Job.MostCount || _by switch
    {
        "domain" => job.Has(JobFlags.Mixed),
        "site" => !_sites.TryFind(job, out _),
        "reason" => !JobWords.KnowsReply(job),
        _ => false,
    };

    /// <summary>What is added next is of another message.</summary>
    public void BeginMessage() => _message++;

    /// <summary>Adds a whole job that needs no record.</summary>
    public void Add(in Job job)
    {
        _all.Add(_message, job.Count, job.Size);
        Find(job)?.Add(_message, job.Count, job.Size);
    }

    /// <summary>Adds some recipients of a job, null for all that are open.</summary>
    public void Add(in Job job, QueuedMessage message, int[]? recipients)
    {
        foreach (int index in recipients ?? message.Recipients)
        {
            RecipientState state = message.GetRecipient(index);
            if (!state.IsFinal)
            {
                _all.Add(_message, 1, message.Size);
                if (_by is not null)
                {
                    Group(KeyOf(job, message, index, state)).Add(_message, 1, message.Size);
                }
            }
        }
    }

    public JsonObject ToJson()
    {
        JsonObject totals = _all.ToJson();
        if (_by is not null)
        {
            JsonArray groups = [];
            foreach ((string key, Sum sum) in _groups.OrderByDescending(static g => g.Value.Recipients).ThenBy(static g => g.Key, StringComparer.Ordinal))
            {
                JsonObject group = sum.ToJson();
                group.Insert(0, _by, key);
                groups.Add((JsonNode)group);
            }

            totals["groups"] = groups;
        }

        return totals;
    }

    private Sum? Find(in Job job)
    {
        switch (_by)
        {
            case null:
                return null;
            case "domain":
                return _domains.TryGet(job.Domain, out Sum domain) ? domain : Group(Unknown);
            case "reason":
                return _reasons.TryGet(job.Reason, out Sum reason) ? reason : Group(job.Attempts == 0 ? NoReply : Unknown);
            case "state":
                return Group(JobWords.StateOf(job));
            default:
                _sites.TryFind(job, out string? site);
                if (_lastSite is null || !ReferenceEquals(site, _lastSiteKey))
                {
                    _lastSite = Group(site ?? Unknown);
                    _lastSiteKey = site;
                }

                return _lastSite;
        }
    }

    private string KeyOf(in Job job, QueuedMessage message, int index, RecipientState state) => _by switch
    {
        "domain" => message.Envelope.Recipients[index].Domain,
        "site" => _sites.Find(job, message.Envelope.Recipients[index]) ?? Unknown,
        "state" => JobWords.StateOf(job, state),
        _ => JobWords.ReplyOf(job, state, _names) ?? NoReply,
    };

    private Sum Group(string key)
    {
        if (_groups.TryGetValue(key, out Sum? sum))
        {
            return sum;
        }

        key = _groups.Count < MaxGroups ? key : Others;
        if (!_groups.TryGetValue(key, out sum))
        {
            _groups.Add(key, sum = new Sum());
        }

        return sum;
    }
}
