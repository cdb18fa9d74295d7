using System.ComponentModel;
using System.Runtime.CompilerServices;

namespace HighPerfMta.Queue.Async;

#pragma warning disable CA1000, CA1822 // The language asks for this shape.

/// <summary>
/// Builds async methods that allocate nothing when they are suspended, however many calls are suspended at once: each thread keeps one box of a method, and
/// the others are in a pool that all threads share. The runtime's own pooling builder keeps about one box a processor, which is no help when twenty sessions wait for one commit.
/// For methods on the path of each message, with <c>[AsyncMethodBuilder]</c>. As with every pooled ValueTask, the result is taken exactly once.
/// </summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public struct SharedBoxMethodBuilder<TResult>
{
    private SharedBox<TResult>? _box;
    private Exception? _error;
    private TResult? _result;

    public readonly ValueTask<TResult> Task =>
        _box is not null ? new ValueTask<TResult>(_box, _box.Version)
        : _error is null ? new ValueTask<TResult>(_result!)
        : new ValueTask<TResult>(Failed(_error));

    internal readonly ValueTask UntypedTask =>
        _box is not null ? new ValueTask(_box, _box.Version)
        : _error is null ? default
        : new ValueTask(Failed(_error));

    public static SharedBoxMethodBuilder<TResult> Create() => default;

    public readonly void Start<TStateMachine>(ref TStateMachine stateMachine)
        where TStateMachine : IAsyncStateMachine => default(AsyncValueTaskMethodBuilder).Start(ref stateMachine);

    public readonly void SetStateMachine(IAsyncStateMachine stateMachine)
    {
        // Never called for optimized code; a box holds its state machine from the start.
    }

    public void SetResult(TResult result)
    {
        if (_box is null)
        {
            _result = result;
        }
        else
        {
            _box.SetResult(result);
        }
    }

    public void SetException(Exception exception)
    {
        if (_box is null)
        {
            _error = exception;
        }
        else
        {
            _box.SetException(exception);
        }
    }

    public void AwaitOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : INotifyCompletion
        where TStateMachine : IAsyncStateMachine => awaiter.OnCompleted(Suspend(ref stateMachine));

    public void AwaitUnsafeOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : ICriticalNotifyCompletion
        where TStateMachine : IAsyncStateMachine => awaiter.UnsafeOnCompleted(Suspend(ref stateMachine));

    /// <summary>Moves the state machine into a box at its first await. This builder is a part of the state machine: the box must be known before the copy.</summary>
    private Action Suspend<TStateMachine>(ref TStateMachine stateMachine)
        where TStateMachine : IAsyncStateMachine
    {
        if (_box is not SharedBox<TStateMachine, TResult> box)
        {
            box = SharedBox<TStateMachine, TResult>.Rent();
            _box = box;
            box.StateMachine = stateMachine;
        }

        box.CaptureContext();
        return box.Resume;
    }

    /// <summary>A task that is cancelled for an <see cref="OperationCanceledException"/>, as the language's own are.</summary>
    private static Task<TResult> Failed(Exception error)
    {
        var builder = AsyncTaskMethodBuilder<TResult>.Create();
        builder.SetException(error);
        return builder.Task;
    }
}

/// <summary>As <see cref="SharedBoxMethodBuilder{TResult}"/>, for methods without a result.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public struct SharedBoxMethodBuilder
{
    private SharedBoxMethodBuilder<bool> _builder;

    public readonly ValueTask Task => _builder.UntypedTask;

    public static SharedBoxMethodBuilder Create() => default;

    public readonly void Start<TStateMachine>(ref TStateMachine stateMachine)
        where TStateMachine : IAsyncStateMachine => default(AsyncValueTaskMethodBuilder).Start(ref stateMachine);

    public readonly void SetStateMachine(IAsyncStateMachine stateMachine)
    {
        // As in the builder with a result.
    }

    public void SetResult() => _builder.SetResult(true);

    public void SetException(Exception exception) => _builder.SetException(exception);

    public void AwaitOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : INotifyCompletion
        where TStateMachine : IAsyncStateMachine => _builder.AwaitOnCompleted(ref awaiter, ref stateMachine);

    public void AwaitUnsafeOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : ICriticalNotifyCompletion
        where TStateMachine : IAsyncStateMachine => _builder.AwaitUnsafeOnCompleted(ref awaiter, ref stateMachine);
}
