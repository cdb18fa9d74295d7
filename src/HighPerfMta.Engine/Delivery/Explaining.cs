using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>A question to the shard that may have a job.</summary>
internal sealed class Explaining(JobRef job)
{
    private readonly TaskCompletionSource<JobExplanation?> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public JobRef Job { get; } = job;

    public Task<JobExplanation?> Done => _done.Task;

    public void Answer(JobExplanation? explanation) => _done.TrySetResult(explanation);
}
