using System.Collections.Concurrent;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.TestKit;

/// <summary>A message as <see cref="RecordingIntake"/> got it; <see cref="Octets"/> holds the prepended headers first.</summary>
public sealed record RecordedMessage(Envelope Envelope, byte[] Headers, byte[] Octets, long Size, long ExpectedLength);

/// <summary>An intake without a queue: keeps what was committed, and fails where a test says so.</summary>
/// <param name="keepOctets">False: only counts the message's octets, for messages that no test wants in memory.</param>
public sealed class RecordingIntake(bool keepOctets = true) : IIntake
{
    private readonly TaskCompletionSource _commitReached = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _lastId;
    private int _open;

    public ConcurrentQueue<RecordedMessage> Messages { get; } = [];

    /// <summary>What <see cref="IIntake.Refusal"/> answers; null: mail can be taken.</summary>
    public SmtpReply? Refusal { get; set; }

    /// <summary>What a commit answers.</summary>
    public SmtpReply? CommitRefusal { get; set; }

    /// <summary>Thrown by a commit.</summary>
    public Exception? CommitFault { get; set; }

    /// <summary>Octets of a message after which storing more throws <see cref="LogUnavailableException"/> with <see cref="FaultCondition"/>.</summary>
    public long FailAfter { get; set; } = long.MaxValue;

    public LogCondition FaultCondition { get; set; } = LogCondition.Failing;

    /// <summary>A commit waits for it; null: not at all.</summary>
    public TaskCompletionSource? CommitGate { get; set; }

    /// <summary>Called when a message is begun.</summary>
    public Action? Begun { get; set; }

    /// <summary>Awaited by each commit; null: nothing.</summary>
    public Func<ValueTask>? BeforeCommit { get; set; }

    /// <summary>Completes when the first commit was asked for.</summary>
    public Task CommitReached => _commitReached.Task;

    /// <summary>Messages begun and not disposed.</summary>
    public int Open => Volatile.Read(ref _open);

    /// <summary>Largest memory that one message asked for at once.</summary>
    public int LargestRequest { get; private set; }

    public MessageId NextId() => new((ulong)Interlocked.Increment(ref _lastId));

    public IncomingMessage Begin()
    {
        Interlocked.Increment(ref _open);
        Begun?.Invoke();
        return new Recording(this, keepOctets);
    }

    public async ValueTask<(SmtpReply? Refusal, QueuedMessage? Message)> CommitAsync(
        IncomingMessage incoming, Envelope envelope, ReadOnlyMemory<byte> prependedHeaders)
    {
        _commitReached.TrySetResult();
        if (CommitGate is { } gate)
        {
            await gate.Task;
        }

        if (BeforeCommit is { } before)
        {
            await before();
        }

        if (CommitFault is { } fault)
        {
            throw fault;
        }

        if (CommitRefusal is { } refusal)
        {
            return (refusal, null);
        }

        Recording recording = (Recording)incoming;
        Messages.Enqueue(new RecordedMessage(envelope, prependedHeaders.ToArray(), recording.Octets, recording.Length, recording.ExpectedLength));
        return (null, null);
    }

    private sealed class Recording(RecordingIntake owner, bool keep) : IncomingMessage
    {
        private readonly MemoryStream _stream = new();
        private byte[] _memory = [];
        private long _length;
        private bool _disposed;

        public override long Length => _length;

        public byte[] Octets => _stream.ToArray();

        public override ValueTask<Memory<byte>> GetMemoryAsync(int minimum, CancellationToken cancellation = default)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            owner.LargestRequest = Math.Max(owner.LargestRequest, minimum);
            FailIfTold();
            if (_memory.Length < minimum)
            {
                _memory = new byte[minimum];
            }

            return new ValueTask<Memory<byte>>(_memory);
        }

        public override void Advance(int count) => Take(_memory.AsSpan(0, count));

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation = default)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            FailIfTold();
            Take(octets.Span);
            return default;
        }

        public override ValueTask<QueuedMessage> CommitAsync(Envelope envelope, ReadOnlyMemory<byte> prependedHeaders) =>
            throw new NotSupportedException("commit through the intake");

        protected override void Dispose(bool disposing)
        {
            if (!_disposed)
            {
                _disposed = true;
                Interlocked.Decrement(ref owner._open);
                _stream.Dispose();
            }
        }

        private void FailIfTold()
        {
            if (_length >= owner.FailAfter)
            {
                throw new LogUnavailableException("told to fail", owner.FaultCondition);
            }
        }

        private void Take(ReadOnlySpan<byte> octets)
        {
            _length += octets.Length;
            if (keep)
            {
                _stream.Write(octets);
            }
        }
    }
}

/// <summary>Keeps the events that were written.</summary>
public sealed class RecordingEventLog : IEventLog
{
    public ConcurrentQueue<MailEvent> Events { get; } = [];

    public void Write(in MailEvent mailEvent) => Events.Enqueue(mailEvent);
}
