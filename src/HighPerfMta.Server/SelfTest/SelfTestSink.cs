using System.Net;
using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.Server.SelfTest;

/// <summary>
/// The next hop of the server under test: keeps the octets of each message exactly as they came on the wire. It knows no extensions, so that messages come
/// by DATA, ends them at CRLF.CRLF only, and takes every envelope. Bounded: 32 sessions, 64 MiB in all, the oldest messages go first.
/// </summary>
internal sealed class SelfTestSink : IAsyncDisposable
{
    private const int MaxMessage = 4 << 20;
    private const int MaxMessages = 16;

    private readonly TcpListener _listener;
    private readonly SemaphoreSlim _places = new(32);
    private readonly SemaphoreSlim _news = new(0);
    private readonly CancellationTokenSource _stop = new();
    private readonly List<string> _messages = [];
    private readonly Task _accepting;

    /// <exception cref="SocketException">The address cannot be listened on.</exception>
    public SelfTestSink(IPEndPoint address)
    {
        _listener = new TcpListener(address);
        _listener.Start();
        _accepting = AcceptAsync();
    }

    /// <summary>The wire octets, without the end, of a message that holds a text; null when none came in time.</summary>
    public async Task<string?> FindAsync(string text, TimeSpan wait, CancellationToken cancellation)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(wait);
        while (true)
        {
            lock (_messages)
            {
                if (_messages.Find(m => m.Contains(text, StringComparison.Ordinal)) is { } found)
                {
                    return found;
                }
            }

            try
            {
                await _news.WaitAsync(limit.Token);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                return null;
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Dispose();
        await _accepting;
        _stop.Dispose();
        _places.Dispose();
        _news.Dispose();
    }

    private async Task AcceptAsync()
    {
        List<Task> sessions = [];
        try
        {
            while (true)
            {
                await _places.WaitAsync(_stop.Token);
                Socket socket = await _listener.AcceptSocketAsync(_stop.Token);
                sessions.RemoveAll(static s => s.IsCompleted);
                sessions.Add(ServeAsync(socket));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            await Task.WhenAll(sessions);
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            await using NetworkStream stream = new(socket, ownsSocket: true);
            await SayAsync(stream, "220 selftest-sink.invalid");
            StringBuilder input = new();
            while (await TakeAsync(stream, input, "\r\n") is { } line)
            {
                string verb = line.Split(' ')[0].ToUpperInvariant();
                await SayAsync(stream, verb switch { "DATA" => "354 go on", "QUIT" => "221 bye", "EHLO" or "HELO" => "250 selftest-sink.invalid", _ => "250 ok" });
                if (verb == "DATA")
                {
                    // The CRLF of the command begins the first line: a message may be a lone dot.
                    input.Insert(0, "\r\n");
                    Keep(await TakeAsync(stream, input, "\r\n.\r\n"));
                    await SayAsync(stream, "250 taken");
                }
                else if (verb == "QUIT")
                {
                    return;
                }
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // The server under test broke off, or the suite is at its end: what came whole is kept.
        }
        finally
        {
            _places.Release();
        }
    }

    private void Keep(string? wire)
    {
        if (wire is null)
        {
            return;
        }

        lock (_messages)
        {
            _messages.Add(wire.Length > 2 ? wire[2..] + "\r\n" : "");
            if (_messages.Count > MaxMessages)
            {
                _messages.RemoveAt(0);
            }
        }

        _news.Release();
    }

    private async Task SayAsync(NetworkStream stream, string line) => await stream.WriteAsync(Encoding.Latin1.GetBytes(line + "\r\n"), _stop.Token);

    /// <summary>Reads up to a mark and takes it away; null at the end of the stream or when a message is too long.</summary>
    private async Task<string?> TakeAsync(NetworkStream stream, StringBuilder input, string mark)
    {
        byte[] buffer = new byte[16 << 10];
        int searched = 0;
        while (input.Length <= MaxMessage)
        {
            string text = input.ToString(searched, input.Length - searched);
            int found = text.IndexOf(mark, StringComparison.Ordinal);
            if (found >= 0)
            {
                string taken = input.ToString(0, searched + found);
                input.Remove(0, searched + found + mark.Length);
                return taken;
            }

            searched = Math.Max(0, input.Length - mark.Length);
            int read = await stream.ReadAsync(buffer, _stop.Token);
            if (read == 0)
            {
                return null;
            }

            input.Append(Encoding.Latin1.GetString(buffer, 0, read));
        }

        return null;
    }
}
