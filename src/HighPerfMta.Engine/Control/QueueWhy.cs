using System.Globalization;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>Tells why mail is not delivered yet: of a message, for an address, to a domain.</summary>
internal sealed class QueueWhy(IMailQueue queue, IDelivery delivery, TimeSpan expire, TimeProvider time)
{
    /// <summary>Jobs that are explained one by one; the others are counted by state and site.</summary>
    private const int MostJobs = 20;

    /// <summary>Sites that are explained, those with most of the jobs.</summary>
    private const int MostSites = 10;

    /// <summary>Sites that are counted apart.</summary>
    private const int MostCounted = 10_000;

    private const int BatchMessages = 1024;

    private readonly SortedDictionary<string, long> _states = new(StringComparer.Ordinal);
    private readonly Dictionary<string, long> _sites = new(StringComparer.Ordinal);
    private readonly List<SeenJob> _first = [];
    private readonly SiteNames _names = new(delivery, queue.Names);
    private long _messages;
    private long _jobs;
    private int _undecided;

    /// <exception cref="FilterException">The subject is no queue id, address or domain.</exception>
    public async ValueTask<JsonObject?> TellAsync(string subject, CancellationToken cancellation)
    {
        (string kind, QueueFilter filter, string? domain) = Understand(subject);
        await CollectAsync(filter, cancellation);
        JsonArray sites = await SitesAsync(domain, cancellation);
        if (_jobs == 0 && sites.Count == 0)
        {
            return null;
        }

        JsonObject answer = new()
        {
            ["subject"] = subject,
            ["kind"] = kind,
            ["messages"] = _messages,
            ["jobs"] = _jobs,
            ["states"] = new JsonObject([.. _states.Select(static s => KeyValuePair.Create(s.Key, (JsonNode?)s.Value))]),
            ["explained"] = await ExplainAsync(cancellation),
            ["sites"] = sites,
        };
        if (!queue.MayAttempt)
        {
            answer["disk"] = "nothing new is tried: too many changes wait for the log, which cannot be written; see the server's log and the disk";
        }

        if (_undecided > 0)
        {
            answer["unreadable"] = _undecided;
        }

        return answer;
    }

    private static (string Kind, QueueFilter Filter, string? Domain) Understand(string subject)
    {
        if (MessageId.TryParse(subject, out MessageId id))
        {
            return ("message", new QueueFilter { Ids = [id] }, null);
        }

        if (subject.Contains('@', StringComparison.Ordinal))
        {
            string text = subject.StartsWith('<') && subject.EndsWith('>') ? subject[1..^1] : subject;
            return AddressParser.TryParse(text, out EmailAddress? address, out string error)
                ? ("address", new QueueFilter { Recipient = address!.ToString() }, address.Domain)
                : throw new FilterException($"\"{subject}\" is no address: {error}");
        }

        string name = AddressPattern.Normalize(subject);
        return DomainName.TryNormalize(name.TrimStart('.'), out _)
            ? ("domain", new QueueFilter { Domain = name }, name.StartsWith('.') ? null : name)
            : throw new FilterException($"\"{subject}\" is no queue id, address or domain; an id has {MessageId.TextLength} letters and digits");
    }

    private async ValueTask CollectAsync(QueueFilter filter, CancellationToken cancellation)
    {
        QueueSelector selector = new(filter, queue, delivery, time.GetUtcNow());
        while (!selector.IsOver)
        {
            Memory<SeenJob> batch = selector.Next(BatchMessages, cancellation);
            await selector.ReadAsync(batch, cancellation);
            Add(batch.Span, selector);
        }

        _undecided = selector.Undecided;
    }

    private void Add(ReadOnlySpan<SeenJob> batch, QueueSelector selector)
    {
        bool counted = false;
        foreach (ref readonly SeenJob seen in batch)
        {
            counted &= !seen.Starts;
            if (selector.Resolve(seen) is { Length: 0 })
            {
                continue;
            }

            _messages += counted ? 0 : 1;
            counted = true;
            _jobs++;
            AddOne(_states, MessageDetails.PlaceName(seen.Job.Place), seen.Job);
            if (_names.TryFind(seen.Job, out string? site) && site is not null && (_sites.Count < MostCounted || _sites.ContainsKey(site)))
            {
                _sites[site] = _sites.GetValueOrDefault(site) + 1;
            }

            if (_first.Count < MostJobs)
            {
                _first.Add(seen);
            }
        }
    }

