using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What a courier did with a job of its batch.</summary>
internal enum JobResult : byte
{
    /// <summary>Not begun: goes back to the head of its list, no attempt counted.</summary>
    Untried,

    /// <summary>The site takes no further connection while others work: back to the head, no attempt counted.</summary>
    Refused,

    /// <summary>Attempted; the job's entry says how it ended, except for the recipients in <see cref="DeliveryJob.Failures"/>.</summary>
    Tried,

    /// <summary>The last recipient became final: the slot is nobody's, or another job's.</summary>
    Finished,

    /// <summary>It ended in an exception, which <see cref="DeliveryJob.Reason"/> names.</summary>
    Threw,

    /// <summary>The disk refused to read the message: once more later.</summary>
    Unread,

    /// <summary>The disk had no time to read the message, which says nothing of it: once more later.</summary>
    Unserved,

    /// <summary>The message cannot be read: set it aside.</summary>
    Unusable,
}

/// <summary>
/// A job while a courier has it. There is one for each place of a worker's batch, used again and again; a job that waits is nothing but its entry in the queue's table.
/// </summary>
internal struct DeliveryJob
{
    internal int Slot;

    internal MessageId Id;

    /// <summary>Times the job went back to the head of its list because the site would take no further connection.</summary>
    internal int Requeues;

    /// <summary>Loaded by the worker; null before, and when it could not be.</summary>
    internal QueuedMessage? Message;

    internal JobResult Result;

    /// <summary>Recipients that failed for good, and delivered ones whose sender wants to be told; not recorded yet: the report comes first.</summary>
    internal List<(int Recipient, DeliveryOutcome Outcome)>? Failures;

    /// <summary>There are delivered ones among <see cref="Failures"/>: whatever else happens to the job, they are delivered.</summary>
    internal bool HasDeliveries;

    /// <summary>What went wrong with a job that threw or is unusable.</summary>
    internal string? Reason;
}
