namespace HighPerfMta.Queue.Async;

/// <summary>The thread that commits, while it runs what waited for a commit. Every other message waits for that thread: what runs on it must be short, and never block.</summary>
public static class CommitThread
{
    [ThreadStatic]
    private static bool _isCurrent;

    /// <summary>Whether the caller runs there, and should go elsewhere for anything that takes longer than answering one message.</summary>
    public static bool IsCurrent => _isCurrent;

    /// <summary>Whoever awaits it goes on on the pool; if he is elsewhere already, at once and there.</summary>
    public static ValueTask LeaveAsync() => _isCurrent ? HopAsync() : default;

    private static async ValueTask HopAsync() =>
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.ContinueOnCapturedContext);

    internal static void Run(Action<object> work, object state)
    {
        _isCurrent = true;
        try
        {
            work(state);
        }
        finally
        {
            _isCurrent = false;
        }
    }
}
