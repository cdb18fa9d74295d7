using System.Runtime.CompilerServices;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// Whoever awaits it goes on on the pool; of a poller's thread not before that has come back from what it runs now. Else the pool could be done with the rest before those further up have seen that there is something to
/// wait for, and they would stay on the thread that was to be left.
/// </summary>
internal readonly struct PollerDeparture : ICriticalNotifyCompletion
{
    public bool IsCompleted => false;

    public PollerDeparture GetAwaiter() => this;

    public void GetResult()
    {
    }

    public void OnCompleted(Action continuation)
    {
        ExecutionContext? context = ExecutionContext.Capture();
        UnsafeOnCompleted(context is null ? continuation : () => ExecutionContext.Run(context, static action => ((Action)action!)(), continuation));
    }

    public void UnsafeOnCompleted(Action continuation) => SocketPoller.Leave(continuation);
}
