using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>Words for jobs: the states of filters and lists, and what the entry knows of the last reply.</summary>
internal static class JobWords
{
    public const string Pending = "pending";
    public const string Deferred = "deferred";
    public const string Due = "due";
    public const string Held = "held";
    public const string Bouncing = "bouncing";

    /// <summary>The state of a job's open recipients, as lists name it.</summary>
    public static string StateOf(in Job job) => job.Has(JobFlags.Bouncing) ? Bouncing : job.IsHeld ? Held : Pending;

    /// <summary>The state of one of its recipients.</summary>
    public static string StateOf(in Job job, RecipientState state) => state.Status switch
    {
        RecipientStatus.Delivered => "delivered",
        RecipientStatus.Failed => "failed",
        RecipientStatus.Dropped => "dropped",
        _ when job.Has(JobFlags.Bouncing) => Bouncing,
        RecipientStatus.Held => Held,
        _ => Pending,
    };

    /// <summary>The entry has the last reply of all recipients, or knows that there was none.</summary>
    public static bool KnowsReply(in Job job) => job.Reason != 0 ? job.Count == 1 : job.Attempts == 0;

    /// <summary>A recipient's last reply as lists show it; null when there was none. The reason of a hold is in the entry alone.</summary>
    public static string? ReplyOf(in Job job, RecipientState state, JobNames names) =>
        job.Count == 1 && names.Reasons.Get(job.Reason) is { } kept
            ? kept
            : MessageJson.ReplyOf(state.LastOutcome) ?? (job.IsHeld ? names.Reasons.Get(job.Reason) : null);

    /// <summary>The sender: the address, "" for the null sender, "?@domain" where only the domain is kept, "?" where nothing is.</summary>
    public static string SenderOf(in Job job, JobNames names) => job.Sender switch
    {
        0 => "",
        > 0 => names.Senders.Get(job.Sender) ?? "?",
        _ => names.Domains.Get(-job.Sender) is { } domain and not "?" ? "?@" + domain : "?",
    };
}
