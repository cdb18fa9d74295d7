namespace HighPerfMta.Queue;

/// <summary>What an operator, or the server for him, does to whole jobs. Values are on disk: never reuse one.</summary>
public enum SteeringKind : byte
{
    /// <summary>Nothing is tried until a release; expiry still holds.</summary>
    Hold = 1,

    /// <summary>Ends a hold; due at <see cref="Steering.DueAt"/>.</summary>
    Release = 2,

    /// <summary>Due at <see cref="Steering.DueAt"/>; a held job stays held.</summary>
    Retry = 3,

    /// <summary>Out of the queue, without telling the sender.</summary>
    Drop = 4,

    /// <summary>To be returned to the sender: delivery makes the report and the final state when it comes to it, held or not.</summary>
    Bounce = 5,

    /// <summary>Goes to <see cref="Steering.NextHop"/> from now on; due at <see cref="Steering.DueAt"/>, a held job stays held.</summary>
    Reroute = 6,
}

/// <summary>A change of whole jobs that needs nothing of their records.</summary>
/// <param name="Kind">What is done.</param>
/// <param name="DueAt">When they are due then; not for hold and drop.</param>
/// <param name="NextHop">For reroute: the next hop as configuration writes it.</param>
/// <param name="Reason">For hold: why, if the server does it; shown as the last reply.</param>
public readonly record struct Steering(SteeringKind Kind, DateTimeOffset DueAt, string? NextHop = null, string? Reason = null)
{
    /// <summary>Whether the job would change at all.</summary>
    public bool Applies(in Index.Job job) => Kind switch
    {
        SteeringKind.Hold => !job.IsHeld,
        SteeringKind.Release => job.IsHeld,
        SteeringKind.Retry => !job.IsHeld && !job.Has(Index.JobFlags.Bouncing),
        SteeringKind.Bounce => !job.Has(Index.JobFlags.Bouncing),
        _ => true,
    };
}
