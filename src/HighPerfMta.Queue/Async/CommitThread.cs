namespace HighPerfMta.Queue.Async;

/// <summary>The thread that commits, while it runs what waited for a commit. Every other message waits for that thread: what runs on it must be short, and never block.</summary>
public static class CommitThread
{
    [ThreadStatic]
    private static bool _isCurrent;

    [ThreadStatic]
    private static Departures? _departures;

    /// <summary>Whether the caller runs there, and should go elsewhere for anything that takes longer than answering one message.</summary>
    public static bool IsCurrent => _isCurrent;

    /// <summary>Whoever awaits it goes on on the pool; if he is elsewhere already, at once and there.</summary>
    public static Departure LeaveAsync() => new(stays: !_isCurrent);

    internal static void Run(Action<object> work, object state)
    {
        Departures departures = _departures ??= new Departures();
        _isCurrent = true;
        departures.Begin();
        try
        {
            work(state);
        }
        finally
        {
            _isCurrent = false;
            departures.End();
        }
    }

    /// <summary>One of those who waited has done there what he wanted: if he left, he goes on.</summary>
    internal static void HandOver() => _departures?.HandOver();
}
