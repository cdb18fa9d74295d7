using System.Globalization;
using System.Text.Json.Nodes;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>Messages and recipients as the JSON of commands and HTTP.</summary>
internal static class MessageJson
{
    /// <summary>A reply as a line: code, enhanced code, text. Null when there was no attempt.</summary>
    public static string? ReplyOf(DeliveryOutcome? outcome) => outcome?.Reply;

    /// <summary>A message with its selected recipients, whose jobs were read.</summary>
    /// <param name="jobs">Jobs of one message.</param>
    /// <param name="selected">For each its selected recipients: null for all that are open, empty for none.</param>
    /// <param name="names">What the jobs' numbers mean.</param>
    /// <param name="now">The time.</param>
    /// <returns>Null when nothing of it is there any more.</returns>
    public static JsonObject? Summary(ReadOnlySpan<SeenJob> jobs, ReadOnlySpan<int[]?> selected, JobNames names, DateTimeOffset now)
    {
        SortedDictionary<int, JsonObject> described = [];
        List<JsonObject> unread = [];
        QueuedMessage? known = null;
        string? trouble = null;
        for (int i = 0; i < jobs.Length; i++)
        {
            ref readonly SeenJob seen = ref jobs[i];
            if (seen.Message is { } message)
            {
                known = message;
                AddOpen(described, seen.Job, message, selected[i], names);
            }
            else if (seen.Trouble is not null && selected[i] is null)
            {
                trouble = seen.Trouble;
                unread.Add(Unread(seen.Job, names));
            }
        }

        if (described.Count == 0 && unread.Count == 0)
        {
            return null;
        }

        Job first = jobs[0].Job;
        JsonObject summary = new()
        {
            ["id"] = first.MessageId.ToString(),
            ["sender"] = known is null ? JobWords.SenderOf(first, names) : known.Envelope.Sender?.ToString() ?? "",
            ["recipients"] = new JsonArray([.. described.Values, .. unread]),
            ["size"] = known?.Size ?? first.Size,
            ["age"] = Seconds(now - (known?.Envelope.ReceivedAt ?? new DateTimeOffset(first.ReceivedAt, TimeSpan.Zero))),
        };
        if (trouble is not null)
        {
            summary["unreadable"] = trouble;
        }

        return summary;
    }

    /// <summary>One recipient with its state.</summary>
    public static JsonObject Recipient(in Job job, QueuedMessage message, int index, JobNames names)
    {
        RecipientState state = message.GetRecipient(index);
        string word = JobWords.StateOf(job, state);
        return new JsonObject
        {
            ["address"] = message.Envelope.Recipients[index].ToString(),
            ["state"] = word,
            ["attempts"] = state.Attempts,
            ["due"] = word == JobWords.Pending ? Time(state.DueAt) : null,
            ["reply"] = state.IsFinal ? ReplyOf(state.LastOutcome) : JobWords.ReplyOf(job, state, names),
        };
    }

    /// <summary>What the entry alone knows of recipients whose record cannot be read.</summary>
    public static JsonObject Unread(in Job job, JobNames names) => new()
    {
        ["address"] = null,
        ["domain"] = job.Has(JobFlags.Mixed) ? null : names.Domains.Get(job.Domain),
        ["count"] = job.Count,
        ["state"] = JobWords.StateOf(job),
        ["attempts"] = job.Attempts,
        ["due"] = JobWords.StateOf(job) == JobWords.Pending ? Time(new DateTimeOffset(job.DueAt, TimeSpan.Zero)) : null,
        ["reply"] = names.Reasons.Get(job.Reason),
    };

    public static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    public static double Seconds(TimeSpan span) => Math.Round(span.TotalSeconds, 3);

    private static void AddOpen(SortedDictionary<int, JsonObject> described, in Job job, QueuedMessage message, int[]? selected, JobNames names)
    {
        foreach (int index in selected ?? message.Recipients)
        {
            if (!message.GetRecipient(index).IsFinal)
            {
                described[index] = Recipient(job, message, index, names);
            }
        }
    }
}

/// <summary>Words for outcomes.</summary>
internal static class Outcomes
{
    public static string StageName(DeliveryStage stage) => stage switch
    {
        DeliveryStage.MailFrom => "mail",
        DeliveryStage.RcptTo => "rcpt",
        DeliveryStage.FinalDot => "final-dot",
        _ => stage.ToString().ToLowerInvariant(),
    };
}
