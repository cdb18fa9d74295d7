using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Smtp;

namespace HighPerfMta.LoadGen.Load;

/// <summary>Drives the connections of one source and adds up what they report. Bounded by count, duration or cancellation.</summary>
internal sealed class SourceRunner
{
    private static readonly TimeSpan WatchdogPeriod = TimeSpan.FromMilliseconds(250);

    private readonly ConcurrentDictionary<int, long> _refusedByCode = new();
    private readonly ConcurrentDictionary<SmtpWire, bool> _open = new();
    private long _tickets;
    private long _attempted;
    private long _accepted;
    private long _refused;
    private long _failed;
    private long _connections;
    private string? _firstRefusal;
    private string? _firstFailure;
    private long _startedAt;
    private Pacer? _pacer;
    private volatile bool _stopping;

    public SourceRunner(SourceOptions options) => Options = options;

    public SourceOptions Options { get; }

    public Latency Latency { get; } = new();

    /// <summary>With a rate: how long messages waited for this source, not for the server.</summary>
    public Latency OwnDelay { get; } = new();

    /// <summary>Sequence numbers that got a final 250.</summary>
    public SequenceSet AcceptedSet { get; } = new();

    public long Accepted => Volatile.Read(ref _accepted);

    public long Refused => Volatile.Read(ref _refused);

    public long Failed => Volatile.Read(ref _failed);

    /// <summary>Time is up or the run was cancelled: nothing new is begun.</summary>
    public bool Stopping => _stopping;

    public Task<SourceReport> RunAsync(CancellationToken cancellation) => RunAsync(Stopwatch.GetTimestamp(), cancellation);

    /// <param name="start">When the run begins, in <see cref="Stopwatch"/> ticks: what is due and the warm-up count from it.</param>
    /// <param name="cancellation">Ends the run.</param>
    public async Task<SourceReport> RunAsync(long start, CancellationToken cancellation)
    {
        _startedAt = start;
        using var pacer = Options.Rate > 0 ? new Pacer() : null;
        _pacer = pacer;
        // As long as one socket asks for times of arrival, none of the connections is the first to.
        using var clock = Options.Rate > 0 ? new Socket(Options.Target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) : null;
        if (clock is not null)
        {
            Arrivals.TryEnable(clock);
        }

        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        if (Options.Duration is { } duration)
        {
            end.CancelAfter(duration);
        }

        await using var stop = end.Token.Register(() =>
        {
            _stopping = true;
            pacer?.End();
        });
        await using var watchdog = new Timer(_ => CloseOverdue(), null, WatchdogPeriod, WatchdogPeriod);
        using var ramp = CancellationTokenSource.CreateLinkedTokenSource(end.Token);
        var sessions = new Task[Options.Connections];
        for (var i = 0; i < sessions.Length; i++)
        {
            var session = new SourceSession(this);
            var delay = Options.Ramp * i / sessions.Length;
            sessions[i] = Task.Run(() => RunSessionAsync(session, delay, ramp, end.Token), CancellationToken.None);
        }

        await Task.WhenAll(sessions);
        return Report(Stopwatch.GetElapsedTime(_startedAt));
    }

    /// <summary>The next message to send and its intended time; false when the run is over.</summary>
    public bool TryTake(out long sequence, out long intendedAt)
    {
        sequence = 0;
        intendedAt = 0;
        if (_stopping)
        {
            return false;
        }

        sequence = Interlocked.Increment(ref _tickets) - 1;
        if (Options.Count > 0 && sequence >= Options.Count)
        {
            return false;
        }

        intendedAt = Options.Rate > 0
            ? _startedAt + (long)(sequence / Options.Rate * Stopwatch.Frequency)
            : Stopwatch.GetTimestamp();
        return true;
    }

    /// <summary>Ends when a message is due, a little late.</summary>
    public Task WaitUntilDueAsync(long intendedAt) => _pacer?.WaitUntilAsync(intendedAt) ?? Task.CompletedTask;

    public void Opened(SmtpWire wire)
    {
        Interlocked.Increment(ref _connections);
        _open[wire] = true;
    }

    public void Closed(SmtpWire wire) => _open.TryRemove(wire, out _);

    public void CountAttempt() => Interlocked.Increment(ref _attempted);

    /// <param name="sequence">Of the message.</param>
    /// <param name="intendedAt">When it was due.</param>
    /// <param name="arrivedAt">When its final reply arrived.</param>
    /// <param name="own">What of that time it waited for this source.</param>
    public void CountAccepted(long sequence, long intendedAt, long arrivedAt, long own)
    {
        if (IsWarm(intendedAt))
        {
            Latency.Record(arrivedAt - intendedAt - own);
            if (Options.Rate > 0)
            {
                OwnDelay.Record(own);
            }
        }

        AcceptedSet.TryAdd(sequence);
        Interlocked.Increment(ref _accepted);
    }

    private bool IsWarm(long intendedAt) => Stopwatch.GetElapsedTime(_startedAt, intendedAt) >= Options.WarmUp;

    public void CountRefused(int code, string line)
    {
        Interlocked.Increment(ref _refused);
        _refusedByCode.AddOrUpdate(code, 1, (_, n) => n + 1);
        Interlocked.CompareExchange(ref _firstRefusal, line, null);
    }

    public void CountFailed(string reason)
    {
        Interlocked.Increment(ref _failed);
        Interlocked.CompareExchange(ref _firstFailure, reason, null);
    }

    /// <summary>A session that has ended found nothing left to send: those that still wait for their turn have nothing to wait for.</summary>
    private async Task RunSessionAsync(SourceSession session, TimeSpan delay, CancellationTokenSource ramp, CancellationToken end)
    {
        if (delay > TimeSpan.Zero)
        {
            await Task.WhenAny(Task.Delay(delay, ramp.Token));
        }

        await session.RunAsync(_startedAt + (long)(delay.TotalSeconds * Stopwatch.Frequency), end);
        await ramp.CancelAsync();
    }

    private SourceReport Report(TimeSpan elapsed) => new(
        Options.Run.ToString("x8", System.Globalization.CultureInfo.InvariantCulture),
        _attempted,
        _accepted,
        _refused,
        _failed,
        new SortedDictionary<int, long>(_refusedByCode),
        _firstRefusal,
        _firstFailure,
        _connections,
        Math.Round(elapsed.TotalSeconds, 3),
        Math.Round(_accepted / Math.Max(elapsed.TotalSeconds, 1e-6), 1),
        Latency.Figures(),
        OwnDelay.Figures());

    private void CloseOverdue()
    {
        var now = Environment.TickCount64;
        foreach (var (wire, _) in _open)
        {
            if (wire.Deadline < now)
            {
                wire.Dispose();
            }
        }
    }
}
