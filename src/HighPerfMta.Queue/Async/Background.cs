namespace HighPerfMta.Queue.Async;

/// <summary>One turn of a loop: does what there is to do now.</summary>
/// <param name="rested">The loop slept as long as its last turn said, and nobody woke it.</param>
/// <returns>The longest sleep before the next turn (zero: none); null: the loop ends. Never throws.</returns>
public delegate TimeSpan? LoopTurn(bool rested);

/// <summary>
/// Where the queue and delivery run what is on nobody's thread. <see cref="Threads"/> is the process's way: the thread pool, and a thread for each loop of the log. A simulation has one of its own that runs
/// everything on a single thread, in an order that a seed decides. Async methods below it must go on in the context they were called in, so no <c>ConfigureAwait(false)</c>: there is no context in a server.
/// </summary>
public abstract class Background
{
    /// <summary>The thread pool for tasks, a thread for each loop.</summary>
    public static Background Threads { get; } = new ThreadedBackground();

    /// <summary>Begins work elsewhere; the task ends when the work has.</summary>
    public abstract Task Run(Func<Task> work);

    /// <summary>A loop that takes turns from its start on.</summary>
    public abstract BackgroundLoop NewLoop(string name, LoopTurn turn);

    /// <summary>Blocks until the work, begun on the caller's thread, has ended, and throws what it threw. Only off the pool: on a loop of its own, or at the start.</summary>
    public abstract void Await(Func<Task> work);

    /// <summary>Lets threads that wait for the caller's processor run first, if there are any.</summary>
    public virtual void GiveWay()
    {
    }

    /// <summary>Blocks the caller for a time that the runtime's own ways to sleep are too coarse for; it may take a little longer. Where there is none finer (Linux has one) other threads only go first. Only on a loop.</summary>
    public virtual void Pause(TimeSpan time)
    {
    }

    /// <summary>Called by the loop that most of the server's work waits for, again and again: it goes to where it is of use (<see cref="ThreadPlacement"/>).</summary>
    /// <param name="isKept">Whether it keeps to a processor; false at first.</param>
    public virtual void TakePlace(ref bool isKept)
    {
    }

    /// <summary>Cancels, and returns when those who were told have been called, elsewhere.</summary>
    public Task CancelAsync(CancellationTokenSource source) => Run(() =>
    {
        source.Cancel();
        return Task.CompletedTask;
    });
}

/// <summary>A loop that sleeps until it is woken, or for as long as its last turn said.</summary>
public abstract class BackgroundLoop
{
    /// <summary>True before the start and after the last turn: nothing of the loop is under way.</summary>
    public abstract bool IsAtRest { get; }

    public abstract void Start();

    /// <summary>There may be work: a turn follows, also when one is under way. Say what there is to do before.</summary>
    public abstract void Wake();

    /// <summary>Waits for the end of the loop; false when it has not come within the limit.</summary>
    public abstract bool Join(TimeSpan limit);
}
