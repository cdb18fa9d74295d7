using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue.Storage;

/// <summary>Loops that take turns on the test's own thread, when it says so.</summary>
internal sealed class StepBackground : Background
{
    private readonly List<StepLoop> _loops = [];

    public void Run()
    {
        foreach (StepLoop loop in _loops)
        {
            loop.Run();
        }
    }

    public override Task Run(Func<Task> work) => throw new NotSupportedException();

    public override void Await(Func<Task> work) => throw new NotSupportedException();

    public override BackgroundLoop NewLoop(string name, LoopTurn turn)
    {
        StepLoop loop = new(turn);
        _loops.Add(loop);
        return loop;
    }

    private sealed class StepLoop(LoopTurn turn) : BackgroundLoop
    {
        private bool _ended;

        public override bool IsAtRest => true;

        public override void Start()
        {
        }

        public override void Wake()
        {
        }

        public override bool Join(TimeSpan limit)
        {
            Run();
            return _ended;
        }

        public void Run()
        {
            while (!_ended && turn(rested: false) is var sleep && sleep != Timeout.InfiniteTimeSpan)
            {
                _ended = sleep is null;
            }
        }
    }
}
