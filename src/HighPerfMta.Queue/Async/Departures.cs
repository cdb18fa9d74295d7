using System.Runtime.CompilerServices;

namespace HighPerfMta.Queue.Async;

/// <summary>
/// Those who leave a thread that many wait for (one that serves sockets, or the log's): they go on on the pool, but not before the thread has come back from the piece of work that it runs now. Else the pool could be
/// done with the rest before those further up have seen that there is something to wait for, and they would stay on the thread that was to be left.
/// </summary>
public sealed class Departures
{
    [ThreadStatic]
    private static Departures? _current;

    private readonly List<Action> _leaving = [];

    /// <summary>Whoever awaits it is on the pool afterwards, and no longer on a thread that many wait for; neither is whoever awaits him.</summary>
    public static Departure LeaveAsync() => default;

    /// <summary>From now on those who leave the calling thread wait for <see cref="HandOver"/> or <see cref="End"/>.</summary>
    public void Begin() => _current = this;

    /// <summary>A piece of work is over: those who left meanwhile go on.</summary>
    public void HandOver()
    {
        if (_leaving.Count > 0)
        {
            _leaving.ForEach(GoOn);
            _leaving.Clear();
        }
    }

    /// <summary>The last piece of work is over.</summary>
    public void End()
    {
        _current = null;
        HandOver();
    }

    internal static void Leave(Action continuation)
    {
        if (_current is { } departures)
        {
            departures._leaving.Add(continuation);
        }
        else
        {
            GoOn(continuation);
        }
    }

    private static void GoOn(Action continuation) => ThreadPool.UnsafeQueueUserWorkItem(static state => state(), continuation, preferLocal: false);
}

/// <summary>What <see cref="Departures.LeaveAsync"/> gives to be awaited.</summary>
/// <param name="stays">There is no need to leave.</param>
public readonly struct Departure(bool stays) : ICriticalNotifyCompletion
{
    public bool IsCompleted => stays;

    public Departure GetAwaiter() => this;

    public void GetResult()
    {
    }

    public void OnCompleted(Action continuation)
    {
        ExecutionContext? context = ExecutionContext.Capture();
        UnsafeOnCompleted(context is null ? continuation : () => ExecutionContext.Run(context, static action => ((Action)action!)(), continuation));
    }

    public void UnsafeOnCompleted(Action continuation) => Departures.Leave(continuation);
}
