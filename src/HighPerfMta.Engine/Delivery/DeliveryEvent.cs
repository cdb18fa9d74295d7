using HighPerfMta.Engine.Routing;

namespace HighPerfMta.Engine.Delivery;

internal enum DeliveryEventKind : byte
{
    /// <summary>A job for a site of this shard; subject: the <see cref="Site"/>.</summary>
    Assign,

    /// <summary>A job whose route is an outcome already: discard, hold, reject, a DNS failure; subject: the outcome, null for discard and hold.</summary>
    Decide,

    /// <summary>A job whose message cannot be read to be routed; subject: why.</summary>
    Unroutable,

    /// <summary>A job whose message the disk refuses to read, so that it cannot be routed; subject: why.</summary>
    Unread,

    /// <summary>A job whose message the disk had no time to read, so that it could not be routed; subject: why.</summary>
    Unserved,

    /// <summary>A job that has no owner but this event: place it.</summary>
    Adopt,

    /// <summary>There are jobs in the shard's inbox.</summary>
    Inbox,

    /// <summary>A courier has done its batch.</summary>
    WorkerDone,

    /// <summary>A courier has closed its connection.</summary>
    WorkerGone,

    /// <summary>A report or state has been written, or has to be tried again.</summary>
    Settled,

    /// <summary>Operators' changes of jobs; subject: a <see cref="SteerBatch"/>.</summary>
    Steer,

    /// <summary>A batch of changes was written, or could not be.</summary>
    Steered,

    /// <summary>An operator's change of some recipients of a job; subject: a <see cref="RecipientSteering"/>.</summary>
    SteerRecipients,

    /// <summary>A change waits for a job that has come back.</summary>
    ApplyPending,

    /// <summary>Somebody wants to know; subject: an <see cref="Explaining"/>.</summary>
    Explain,

    /// <summary>Something is due.</summary>
    Timer,

    /// <summary>There is more to do of what the last turn began.</summary>
    Continue,

    /// <summary>A permit came free while sites were starved.</summary>
    PermitFree,

    /// <summary>A site somewhere has no permit: give up an idle connection.</summary>
    Starvation,

    /// <summary>Start nothing any more.</summary>
    Drain,

    /// <summary>Completes its <see cref="TaskCompletionSource"/> when everything posted before it has been worked off.</summary>
    Barrier,
}

/// <summary>What a shard is told: 16 bytes.</summary>
internal readonly record struct DeliveryEvent(DeliveryEventKind Kind, object? Subject = null, int Slot = 0)
{
    /// <summary>The route of a decision.</summary>
    public NextHopKind Route { get; init; }

    public bool Succeeded { get; init; }
}
