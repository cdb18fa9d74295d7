using System.Net;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Control;

/// <summary>The façade for commands and HTTP over the rooms of a running server.</summary>
public sealed class ControlRoom(
    IMailQueue queue, IDelivery delivery, ISiteResolver resolver, IRouteTable routes, RelayPolicy relay, IDnsResolver dns, IEventLog events, TimeProvider time) : IControl
{
    /// <summary>Changes waiting for one commit together.</summary>
    private const int Batch = 256;

    /// <summary>Sites in a status.</summary>
    private const int TopSites = 20;

    public IEnumerable<JsonObject> List(QueueFilter filter)
    {
        DateTimeOffset now = time.GetUtcNow();
        return Selector(filter, now).Select().Select(s => MessageJson.Summary(s.Message, s.Recipients, now));
    }

    public JsonObject Count(QueueFilter filter, string? by)
    {
        if (by is not null && !QueueTotals.Keys.Contains(by))
        {
            throw new FilterException($"by: \"{by}\" is not one of {string.Join(", ", QueueTotals.Keys)}");
        }

        QueueTotals totals = new(by, delivery);
        foreach ((QueuedMessage message, int[] recipients) in Selector(filter, time.GetUtcNow()).Select())
        {
            totals.Add(message, recipients);
        }

        return totals.ToJson();
    }

    public JsonObject? Show(MessageId id) =>
        queue.Find(id) is { } message ? MessageJson.Details(message, delivery, time.GetUtcNow()) : null;

    public BodyReader? OpenBody(MessageId id) => queue.Find(id) is { } message ? queue.OpenBody(message) : null;

    public async ValueTask<(int Messages, int Recipients)> ActAsync(QueueAction action, QueueFilter filter, bool dryRun, CancellationToken cancellation)
    {
        int messages = 0;
        int touched = 0;
        List<Task> changes = [];
        foreach ((QueuedMessage message, int[] recipients) in Selector(filter, time.GetUtcNow()).Select())
        {
            cancellation.ThrowIfCancellationRequested();
            RecipientUpdate[] updates = Updates(action, message, recipients);
            if (updates.Length == 0)
            {
                continue;
            }

            messages++;
            touched += updates.Length;
            if (dryRun)
            {
                continue;
            }

            changes.Add(ApplyAsync(action, message, updates));
            if (changes.Count == Batch)
            {
                await Task.WhenAll(changes);
                changes.Clear();
            }
        }

        await Task.WhenAll(changes);
        return (messages, touched);
    }

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
            ["queue"] = queue.Condition.ToString().ToLowerInvariant(),
            ["damaged_ranges"] = queue.Damage.Count,
            ["transactions"] = transactions,
            ["outbound_connections"] = connections,
            ["sites"] = sites,
        };
    }

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

    /// <summary>The changes that the action means; recipients for whom it means nothing are left out.</summary>
    private RecipientUpdate[] Updates(QueueAction action, QueuedMessage message, int[] recipients)
    {
        List<RecipientUpdate> updates = new(recipients.Length);
        DateTimeOffset now = time.GetUtcNow();
        foreach (int index in recipients)
        {
            RecipientState state = message.GetRecipient(index);
            RecipientState? next = (action, state.Status) switch
            {
                (QueueAction.Retry, RecipientStatus.Pending) => state with { DueAt = now },
                (QueueAction.Hold, RecipientStatus.Pending) => state with { Status = RecipientStatus.Held },
                (QueueAction.Release, RecipientStatus.Held) => state with
                {
                    Status = RecipientStatus.Pending,
                    DueAt = now,
                    LastOutcome = state.LastOutcome ?? Outcomes.Released,
                },
                (QueueAction.Drop, RecipientStatus.Pending or RecipientStatus.Held) => state with { Status = RecipientStatus.Dropped },
                _ => null,
            };
            if (next is not null)
            {
                updates.Add(new RecipientUpdate(index, next));
            }
        }

        return [.. updates];
    }

    private async Task ApplyAsync(QueueAction action, QueuedMessage message, RecipientUpdate[] updates)
    {
        try
        {
            await queue.UpdateDurablyAsync(message, updates);
        }
        finally
        {
            // The change is in memory even when its record waits for the disk.
            delivery.Reconsider(message);
        }

        MailEventKind? kind = action switch
        {
            QueueAction.Hold => MailEventKind.Held,
            QueueAction.Release => MailEventKind.Released,
            QueueAction.Drop => MailEventKind.Dropped,
            _ => null,
        };
        if (kind is not { } changed)
        {
            return;
        }

        DateTimeOffset now = time.GetUtcNow();
        foreach (RecipientUpdate update in updates)
        {
            events.Write(new MailEvent
            {
                Time = now,
                Kind = changed,
                Id = message.Id,
                Sender = message.Envelope.Sender?.ToString() ?? "",
                Recipient = message.Envelope.Recipients[update.Index].ToString(),
                Attempt = update.State.Attempts,
                Size = message.Size,
                QueuedSeconds = (now - message.Envelope.ReceivedAt).TotalSeconds,
                Stage = "operator",
            });
        }
    }
}
