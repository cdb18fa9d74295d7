using System.Diagnostics;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// Wakes senders when their messages are due. One thread sleeps a millisecond at a time: the runtime's timers are coarser, and senders
/// that spin until their moment would take the processor from the server under test.
/// </summary>
internal sealed class Pacer : IDisposable
{
    private readonly Lock _lock = new();
    private readonly PriorityQueue<TaskCompletionSource, long> _waiting = new();
    private readonly Thread _thread;
    private bool _ended;

    public Pacer()
    {
        _thread = new Thread(Run) { IsBackground = true, Name = "pacer" };
        _thread.Start();
    }

    /// <summary>Ends at the <see cref="Stopwatch"/> timestamp, at most about a millisecond late, or with the pacer.</summary>
    public Task WaitUntilAsync(long timestamp)
    {
        lock (_lock)
        {
            if (_ended || timestamp <= Stopwatch.GetTimestamp())
            {
                return Task.CompletedTask;
            }

            var waiter = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiting.Enqueue(waiter, timestamp);
            return waiter.Task;
        }
    }

    /// <summary>Lets go all who wait.</summary>
    public void End()
    {
        lock (_lock)
        {
            _ended = true;
            Release(long.MaxValue);
        }
    }

    public void Dispose()
    {
        End();
        _thread.Join();
    }

    private void Run()
    {
        while (true)
        {
            lock (_lock)
            {
                if (_ended)
                {
                    return;
                }

                Release(Stopwatch.GetTimestamp());
            }

            Thread.Sleep(1);
        }
    }

    private void Release(long until)
    {
        while (_waiting.TryPeek(out _, out var due) && due <= until)
        {
            _waiting.Dequeue().TrySetResult();
        }
    }
}
