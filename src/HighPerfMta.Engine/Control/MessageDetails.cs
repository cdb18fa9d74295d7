using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>All that the queue knows of one message.</summary>
internal static class MessageDetails
{
    /// <summary>The state of a recipient who is in no job any more: the event log tells what became of him.</summary>
    public const string Done = "done";

    /// <param name="jobs">All jobs of the message, read as far as they can be.</param>
    /// <param name="queue">The queue.</param>
    /// <param name="directory">For the sites.</param>
    /// <param name="expire">How long a message may be queued.</param>
    /// <param name="now">The time.</param>
    /// <returns>Null when none of the jobs is there any more.</returns>
    public static JsonObject? Describe(ReadOnlySpan<SeenJob> jobs, IMailQueue queue, ISiteDirectory directory, TimeSpan expire, DateTimeOffset now)
    {
        int[]?[] all = new int[]?[jobs.Length];
        JsonObject? details = MessageJson.Summary(jobs, all, queue.Names, now);
        if (details is null)
        {
            return null;
        }

        SiteNames sites = new(directory, queue.Names);
        JsonArray described = [];
        Envelope? envelope = null;
        foreach (ref readonly SeenJob seen in jobs)
        {
            envelope ??= seen.Message?.Envelope;
            if (seen.Message is not null || seen.Trouble is not null)
            {
                described.Add((JsonNode)DescribeJob(seen.Job, queue.Names, sites, expire));
            }
        }

        if (envelope is not null)
        {
            AddEnvelope(details, envelope);
            details["recipients"] = Recipients(jobs, envelope, queue.Names, sites);
        }

        details["jobs"] = described;
        return details;
    }

    /// <summary>One job by its entry.</summary>
    public static JsonObject DescribeJob(in Job job, JobNames names, SiteNames sites, TimeSpan expire)
    {
        sites.TryFind(job, out string? site);
        return new JsonObject
        {
            ["state"] = JobWords.StateOf(job),
            ["place"] = PlaceName(job.Place),
            ["site"] = site,
            ["domain"] = job.Has(JobFlags.Mixed) ? null : names.Domains.Get(job.Domain),
            ["recipients"] = job.Count,
            ["attempts"] = job.Attempts,
            ["due"] = JobWords.StateOf(job) == JobWords.Pending ? MessageJson.Time(new DateTimeOffset(job.DueAt, TimeSpan.Zero)) : null,
            ["reply"] = names.Reasons.Get(job.Reason),
            ["route"] = job.Has(JobFlags.Rerouted) ? names.Routes.Get(job.Route) : null,
            ["delay_notice_sent"] = job.Has(JobFlags.NoticeSent),
            ["expires"] = MessageJson.Time(ExpiresAt(job, expire)),
        };
    }

    public static DateTimeOffset ExpiresAt(in Job job, TimeSpan expire)
    {
        DateTimeOffset received = new(job.ReceivedAt, TimeSpan.Zero);
        DateTimeOffset expires = DateTimeOffset.MaxValue - received < expire ? DateTimeOffset.MaxValue : received + expire;
        return job.HasDeadline && !job.DeadlineNotifies && job.DeadlineAt < expires.UtcTicks ? new DateTimeOffset(job.DeadlineAt, TimeSpan.Zero) : expires;
    }

    public static string PlaceName(JobPlace place) => place switch
    {
        JobPlace.InFlight => "in-flight",
        JobPlace.ToSettle => "to-settle",
        _ => place.ToString().ToLowerInvariant(),
    };

    public static void AddEnvelope(JsonObject details, Envelope envelope)
    {
        details["received"] = MessageJson.Time(envelope.ReceivedAt);
        details["client"] = envelope.ClientAddress?.ToString();
        details["helo"] = envelope.HeloName;
        details["body"] = envelope.Body switch { BodyEncoding.EightBitMime => "8bitmime", BodyEncoding.BinaryMime => "binarymime", _ => "7bit" };
        details["smtputf8"] = envelope.SmtpUtf8;
        if (envelope.Parameters is { } parameters)
        {
            details["ret"] = NullIfEmpty(parameters.ReturnText);
            details["envid"] = parameters.EnvelopeId;
            details["by"] = Observability.MailEventJson.ByText(parameters);
            details["release_at"] = parameters.ReleaseAt is { } release ? MessageJson.Time(release) : null;
            details["mt_priority"] = parameters.Priority;
            details["requiretls"] = parameters.RequireTls ? true : null;
        }
    }

    private static string? NullIfEmpty(string text) => text.Length == 0 ? null : text;

    private static JsonArray Recipients(ReadOnlySpan<SeenJob> jobs, Envelope envelope, JobNames names, SiteNames sites)
    {
        JsonObject?[] found = new JsonObject?[envelope.Recipients.Length];
        JsonArray unread = [];
        foreach (ref readonly SeenJob seen in jobs)
        {
            if (seen.Message is not { } message)
            {
                if (seen.Trouble is not null)
                {
                    unread.Add((JsonNode)MessageJson.Unread(seen.Job, names));
                }

                continue;
            }

            foreach (int index in message.Recipients)
            {
                // While a job is being split a recipient may be seen twice: the open one is the later.
                if (found[index] is null || !message.GetRecipient(index).IsFinal)
                {
                    found[index] = Recipient(seen.Job, message, index, names, sites);
                }
            }
        }

        JsonArray recipients = [];
        for (int i = 0; i < found.Length; i++)
        {
            // With a record that cannot be read nobody knows whether he is in that job or done.
            if (found[i] is not null || unread.Count == 0)
            {
                recipients.Add((JsonNode)(found[i] ?? Finished(envelope.Recipients[i].ToString())));
            }
        }

        while (unread.Count > 0)
        {
            JsonNode node = unread[0]!;
            unread.RemoveAt(0);
            recipients.Add(node);
        }

        return recipients;
    }

    private static JsonObject Recipient(in Job job, QueuedMessage message, int index, JobNames names, SiteNames sites)
    {
        JsonObject recipient = MessageJson.Recipient(job, message, index, names);
        RecipientState state = message.GetRecipient(index);
        DeliveryOutcome? outcome = state.LastOutcome;
        recipient["site"] = sites.Find(job, message.Envelope.Recipients[index]);
        recipient["peer"] = outcome is null or { Peer: "" } ? null : outcome.Peer;
        recipient["tls"] = outcome is null or { Tls: "" } ? null : outcome.Tls;
        recipient["stage"] = outcome is null ? null : Outcomes.StageName(outcome.Stage);
        recipient["delay_notice_sent"] = state.DelayNoticeSent && Reports.ReportPolicy.IsWanted(Reports.ReportKind.Delay, message.Envelope, index);
        AddParameters(recipient, message.Envelope, index);
        return recipient;
    }

    private static void AddParameters(JsonObject recipient, Envelope envelope, int index)
    {
        if (envelope.Parameters?.Of(index) is { } asked)
        {
            recipient["notify"] = NullIfEmpty(asked.NotifyText);
            recipient["orcpt"] = asked.OriginalRecipient;
        }
    }

    private static JsonObject Finished(string address) => new()
    {
        ["address"] = address,
        ["state"] = Done,
        ["attempts"] = null,
        ["due"] = null,
        ["reply"] = null,
    };
}
