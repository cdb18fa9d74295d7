using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace HighPerfMta.Queue.Async;

/// <summary>Tasks on the thread pool, loops on threads of their own.</summary>
internal sealed partial class ThreadedBackground : Background
{
    public override Task Run(Func<Task> work) => Task.Run(work);

    public override BackgroundLoop NewLoop(string name, LoopTurn turn) => new Loop(name, turn);

    public override void GiveWay() => Thread.Yield();

    // With the second of the threads that serve sockets: the first is the one that accepts what comes while this commits.
    public override void TakePlace(ref bool isKept)
    {
        bool keep = ThreadPlacement.IsKept(1);
        if (keep != isKept)
        {
            isKept = keep;
            ThreadPlacement.Take(1, keep);
        }
    }

    public override void Pause(TimeSpan time)
    {
        if (!OperatingSystem.IsLinux())
        {
            Thread.Yield();
            return;
        }

        TimeSpec left = new(time);
        while (Native.NanoSleep(in left, out TimeSpec rest) != 0 && Marshal.GetLastPInvokeError() == Native.Interrupted)
        {
            left = rest;
        }
    }

    public override void Await(Func<Task> work)
    {
        using ManualResetEventSlim done = new();
        Exception? error = null;
        _ = WatchAsync();
        done.Wait();
        if (error is not null)
        {
            ExceptionDispatchInfo.Throw(error);
        }

        async Task WatchAsync()
        {
            try
            {
                await work();
            }
            catch (Exception e)
            {
                error = e;
            }

            done.Set();
        }
    }

    /// <summary>The system's timespec: whole seconds, and nanoseconds.</summary>
    private readonly struct TimeSpec(TimeSpan time)
    {
        private readonly nint _seconds = (nint)(time.Ticks / TimeSpan.TicksPerSecond);
        private readonly nint _nanoseconds = (nint)(time.Ticks % TimeSpan.TicksPerSecond * TimeSpan.NanosecondsPerTick);
    }

    private static partial class Native
    {
        public const int Interrupted = 4;

        [LibraryImport("libc", EntryPoint = "nanosleep", SetLastError = true)]
        public static partial int NanoSleep(in TimeSpec time, out TimeSpec left);
    }

    private sealed class Loop : BackgroundLoop
    {
        private readonly LoopTurn _turn;
        private readonly Thread _thread;
        private readonly object _gate = new();
        private bool _woken;

        public Loop(string name, LoopTurn turn)
        {
            _turn = turn;
            _thread = new Thread(Run) { IsBackground = true, Name = name };
        }

        public override bool IsAtRest => !_thread.IsAlive;

        public override void Start() => _thread.Start();

        public override void Wake()
        {
            // Whoever wakes has said what there is to do under a lock that the turn takes too: a turn that has not seen it comes after the flag is taken down.
            if (Volatile.Read(ref _woken))
            {
                return;
            }

            lock (_gate)
            {
                _woken = true;
                Monitor.Pulse(_gate);
            }
        }

        public override bool Join(TimeSpan limit) => _thread.ThreadState.HasFlag(ThreadState.Unstarted) || _thread.Join(limit);

        private void Run()
        {
            bool rested = false;
            while (_turn(rested) is { } limit)
            {
                rested = limit != TimeSpan.Zero && Sleep(limit);
            }
        }

        /// <summary>True when the time is over and nobody woke the loop.</summary>
        private bool Sleep(TimeSpan limit)
        {
            lock (_gate)
            {
                bool rested = !_woken && !Monitor.Wait(_gate, limit) && !_woken;
                _woken = false;
                return rested;
            }
        }
    }
}
