using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Control;

/// <summary>The façade for commands and HTTP over the rooms of a running server.</summary>
public sealed class ControlRoom(
    IMailQueue queue, IDelivery delivery, ISiteResolver resolver, IRouteTable routes, RelayPolicy relay, IDnsResolver dns, IEventLog events, TimeSpan expire, TimeProvider time) : IControl
{
    /// <summary>Messages that a list reads ahead, and that a count looks at before it can be cancelled.</summary>
    private const int Batch = 256;

    /// <summary>Sites in a status.</summary>
    private const int TopSites = 20;

    private readonly QueueCensus _census = new(queue, time);

    /// <summary>Jobs by state.</summary>
    public QueueCensus Census => _census;

    public bool Loading => queue.Loading;

    public IAsyncEnumerable<JsonObject> List(QueueFilter filter, CancellationToken cancellation)
    {
        DateTimeOffset now = time.GetUtcNow();
        return ListAsync(Selector(filter, now), now, cancellation);
    }

    public async ValueTask<JsonObject> CountAsync(QueueFilter filter, string? by, CancellationToken cancellation)
    {
        QueueTotals totals = new(by, queue.Names, delivery);
        QueueSelector selector = Selector(filter, time.GetUtcNow());
        while (!selector.IsOver)
        {
            Memory<SeenJob> batch = selector.Next(Batch, cancellation);
            await selector.ReadAsync(Want(batch, totals), cancellation);
            Add(totals, batch.Span, selector);
        }

        JsonObject counted = totals.ToJson();
        if (selector.Undecided > 0)
        {
            counted["unreadable"] = selector.Undecided;
        }

        return MarkLoading(counted);
    }

    public async ValueTask<JsonObject?> ShowAsync(MessageId id, CancellationToken cancellation)
    {
        Memory<SeenJob> jobs = await ReadJobsAsync(id, cancellation);
        return MessageDetails.Describe(jobs.Span, queue, delivery, expire, time.GetUtcNow());
    }

    public async ValueTask<BodyReader?> OpenBodyAsync(MessageId id, CancellationToken cancellation)
    {
        RecordUnreadableException? trouble = null;
        foreach (int slot in queue.FindJobs(id))
        {
            try
            {
                if (await queue.PeekAsync(slot, id, cancellation) is { } message)
                {
                    return queue.OpenBody(message);
                }
            }
            catch (RecordUnreadableException e)
            {
                trouble = e;
            }
        }

        return trouble is null ? null : throw trouble;
    }

    public async ValueTask<QueueActed> ActAsync(QueueAction action, QueueFilter filter, string? to, bool dryRun, CancellationToken cancellation)
    {
        DateTimeOffset now = time.GetUtcNow();
        Steering steering = QueueSteering.Of(action, to, now);
        QueueSelector selector = Selector(filter, now);
        if (queue.Loading)
        {
            throw new QueueLoadingException();
        }

        return await new QueueSteering(selector, steering, dryRun, queue, delivery, events, time).RunAsync(cancellation);
    }

    public async ValueTask<JsonObject?> WhyAsync(string subject, CancellationToken cancellation) =>
        await new QueueWhy(queue, delivery, expire, time).TellAsync(subject, cancellation) is { } told ? MarkLoading(told) : null;

    public JsonObject Status()
    {
        (int transactions, int connections) = delivery.Activity;
        JsonArray sites = [];
        foreach (SiteStatus site in delivery.Sites().OrderByDescending(static s => s.Waiting + s.InFlight + s.Deferred).Take(TopSites))
        {
            sites.Add((JsonNode)new JsonObject
            {
                ["site"] = site.Key,
                ["waiting"] = site.Waiting,
                ["deferred"] = site.Deferred,
                ["in_flight"] = site.InFlight,
                ["connections"] = site.Connections,
                ["back_off_until"] = site.BackOffUntil is { } until ? MessageJson.Time(until) : null,
                ["last_error"] = MessageJson.ReplyOf(site.LastError),
            });
        }

        return new JsonObject
        {
            ["messages"] = queue.Count,
            ["jobs"] = queue.Jobs.Count,
            ["loading"] = queue.Loading,
            ["states"] = new JsonObject([.. _census.Take().ByName().Select(static s => KeyValuePair.Create(s.Name, (JsonNode?)s.Count))]),
            ["index_bytes"] = queue.Jobs.ResidentBytes,
            ["may_attempt"] = queue.MayAttempt,
            ["queue"] = queue.Condition.ToString().ToLowerInvariant(),
            ["damaged_ranges"] = queue.Damage.Count,
            ["transactions"] = transactions,
            ["outbound_connections"] = connections,
            ["sites"] = sites,
        };
    }

    /// <summary>Tries now what waits for a domain, or below one that begins with a dot; held mail stays held. Gives the number of messages.</summary>
    public async ValueTask<int> StartQueueAsync(string domain, CancellationToken cancellation) =>
        (await ActAsync(QueueAction.Retry, new QueueFilter { Domain = domain, State = JobWords.Pending }, null, dryRun: false, cancellation)).Messages;

    public async ValueTask<JsonObject> RouteAsync(string address, CancellationToken cancellation)
    {
        if (!AddressParser.TryParse(address, out EmailAddress? recipient, out string error))
        {
            throw new FilterException($"address: {error}");
        }

        NextHop hop = routes.Find(recipient!);
        JsonObject answer = new()
        {
            ["address"] = recipient!.ToString(),
            ["domain"] = recipient.Domain,
            ["class"] = relay.IsRelayDomain(recipient) ? "relay" : "remote",
            ["route"] = hop.ToString(),
        };
        SiteDecision decision = await resolver.ResolveAsync(recipient, cancellation);
        if (decision.Outcome is { } outcome)
        {
            answer["verdict"] = outcome.IsPermanent ? "failed" : "deferred";
            answer["reply"] = MessageJson.ReplyOf(outcome);
        }
        else
        {
            answer["verdict"] = decision.Kind switch { NextHopKind.Hold => "held", NextHopKind.Discard => "discarded", _ => "deliverable" };
        }

        if (decision.Site is { } site)
        {
            answer["site"] = site.Key;
            answer["hosts"] = await DescribeAsync(site, cancellation);
        }

        return answer;
    }

    private async ValueTask<JsonArray> DescribeAsync(Site site, CancellationToken cancellation)
    {
        JsonArray hosts = [];
        foreach (SiteHost host in site.Hosts)
        {
            JsonArray addresses = [];
            string? trouble = null;
            if (IPAddress.TryParse(host.Name.Trim('[', ']'), out IPAddress? literal))
            {
                addresses.Add((JsonNode)literal.ToString());
            }
            else
            {
                foreach (bool ipv6 in (bool[])[true, false])
                {
                    DnsAnswer<IPAddress> found = await dns.LookupAddressesAsync(host.Name, ipv6, cancellation);
                    trouble ??= found.Status == DnsStatus.TemporaryFailure ? found.Explanation : null;
                    foreach (IPAddress address in found.Records)
                    {
                        addresses.Add((JsonNode)address.ToString());
                    }
                }
            }

            hosts.Add((JsonNode)new JsonObject
            {
                ["host"] = host.Name,
                ["preference"] = host.Preference,
                ["port"] = host.Port,
                ["addresses"] = addresses,
                ["trouble"] = trouble,
            });
        }

        return hosts;
    }

    private QueueSelector Selector(QueueFilter filter, DateTimeOffset now) => new(filter, queue, delivery, now);

    private async IAsyncEnumerable<JsonObject> ListAsync(QueueSelector selector, DateTimeOffset now, [EnumeratorCancellation] CancellationToken cancellation)
    {
        List<JsonObject> described = [];
        while (!selector.IsOver)
        {
            Memory<SeenJob> batch = selector.Next(Batch, cancellation);
            await selector.ReadAsync(WantAll(batch), cancellation);
            Describe(batch.Span, selector, now, described);
            foreach (JsonObject message in described)
            {
                yield return MarkLoading(message);
            }

            described.Clear();
        }
    }

    private void Describe(ReadOnlySpan<SeenJob> batch, QueueSelector selector, DateTimeOffset now, List<JsonObject> described)
    {
        for (int from = 0, end; from < batch.Length; from = end)
        {
            end = QueueSelector.EndOfMessage(batch, from);
            int[]?[] selected = new int[]?[end - from];
            for (int i = from; i < end; i++)
            {
                selected[i - from] = selector.Resolve(batch[i]);
            }

            if (MessageJson.Summary(batch[from..end], selected, queue.Names, now) is { } message)
            {
                selector.Took();
                described.Add(message);
            }
        }
    }

    private static Memory<SeenJob> WantAll(Memory<SeenJob> batch)
    {
        foreach (ref SeenJob seen in batch.Span)
        {
            seen.Wanted = true;
        }

        return batch;
    }

    private static Memory<SeenJob> Want(Memory<SeenJob> batch, QueueTotals totals)
    {
        bool any = false;
        foreach (ref SeenJob seen in batch.Span)
        {
            seen.Wanted |= totals.NeedsRecord(seen.Job);
            any |= seen.Wanted;
        }

        return any ? batch : default;
    }

    private static void Add(QueueTotals totals, ReadOnlySpan<SeenJob> batch, QueueSelector selector)
    {
        bool selected = false;
        foreach (ref readonly SeenJob seen in batch)
        {
            if (seen.Starts)
            {
                totals.BeginMessage();
                selected = false;
            }

            int[]? recipients = selector.Resolve(seen);
            if (recipients is { Length: 0 })
            {
                continue;
            }

            if (seen.Message is { } message)
            {
                totals.Add(seen.Job, message, recipients);
            }
            else
            {
                totals.Add(seen.Job);
            }

            if (!selected)
            {
                selected = true;
                selector.Took();
            }
        }
    }

    private async ValueTask<Memory<SeenJob>> ReadJobsAsync(MessageId id, CancellationToken cancellation)
    {
        QueueSelector selector = Selector(new QueueFilter { Ids = [id] }, time.GetUtcNow());
        while (!selector.IsOver)
        {
            Memory<SeenJob> jobs = selector.Next(1, cancellation);
            if (!jobs.IsEmpty)
            {
                await selector.ReadAsync(WantAll(jobs), cancellation);
                return jobs;
            }
        }

        return default;
    }

    private JsonObject MarkLoading(JsonObject answer)
    {
        if (queue.Loading)
        {
            answer["loading"] = true;
        }

        return answer;
    }
}
