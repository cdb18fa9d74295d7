namespace HighPerfMta.Engine.Net.Tls;

/// <summary>
/// Bounds handshakes that are being computed, and those that wait for it. A turn is held only while this side computes, never while a client is waited for: so a client that stops in the middle
/// holds up nobody, every turn comes, and who waits needs no time-out. What can not be served in a while is given up at once instead of after its client has.
/// </summary>
internal sealed class HandshakeGate(int limit, int waiting)
{
    private readonly Lock _lock = new();
    private readonly Queue<TaskCompletionSource> _queue = [];
    private int _running;

    /// <summary>Handshakes that wait for a turn.</summary>
    public int Waiting
    {
        get
        {
            lock (_lock)
            {
                return _queue.Count;
            }
        }
    }

    /// <summary>Whoever comes now would have to wait, and may not.</summary>
    public bool IsFull
    {
        get
        {
            lock (_lock)
            {
                return _running >= limit && _queue.Count >= waiting;
            }
        }
    }

    /// <summary>Takes a turn, in the order of coming; <see cref="Leave"/> gives it back. False: too many wait.</summary>
    public async ValueTask<bool> TryEnterAsync()
    {
        TaskCompletionSource turn;
        lock (_lock)
        {
            if (_running < limit)
            {
                _running++;
                return true;
            }

            if (_queue.Count >= waiting)
            {
                return false;
            }

            turn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _queue.Enqueue(turn);
        }

        await turn.Task;
        return true;
    }

    /// <summary>Hands the turn to whoever waits longest.</summary>
    public void Leave()
    {
        lock (_lock)
        {
            if (_queue.TryDequeue(out TaskCompletionSource? next))
            {
                next.SetResult();
            }
            else
            {
                _running--;
            }
        }
    }
}

/// <summary>A handshake's turn: taken once, ended as often as somebody wants.</summary>
internal sealed class HandshakeTurn(HandshakeGate gate)
{
    private int _taken;

    /// <summary>False: too many wait.</summary>
    public async ValueTask<bool> TakeAsync()
    {
        bool entered = await gate.TryEnterAsync();
        Volatile.Write(ref _taken, entered ? 1 : 0);
        return entered;
    }

    public void End()
    {
        if (Interlocked.Exchange(ref _taken, 0) != 0)
        {
            gate.Leave();
        }
    }
}
