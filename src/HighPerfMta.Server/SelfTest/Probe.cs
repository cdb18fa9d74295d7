using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;

namespace HighPerfMta.Server.SelfTest;

/// <summary>
/// One session with the server under test: sends any octets, as Latin-1 text, and reads whole replies. A connection that breaks is a reply of
/// kind <see cref="ReplyKind.Closed"/>, never an exception. Each wait is bounded, and so is what is kept of a reply.
/// </summary>
internal sealed class Probe : IAsyncDisposable
{
    private const int MaxReply = 64 << 10;

    /// <summary>Pieces that the server must see one by one are sent this far apart.</summary>
    private static readonly TimeSpan Gap = TimeSpan.FromMilliseconds(15);

    private readonly Socket _socket;
    private readonly SelfTestTarget _target;
    private readonly List<string> _dialogue;
    private readonly CancellationToken _cancellation;
    private readonly byte[] _buffer = new byte[MaxReply];
    private Stream _stream;
    private int _start;
    private int _end;

    private Probe(Socket socket, SelfTestTarget target, List<string> dialogue, CancellationToken cancellation)
    {
        _socket = socket;
        _target = target;
        _dialogue = dialogue;
        _cancellation = cancellation;
        _stream = new NetworkStream(socket, ownsSocket: false);
    }

    /// <summary>What the server announced at the last EHLO, upper-case keywords with their arguments; empty after HELO.</summary>
    public IReadOnlyList<string> Extensions { get; private set; } = [];

    /// <summary>What was wrong with the form of a reply so far; null while nothing was.</summary>
    public string? Fault { get; private set; }

    public IPAddress LocalAddress => Plain(_socket.LocalEndPoint!);

    public IPAddress RemoteAddress => Plain(_socket.RemoteEndPoint!);

    /// <exception cref="SocketException">The server cannot be reached.</exception>
    public static async Task<Probe> ConnectAsync(SelfTestTarget target, List<string> dialogue, CancellationToken cancellation)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(target.Timeout);
        Socket socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(target.Host, target.Port, limit.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            socket.Dispose();
            throw new SocketException((int)SocketError.TimedOut);
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        dialogue.Add("-- connected");
        return new Probe(socket, target, dialogue, cancellation);
    }

    /// <summary>The argument of an extension; null when it is not offered.</summary>
    public string? Extension(string keyword) =>
        Extensions.FirstOrDefault(e => e == keyword || e.StartsWith(keyword + " ", StringComparison.Ordinal))?[keyword.Length..].Trim();

    /// <summary>Sends octets. A server that has closed or does not read is met by the next wait for a reply.</summary>
    public async Task SendAsync(string latin1)
    {
        _dialogue.Add("C: " + Wire.Escape(latin1));
        using CancellationTokenSource limit = Limit(_target.Timeout);
        try
        {
            await _stream.WriteAsync(Encoding.Latin1.GetBytes(latin1), limit.Token);
            await _stream.FlushAsync(limit.Token);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException || IsOurLimit(e))
        {
            _dialogue.Add("-- not all could be sent");
        }
    }

    /// <summary>Sends each octet by itself.</summary>
    public async Task SendSlowlyAsync(string latin1)
    {
        foreach (char octet in latin1)
        {
            await SendAsync(octet.ToString());
            await Task.Delay(Gap, _cancellation);
        }
    }

    public async Task<ProbeReply> CommandAsync(string line)
    {
        await SendAsync(line + "\r\n");
        return await ReadAsync();
    }

    /// <summary>EHLO, or HELO where that is refused.</summary>
    public async Task<ProbeReply> HelloAsync()
    {
        string name = _target.Helo ?? (LocalAddress.AddressFamily == AddressFamily.InterNetworkV6 ? $"[IPv6:{LocalAddress}]" : $"[{LocalAddress}]");
        ProbeReply reply = await CommandAsync("EHLO " + name);
        Extensions = reply.Code == 250 ? [.. reply.Lines.Skip(1).Select(static l => l.Trim().ToUpperInvariant())] : [];
        return reply.Code is >= 500 ? await CommandAsync("HELO " + name) : reply;
    }

