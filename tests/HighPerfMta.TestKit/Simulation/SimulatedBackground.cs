using System.Runtime.ExceptionServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.TestKit.Simulation;

/// <summary>
/// Runs everything that a server does in the background on the caller's thread, one piece at a time, in an order that a seed decides: what async methods go on with, and turns of loops. A piece runs until it
/// waits for something; so every run with the same seed is the same. Whoever uses it installs <see cref="Context"/> on his thread first.
/// </summary>
public sealed class SimulatedBackground : Background
{
    /// <summary>Of what is ready, one of the first so many is next: orders change, and nothing waits for ever.</summary>
    private const int Window = 8;

    private readonly Random _random;
    private readonly List<(SendOrPostCallback Work, object? State)> _ready = [];
    private readonly List<Loop> _loops = [];
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private readonly object?[] _recent = new object?[64];
    private bool _abandoned;

    public SimulatedBackground(Random random)
    {
        _random = random;
        Context = new PostingContext(this);
    }

    public SynchronizationContext Context { get; }

    /// <summary>Pieces run so far.</summary>
    public long Pieces { get; private set; }

    /// <summary>What a piece threw that nobody caught, or that came from another thread and so in no order.</summary>
    public List<Exception> Errors { get; } = [];

    /// <summary>Called when nothing is ready while somebody waits: moves the clock. False: there is nothing to wait for.</summary>
    public Func<bool>? Idle { get; set; }

    /// <summary>The process is dead: nothing of it runs any more.</summary>
    public void Abandon()
    {
        _abandoned = true;
        _ready.Clear();
        _loops.Clear();
    }

    public override async Task Run(Func<Task> work)
    {
        await Task.Yield();
        await work();
    }

    public override BackgroundLoop NewLoop(string name, LoopTurn turn)
    {
        Loop loop = new(this, name, turn);
        _loops.Add(loop);
        return loop;
    }

    public override void Await(Func<Task> work)
    {
        Exception? error = null;
        bool done = false;
        _ = WatchAsync();
        while (!done)
        {
            if (!RunOne() && Idle?.Invoke() != true)
            {
                throw new NothingLeftException();
            }
        }

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

            done = true;
        }
    }

    /// <summary>Runs one piece; false when nothing is ready.</summary>
    public bool RunOne()
    {
        if (_abandoned)
        {
            return false;
        }

        List<Loop> awake = _loops.FindAll(static l => l.IsReady);
        int choices = Math.Min(Window, _ready.Count) + awake.Count;
        if (choices == 0)
        {
            return false;
        }

        int choice = _random.Next(choices);
        _recent[Pieces++ % _recent.Length] = choice < awake.Count ? awake[choice] : _ready[choice - awake.Count].State;
        if (choice < awake.Count)
        {
            awake[choice].TakeTurn();
            return true;
        }

        (SendOrPostCallback work, object? state) = _ready[choice - awake.Count];
        _ready.RemoveAt(choice - awake.Count);
        try
        {
            work(state);
        }
        catch (Exception e)
        {
            Errors.Add(e);
        }

        return true;
    }

    /// <summary>What ran last, latest first: for whoever looks for the cause of a run that does not end.</summary>
    public IEnumerable<string> Recent()
    {
        for (long i = Pieces - 1; i >= Math.Max(0, Pieces - _recent.Length); i--)
        {
            object? piece = _recent[i % _recent.Length];
            yield return piece is Loop loop ? loop.Name : $"{(piece as Delegate)?.Target ?? piece}";
        }
    }

    private void Post(SendOrPostCallback work, object? state)
    {
        if (Environment.CurrentManagedThreadId != _thread)
        {
            lock (Errors)
            {
                Errors.Add(new InvalidOperationException($"something came from another thread:\n{Environment.StackTrace}"));
            }

            return;
        }

        if (!_abandoned)
        {
            _ready.Add((work, state));
        }
    }

    private sealed class PostingContext(SimulatedBackground owner) : SynchronizationContext
    {
        public override void Post(SendOrPostCallback d, object? state) => owner.Post(d, state);

        public override void Send(SendOrPostCallback d, object? state) => throw new NotSupportedException("nothing in a server waits for another context");

        public override SynchronizationContext CreateCopy() => this;
    }

    private sealed class Loop(SimulatedBackground owner, string name, LoopTurn turn) : BackgroundLoop
    {
        public string Name => name;

        private TimeSpan? _rest = TimeSpan.Zero;
        private bool _started;
        private bool _woken;
        private bool _inTurn;

        public override bool IsAtRest => !_started || _rest is null;

        /// <summary>It may take a turn now. A loop that wanted to sleep for some milliseconds may have done so at any moment: the clock of the simulation does not show them.</summary>
        public bool IsReady => _started && !_inTurn && _rest is { } rest && (_woken || rest != Timeout.InfiniteTimeSpan);

        public override void Start() => _started = true;

        public override void Wake() => _woken = true;

        public void TakeTurn()
        {
            bool rested = !_woken && _rest != TimeSpan.Zero;
            _woken = false;
            _inTurn = true;
            _rest = turn(rested);
            _inTurn = false;
        }

        public override bool Join(TimeSpan limit)
        {
            while (!IsAtRest)
            {
                if (!owner.RunOne())
                {
                    throw new NothingLeftException();
                }
            }

            return true;
        }
    }
}

/// <summary>Somebody waits, and nothing is left that could end the wait.</summary>
public sealed class NothingLeftException() : Exception("somebody waits, and nothing is left to be run");
