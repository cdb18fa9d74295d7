using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;

namespace HighPerfMta.LoadGen.Load;

/// <summary>Accepts connections and adds up what their sessions report. Bounded by count, duration or cancellation.</summary>
internal sealed class SinkServer : IAsyncDisposable
{
    /// <summary>Runs told apart for duplicates; the marks of later ones only count.</summary>
    private const int MaxRuns = 64;

    private readonly Socket _listener;
    private readonly CancellationTokenSource _end = new();
    private readonly TaskCompletionSource _countReached = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentDictionary<SinkSession, Task> _sessions = new();
    private readonly ConcurrentDictionary<uint, SequenceSet> _runs = new();
    private readonly Latency _latency = new();
    private readonly DeferralLedger? _deferrals;
    private Task _accepting = Task.CompletedTask;
    private long _delivered;
    private long _unmarked;
    private long _duplicates;
    private long _recipients;
    private long _rejected;
    private long _deferred;
    private long _octets;
    private long _connections;
    private long _broken;
    private long _latencyFrom = long.MinValue;
    private long _firstAt;
    private long _lastAt;

    public SinkServer(SinkOptions options)
    {
        Options = options;
        Certificate = options.Tls == LoadTls.Off ? null : SinkCertificate.Load(options.CertificateFile);
        _deferrals = options.Deferral is { } deferral ? new DeferralLedger(deferral, options.Seed) : null;
        _listener = new Socket(options.Listen.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        _listener.Bind(options.Listen);
        _listener.Listen(1024);
        LocalEndPoint = (IPEndPoint)_listener.LocalEndPoint!;
    }

    public SinkOptions Options { get; }

    public IPEndPoint LocalEndPoint { get; }

    /// <summary>For the handshakes of all sessions; null: plain text.</summary>
    public SslStreamCertificateContext? Certificate { get; }

    public long Delivered => Volatile.Read(ref _delivered);

    /// <summary>Recipients of all that was delivered, those of duplicates too.</summary>
    public long Recipients => Volatile.Read(ref _recipients);

    public long Duplicates => Volatile.Read(ref _duplicates);

    /// <summary>Sequence numbers received of a run.</summary>
    public SequenceSet Received(uint run) => _runs.GetOrAdd(run, _ => new SequenceSet());

    /// <summary>Keep no latency of what was to be sent before the <see cref="Stopwatch"/> timestamp.</summary>
    public void KeepLatencyFrom(long timestamp) => Volatile.Write(ref _latencyFrom, timestamp);

    public void Start() => _accepting = AcceptAsync();

    /// <summary>Waits for the count, the duration or the cancellation, whichever is first.</summary>
    public async Task WaitForEndAsync(CancellationToken cancellation)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        if (Options.Duration is { } duration)
        {
            end.CancelAfter(duration);
        }

        await Task.WhenAny(_countReached.Task, Task.Delay(Timeout.Infinite, end.Token));
    }

    public void CountMessage(ContentScanner content, int recipients)
    {
        var now = Stopwatch.GetTimestamp();
        Interlocked.CompareExchange(ref _firstAt, now, 0);
        Volatile.Write(ref _lastAt, now);
        Interlocked.Add(ref _recipients, recipients);
        Interlocked.Add(ref _octets, content.Size);
        if (content.Mark is not { } mark)
        {
            Interlocked.Increment(ref _unmarked);
        }
        else
        {
            if (mark.SentAt >= Volatile.Read(ref _latencyFrom))
            {
                _latency.RecordSince(mark.SentAt);
            }

            if ((_runs.Count < MaxRuns || _runs.ContainsKey(mark.Run)) && !Received(mark.Run).TryAdd(mark.Sequence))
            {
                Interlocked.Increment(ref _duplicates);
            }
        }

        Options.Received?.Invoke(new ReceivedMessage(content.Mark, content.Size, content.Finish(), now));
        if (Interlocked.Increment(ref _delivered) == Options.Count)
        {
            _countReached.TrySetResult();
        }
    }

    /// <summary>The recipient is to be answered with the 4xx of <see cref="SinkOptions.Deferral"/>; counted then.</summary>
    public bool Defers(ReadOnlySpan<byte> path)
    {
        if (_deferrals is null || !_deferrals.Defers(path))
        {
            return false;
        }

        Interlocked.Increment(ref _deferred);
        return true;
    }

    public void CountRejected() => Interlocked.Increment(ref _rejected);

    /// <summary>Rates run from the first message to the last: what happens before and after is not the peer's.</summary>
    public SinkReport Report()
    {
        var seconds = _delivered < 2 ? 0 : Stopwatch.GetElapsedTime(_firstAt, _lastAt).TotalSeconds;
        return new SinkReport(
            _delivered,
            _unmarked,
            _runs.Values.Sum(r => r.Count),
            _duplicates,
            _runs.Values.Sum(r => r.Beyond),
            _recipients,
            _rejected,
            _deferred,
            _octets,
            _connections,
            _broken,
            Math.Round(seconds, 3),
            seconds > 0 ? Math.Round((_delivered - 1) / seconds, 1) : 0,
            _firstAt == 0 ? null : WallClock(_firstAt),
            _latency.Figures());
    }

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        _listener.Dispose();
        await _accepting;
        foreach (var session in _sessions.Keys)
        {
            session.Close();
        }

        await Task.WhenAll(_sessions.Values);
        _end.Dispose();
    }

    /// <summary>Seconds since 1970 of a timestamp.</summary>
    private static double WallClock(long timestamp) =>
        Math.Round((DateTimeOffset.UtcNow - Stopwatch.GetElapsedTime(timestamp) - DateTimeOffset.UnixEpoch).TotalSeconds, 4);

    private async Task AcceptAsync()
    {
        await using var watchdog = new Timer(_ => CloseOverdue(), null, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1));
        while (!_end.IsCancellationRequested)
        {
            try
            {
                var socket = await _listener.AcceptAsync(_end.Token);
                if (_sessions.Count >= Options.MaxConnections)
                {
                    socket.Dispose();
                    continue;
                }

                var number = (int)Interlocked.Increment(ref _connections);
                var session = new SinkSession(this, socket, Options.Seed + number);
                _sessions[session] = Task.CompletedTask;
                _sessions.TryUpdate(session, Task.Run(() => ServeAsync(session)), Task.CompletedTask);
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // A connection that died in the backlog; or the end, which the loop's condition sees.
            }
        }
    }

    private async Task ServeAsync(SinkSession session)
    {
        try
        {
            await session.RunAsync();
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or AuthenticationException)
        {
            Interlocked.Increment(ref _broken);
        }
        finally
        {
            session.Dispose();
            _sessions.TryRemove(session, out _);
        }
    }

    private void CloseOverdue()
    {
        var now = Environment.TickCount64;
        foreach (var session in _sessions.Keys)
        {
            if (session.Deadline < now)
            {
                session.Close();
            }
        }
    }
}
