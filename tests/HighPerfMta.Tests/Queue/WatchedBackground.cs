using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue;

/// <summary>The process's threads, and what the loops of the log wait for on them: pauses last no time.</summary>
internal sealed class WatchedBackground : Background
{
    private readonly List<TimeSpan> _pauses = [];
    private int _yields;

    public int Yields => Volatile.Read(ref _yields);

    public TimeSpan[] Pauses
    {
        get
        {
            lock (_pauses)
            {
                return [.. _pauses];
            }
        }
    }

    public override Task Run(Func<Task> work) => Threads.Run(work);

    public override BackgroundLoop NewLoop(string name, LoopTurn turn) => Threads.NewLoop(name, turn);

    public override void Await(Func<Task> work) => Threads.Await(work);

    public override void GiveWay() => Interlocked.Increment(ref _yields);

    public override void Pause(TimeSpan time)
    {
        lock (_pauses)
        {
            _pauses.Add(time);
        }
    }
}
