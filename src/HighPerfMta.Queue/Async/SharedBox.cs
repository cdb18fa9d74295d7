using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;

namespace HighPerfMta.Queue.Async;

/// <summary>
/// Where the state of a suspended async method lives until its caller has taken the result; then it serves another call of the same method,
/// on any thread.
/// </summary>
internal abstract class SharedBox<TResult> : IValueTaskSource<TResult>, IValueTaskSource
{
    private ManualResetValueTaskSourceCore<TResult> _core;

    public short Version => _core.Version;

    /// <summary>Resumes the method. One delegate for the life of the box.</summary>
    public Action Resume { get; }

    protected SharedBox() => Resume = ResumeMethod;

    public void SetResult(TResult result) => _core.SetResult(result);

    public void SetException(Exception error) => _core.SetException(error);

    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    public TResult GetResult(short token)
    {
        // Asked too early or twice it throws here, and the box stays with its owner.
        if (_core.GetStatus(token) == ValueTaskSourceStatus.Pending)
        {
            throw new InvalidOperationException("The result of a ValueTask was taken before it was there");
        }

        try
        {
            return _core.GetResult(token);
        }
        finally
        {
            _core.Reset();
            Return();
        }
    }

    void IValueTaskSource.GetResult(short token) => GetResult(token);

    protected abstract void ResumeMethod();

    protected abstract void Return();
}

/// <summary>The boxes of one async method: one for each thread that gave one back, and at most <see cref="Limit"/> more wait for their next call.</summary>
internal sealed class SharedBox<TStateMachine, TResult> : SharedBox<TResult>
    where TStateMachine : IAsyncStateMachine
{
    private const int Limit = 4096;

    private static readonly ContextCallback RunStateMachine = static state => ((SharedBox<TStateMachine, TResult>)state!).StateMachine!.MoveNext();
    private static readonly Lock Gate = new();
    private static SharedBox<TStateMachine, TResult>? _free;
    private static int _count;

    // Most calls end on a thread that soon makes another.
    [ThreadStatic]
    private static SharedBox<TStateMachine, TResult>? _own;

    private SharedBox<TStateMachine, TResult>? _next;
    private ExecutionContext? _context;

    public TStateMachine? StateMachine;

    public static SharedBox<TStateMachine, TResult> Rent()
    {
        if (_own is { } own)
        {
            _own = null;
            return own;
        }

        lock (Gate)
        {
            if (_free is { } box)
            {
                _free = box._next;
                box._next = null;
                _count--;
                return box;
            }
        }

        return new SharedBox<TStateMachine, TResult>();
    }

    /// <summary>Notes what the method runs in after its next await, as the language promises.</summary>
    public void CaptureContext() => _context = ExecutionContext.Capture();

    protected override void ResumeMethod()
    {
        // Nothing of the box may be touched behind these calls: the method may have ended, and the box be another call's.
        ExecutionContext? context = _context;
        if (context is null || ReferenceEquals(context, ExecutionContext.Capture()))
        {
            StateMachine!.MoveNext();
            Restore(context);
        }
        else
        {
            ExecutionContext.Run(context, RunStateMachine, this);
        }
    }

    protected override void Return()
    {
        StateMachine = default;
        _context = null;
        if (_own is null)
        {
            _own = this;
            return;
        }

        lock (Gate)
        {
            if (_count < Limit)
            {
                _next = _free;
                _free = this;
                _count++;
            }
        }
    }

    /// <summary>What the method changed is its own, and not whoever's that resumed it.</summary>
    private static void Restore(ExecutionContext? context)
    {
        if (context is not null && !ReferenceEquals(context, ExecutionContext.Capture()))
        {
            ExecutionContext.Restore(context);
        }
    }
}