    /// <summary>Shakes hands as the client. False: that failed, and the session is of no use any more.</summary>
    public async Task<bool> StartTlsAsync()
    {
        using CancellationTokenSource limit = Limit(_target.Timeout);
        _start = _end = 0;
#pragma warning disable CA5359 // What is tested is the protocol, on test servers too; whose certificate it is says nothing about that.
        SslStream tls = new(_stream, leaveInnerStreamOpen: false, static (_, _, _, _) => true);
#pragma warning restore CA5359
        _stream = tls;
        try
        {
            await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = _target.Host }, limit.Token);
            _dialogue.Add($"-- {tls.SslProtocol}");
            return true;
        }
        catch (Exception e) when (e is IOException or AuthenticationException || IsOurLimit(e))
        {
            _dialogue.Add("-- no TLS: " + Wire.Escape(e.Message));
            return false;
        }
    }

    /// <summary>The next reply.</summary>
    /// <param name="wait">Another wait than that of <see cref="SelfTestTarget.Timeout"/>.</param>
    public async Task<ProbeReply> ReadAsync(TimeSpan? wait = null)
    {
        ProbeReply reply = await ReadLinesAsync(wait ?? _target.Timeout);
        _dialogue.Add("S: " + reply);
        return reply;
    }

    /// <summary>Says QUIT and reads to the end: the replies before the 221, or before the server closed.</summary>
    public async Task<List<ProbeReply>> QuitAsync()
    {
        await SendAsync("QUIT\r\n");
        List<ProbeReply> before = [];
        ProbeReply reply = await ReadAsync();
        while (reply.Kind is ReplyKind.Reply or ReplyKind.Garbled && reply.Code != 221 && before.Count < 1000)
        {
            before.Add(reply);
            reply = await ReadAsync();
        }

        return before;
    }

    /// <summary>The server reads the end of the stream; what it still says can be read.</summary>
    public async Task CloseSendingAsync()
    {
        _dialogue.Add("C: (end of the stream)");
        if (_stream is SslStream tls)
        {
            await tls.ShutdownAsync();
        }

        _socket.Shutdown(SocketShutdown.Send);
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _stream.DisposeAsync();
        }
        catch (IOException)
        {
            // The server is gone; nothing is left to be said.
        }

        _socket.Dispose();
    }

    private async Task<ProbeReply> ReadLinesAsync(TimeSpan wait)
    {
        using CancellationTokenSource limit = Limit(wait);
        List<string> lines = [];
        int first = 0;
        for (int size = 0; size <= MaxReply;)
        {
            (ReplyKind kind, string line) = await ReadLineAsync(limit.Token);
            if (kind != ReplyKind.Reply)
            {
                return new ProbeReply(lines.Count > 0 ? ReplyKind.Garbled : kind, 0, lines);
            }

            size += line.Length + 2;
            if (line.Length < 3 || !int.TryParse(line.AsSpan(0, 3), NumberStyles.None, CultureInfo.InvariantCulture, out int code) || (line.Length > 3 && line[3] is not (' ' or '-')))
            {
                return new ProbeReply(ReplyKind.Garbled, 0, [.. lines, line]);
            }

            Fault ??= lines.Count > 0 && code != first ? $"a reply has the codes {first} and {code}" : null;
            first = lines.Count == 0 ? code : first;
            lines.Add(line.Length > 4 ? line[4..] : "");
            if (line.Length == 3 || line[3] == ' ')
            {
                return new ProbeReply(ReplyKind.Reply, code, lines);
            }
        }

        return new ProbeReply(ReplyKind.Garbled, 0, ["a reply of more than 64 KiB"]);
    }

    private async Task<(ReplyKind Kind, string Line)> ReadLineAsync(CancellationToken limit)
    {
        while (true)
        {
            int lf = _buffer.AsSpan(_start, _end - _start).IndexOf((byte)'\n');
            if (lf >= 0)
            {
                string line = Encoding.Latin1.GetString(_buffer, _start, lf);
                _start += lf + 1;
                Fault ??= line.EndsWith('\r') ? null : "a line of a reply ends without CR";
                return (ReplyKind.Reply, line.TrimEnd('\r'));
            }

            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            (_start, _end) = (0, _end - _start);
            if (_end == _buffer.Length)
            {
                return (ReplyKind.Garbled, "");
            }

            try
            {
                int read = await _stream.ReadAsync(_buffer.AsMemory(_end), limit);
                if (read == 0)
                {
                    return (ReplyKind.Closed, "");
                }

                _end += read;
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException)
            {
                return (ReplyKind.Closed, "");
            }
            catch (Exception e) when (IsOurLimit(e))
            {
                return (ReplyKind.Silent, "");
            }
        }
    }

    private CancellationTokenSource Limit(TimeSpan wait)
    {
        CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(_cancellation);
        limit.CancelAfter(wait);
        return limit;
    }

    private bool IsOurLimit(Exception e) => e is OperationCanceledException && !_cancellation.IsCancellationRequested;

    private static IPAddress Plain(EndPoint end) => ((IPEndPoint)end).Address is { IsIPv4MappedToIPv6: true } mapped ? mapped.MapToIPv4() : ((IPEndPoint)end).Address;
}
