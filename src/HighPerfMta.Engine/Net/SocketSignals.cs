using System.Threading.Tasks.Sources;

namespace HighPerfMta.Engine.Net;

/// <summary>What a <see cref="SocketPoller"/> tells one connection.</summary>
internal sealed class SocketSignals
{
    private volatile bool _ended;

    /// <summary>Where the poller keeps it, and which of those that were kept there it is.</summary>
    public int Place { get; set; }

    public uint Generation { get; set; }

    public SocketSignal Readable { get; } = new();

    public SocketSignal Writable { get; } = new();

    /// <summary>The stream ends, or is broken: a receive is never in vain, and no further event may come.</summary>
    public bool Ended => _ended;

    public void NoteEnd() => _ended = true;

    /// <summary>Lets whoever waits look again, on the pool.</summary>
    public void SetAll()
    {
        Readable.Set(inline: false);
        Writable.Set(inline: false);
    }
}

/// <summary>One thing that happens again and again, and one that waits for it. What happened while nobody waited is kept, once.</summary>
internal sealed class SocketSignal : IValueTaskSource
{
    private const int Idle = 0;
    private const int Ready = 1;
    private const int Waiting = 2;

    private ManualResetValueTaskSourceCore<bool> _core;
    private int _state;

    /// <summary>Waits for the next time, or takes the one that was kept. It may come for nothing: whoever waits tries, and waits again.</summary>
    public ValueTask WaitAsync()
    {
        _core.Reset();
        if (Interlocked.CompareExchange(ref _state, Waiting, Idle) == Idle)
        {
            return new ValueTask(this, _core.Version);
        }

        // What happens from here on may be lost for the signal and not for the caller, who looks after this: a full barrier, or he might have looked before.
        Interlocked.Exchange(ref _state, Idle);
        return default;
    }

    /// <summary>It has happened. Safe from any thread.</summary>
    /// <param name="inline">Whoever waits goes on before this returns; else on the pool.</param>
    public void Set(bool inline)
    {
        if (Interlocked.Exchange(ref _state, Ready) == Waiting)
        {
            _core.RunContinuationsAsynchronously = !inline;
            _core.SetResult(true);
        }
    }

    void IValueTaskSource.GetResult(short token)
    {
        Interlocked.Exchange(ref _state, Idle);
        _core.GetResult(token);
    }

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
