using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Up to <see cref="Most"/> jobs that one shard is asked to change together: the shard takes out what it owns, one record is written, the jobs are placed again. Used again by the room that
/// fills it; between <see cref="Completed"/> tasks it belongs to the shard.
/// </summary>
internal sealed class SteerBatch(Steering steering)
{
    /// <summary>Jobs of one record.</summary>
    public const int Most = 4096;

    public Steering Steering { get; } = steering;

    /// <summary>What is asked: the jobs, and their places in the caller's list.</summary>
    public List<(JobRef Job, int Index)> Asked { get; } = [];

    /// <summary>Jobs that the shard has taken out of their lists, with the indexes of <see cref="Asked"/>.</summary>
    public List<int> Slots { get; } = [];

    public List<int> SlotsAsked { get; } = [];

    /// <summary>Their sites: a dropped job does not say any more.</summary>
    public List<SiteQueue?> Sites { get; } = [];

    /// <summary>Jobs that are with somebody else, with the indexes of <see cref="Asked"/>.</summary>
    public List<JobRef> Lent { get; } = [];

    public List<int> LentAsked { get; } = [];

    /// <summary>Indexes of <see cref="Asked"/> for which the shard is not, or not now, the one to ask.</summary>
    public List<int> Elsewhere { get; } = [];

    public RecordRef Record { get; set; }

    public Exception? Error { get; set; }

    public TaskCompletionSource Completed { get; set; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Writes the change; never throws.</summary>
    public async Task RunAsync(IMailQueue queue, DeliveryShard shard)
    {
        // The shard's loop goes on meanwhile.
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.ContinueOnCapturedContext);
        try
        {
            if (Slots.Count + Lent.Count > 0)
            {
                Record = await queue.SteerAsync(Slots.ToArray(), Steering, Lent.ToArray());
            }
        }
        catch (Exception error)
        {
            Error = error;
        }

        shard.Post(new DeliveryEvent(DeliveryEventKind.Steered, this));
    }
}