    private static void AddOne(SortedDictionary<string, long> states, string place, in Job job)
    {
        string word = JobWords.StateOf(job);
        string key = word == JobWords.Pending ? place : word;
        states[key] = states.GetValueOrDefault(key) + 1;
    }

    private async ValueTask<JsonArray> ExplainAsync(CancellationToken cancellation)
    {
        JsonArray explained = [];
        foreach (SeenJob seen in _first)
        {
            // It may have moved on since: what is told is of one moment.
            JobExplanation? found = await delivery.ExplainAsync(seen.Ref, cancellation);
            if (found is null || !queue.Jobs.TryRead(seen.Slot, out Job job) || job.Id != seen.Job.Id)
            {
                continue;
            }

            explained.Add((JsonNode)Explained(job, found));
        }

        return explained;
    }

    private JsonObject Explained(in Job job, JobExplanation found)
    {
        JsonObject told = MessageDetails.DescribeJob(job, queue.Names, _names, expire);
        told.Insert(0, "id", job.MessageId.ToString());
        told["site"] = found.Site ?? told["site"]?.ToString();
        told["place"] = MessageDetails.PlaceName(found.Place);
        told["reply"] = found.Reason ?? told["reply"]?.ToString();
        told["wait"] = WaitName(found.Wait);
        told["why"] = found.Words;
        told["until"] = found.Until is { } until ? MessageJson.Time(until) : null;
        told["ahead"] = found.Ahead;
        return told;
    }

    private async ValueTask<JsonArray> SitesAsync(string? domain, CancellationToken cancellation)
    {
        List<string> keys = [.. _sites.OrderByDescending(static s => s.Value).ThenBy(static s => s.Key, StringComparer.Ordinal).Take(MostSites).Select(static s => s.Key)];
        if (domain is not null && delivery.SiteOf(domain) is { } expected && !keys.Contains(expected))
        {
            keys.Add(expected);
        }

        JsonArray sites = [];
        foreach (string key in keys)
        {
            if (await delivery.ExplainSiteAsync(key, cancellation) is { } site)
            {
                sites.Add((JsonNode)Describe(site, _sites.GetValueOrDefault(key)));
            }
        }

        return sites;
    }

    private static JsonObject Describe(SiteExplanation site, long jobs)
    {
        SiteStatus status = site.Status;
        JsonObject told = new()
        {
            ["site"] = status.Key,
            ["jobs"] = jobs,
            ["why"] = site.Words,
            ["waiting"] = status.Waiting,
            ["fresh"] = status.Fresh,
            ["tried"] = status.Tried,
            ["deferred"] = status.Deferred,
            ["in_flight"] = status.InFlight,
            ["connections"] = status.Connections,
            ["connection_limit"] = site.ConnectionLimit,
            ["back_off_until"] = status.BackOffUntil is { } until ? MessageJson.Time(until) : null,
            ["last_error"] = MessageJson.ReplyOf(status.LastError),
            ["failures"] = site.Failures,
            ["probing"] = site.Probing,
            ["all_connections"] = string.Create(CultureInfo.InvariantCulture, $"{site.Permits.Used} of {site.Permits.Most}"),
        };
        if (site.PermitHolders.Count > 0)
        {
            told["permit_holders"] = new JsonArray([.. site.PermitHolders.Select(static h => (JsonNode)new JsonObject { ["site"] = h.Site, ["connections"] = h.Connections })]);
        }

        return told;
    }

    private static string WaitName(JobWait wait) => wait switch
    {
        JobWait.DueTime => "due-time",
        JobWait.BackOff => "back-off",
        JobWait.SiteConnections => "site-connections",
        _ => wait.ToString().ToLowerInvariant(),
    };
}
