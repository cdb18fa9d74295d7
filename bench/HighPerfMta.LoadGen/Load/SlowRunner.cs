using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.LoadGen.Smtp;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// Opens slow sessions, holds them, and feeds them octets from one loop: a session costs this side a socket, so that what is measured is the server's.
/// </summary>
internal sealed class SlowRunner(SlowOptions options)
{
    /// <summary>Sessions that are being opened at once.</summary>
    private const int Openers = 64;

    /// <summary>Turns of the loop between two octets of a session: octets are spread over time.</summary>
    private const int Slices = 20;

    private static readonly TimeSpan OpenLimit = TimeSpan.FromSeconds(60);

    private readonly ConcurrentQueue<SlowSession> _sessions = new();
    private readonly SortedDictionary<string, int> _endings = new(StringComparer.Ordinal);
    private int _next = -1;
    private long _octets;

    /// <summary>Sessions that are there now.</summary>
    public int Open { get; private set; }

    public async Task<SlowReport> RunAsync(CancellationToken cancellation)
    {
        var begun = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, Openers).Select(_ => OpenAsync(begun, cancellation)));
        var sessions = _sessions.ToArray();
        Open = sessions.Length;
        if (options.ReadyFile is { } file)
        {
            await File.WriteAllTextAsync(file, FormattableString.Invariant($"{Open}\n"), cancellation);
        }

        await FeedAsync(sessions, cancellation);
        foreach (var session in sessions)
        {
            session.Dispose();
        }

        return new SlowReport(options.Sessions, sessions.Length, Open, _octets, _endings);
    }

    private async Task OpenAsync(long begun, CancellationToken cancellation)
    {
        for (var number = Interlocked.Increment(ref _next); number < options.Sessions && !cancellation.IsCancellationRequested; number = Interlocked.Increment(ref _next))
        {
            var due = (options.Ramp * number / options.Sessions) - Stopwatch.GetElapsedTime(begun);
            if (due > TimeSpan.Zero)
            {
                await Task.WhenAny(Task.Delay(due, cancellation));
            }

            var session = new SlowSession(options, options.Mix.KindOf(number));
            var ending = await session.OpenAsync(OpenLimit, cancellation);
            if (ending is null)
            {
                _sessions.Enqueue(session);
                continue;
            }

            session.Dispose();
            Note(ending);
        }
    }

    private async Task FeedAsync(SlowSession[] sessions, CancellationToken cancellation)
    {
        var begun = Stopwatch.GetTimestamp();
        for (var turn = 0; Stopwatch.GetElapsedTime(begun) < options.Duration && !cancellation.IsCancellationRequested; turn++)
        {
            for (var i = turn % Slices; i < sessions.Length; i += Slices)
            {
                Feed(sessions[i]);
            }

            var pause = (options.Every / Slices * (turn + 1)) - Stopwatch.GetElapsedTime(begun);
            await Task.WhenAny(Task.Delay(pause > TimeSpan.Zero ? pause : TimeSpan.Zero, cancellation));
        }
    }

    private void Feed(SlowSession session)
    {
        if (!session.IsOpen)
        {
            return;
        }

        if (session.Feed(out var sent) is { } ending)
        {
            Open--;
            Note(ending);
        }

        _octets += sent;
    }

    private void Note(string ending)
    {
        lock (_endings)
        {
            _endings[ending] = _endings.GetValueOrDefault(ending) + 1;
        }
    }
}

/// <summary>One slow session.</summary>
internal sealed class SlowSession(SlowOptions options, SlowKind kind) : IDisposable
{
    private const string Closed = "closed";

    private static readonly byte[] Octet = [(byte)'x'];

    private readonly Socket _socket = new(options.Target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };

    /// <summary>It was opened, and the server has not ended it.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Goes as far as its kind does. Null: it is there; else how it ended: a reply's code, or "closed".</summary>
    public async Task<string?> OpenAsync(TimeSpan limit, CancellationToken cancellation)
    {
        try
        {
            using var time = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            time.CancelAfter(limit);
            await using var closing = time.Token.Register(_socket.Dispose);
            await _socket.ConnectAsync(options.Target, time.Token);

            // Not disposed of: the socket goes on.
            var wire = new SmtpWire(_socket, new byte[1024]);
            return await TransactAsync(wire);
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or OperationCanceledException)
        {
            return Closed;
        }
    }

    /// <summary>Sends an octet, unless the session is one that is idle. Null: it is still there.</summary>
    public string? Feed(out int sent)
    {
        sent = 0;
        try
        {
            if (_socket.Poll(0, SelectMode.SelectRead))
            {
                IsOpen = false;
                return ReadEnding();
            }

            sent = kind == SlowKind.Idle ? 0 : _socket.Send(Octet);
            return null;
        }
        catch (SocketException)
        {
            IsOpen = false;
            return Closed;
        }
    }

    public void Dispose() => _socket.Dispose();

    private async Task<string?> TransactAsync(SmtpWire wire)
    {
        (string Command, int Wanted)[] steps = kind == SlowKind.Data
            ? [("", 220), ("EHLO hpload.invalid\r\n", 250), ("MAIL FROM:<slow@load.invalid>\r\n", 250), ($"RCPT TO:<{options.To}>\r\n", 250), ("DATA\r\n", 354)]
            : [("", 220), ("EHLO hpload.invalid\r\n", 250)];
        foreach (var (command, wanted) in steps)
        {
            if (command.Length > 0)
            {
                await wire.SendAsync(Encoding.ASCII.GetBytes(command));
            }

            var code = await wire.ReadReplyAsync();
            if (code != wanted)
            {
                return FormattableString.Invariant($"{code}");
            }
        }

        IsOpen = true;
        return null;
    }

    /// <summary>The code of the reply that came unasked.</summary>
    private string ReadEnding()
    {
        var reply = new byte[512];
        var length = _socket.Receive(reply);
        return length < 3 ? Closed : Encoding.ASCII.GetString(reply, 0, 3);
    }
}
