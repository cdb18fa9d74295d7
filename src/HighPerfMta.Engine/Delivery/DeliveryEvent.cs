using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

internal enum DeliveryEventKind : byte
{
    /// <summary>Recipients of a message for a site of this shard; all are due.</summary>
    Assign,

    /// <summary>Recipients whose next attempt is not due yet, or that are held: the site is found when they are due.</summary>
    Park,

    /// <summary>Recipients whose route is an outcome already: discard, hold, reject, a DNS failure.</summary>
    Decide,

    /// <summary>A courier has done its batch.</summary>
    WorkerDone,

    /// <summary>A courier has closed its connection.</summary>
    WorkerGone,

    /// <summary>A report or state has been written, or has to be tried again.</summary>
    Settled,

    /// <summary>An operator changed recipients of the message.</summary>
    Reconsider,

    /// <summary>Something is due.</summary>
    Timer,

    /// <summary>A permit came free while sites were starved.</summary>
    PermitFree,

    /// <summary>A site somewhere has no permit: give up an idle connection.</summary>
    Starvation,

    /// <summary>Start nothing any more.</summary>
    Drain,

    /// <summary>Completes its <see cref="TaskCompletionSource"/> when everything posted before it has been worked off.</summary>
    Barrier,
}

/// <summary>What a shard is told. Which fields are set depends on the kind.</summary>
internal readonly record struct DeliveryEvent(DeliveryEventKind Kind, object? Subject = null)
{
    public QueuedMessage? Message { get; init; }

    /// <summary>The recipient when <see cref="Recipients"/> is null.</summary>
    public int Recipient { get; init; }

    public int[]? Recipients { get; init; }

    public byte Throws { get; init; }

    public NextHopKind Route { get; init; }

    /// <summary>The outcome of a <see cref="DeliveryEventKind.Decide"/>; null for discard and hold.</summary>
    public DeliveryOutcome? Outcome => Subject as DeliveryOutcome;

    public bool Succeeded { get; init; }
}
