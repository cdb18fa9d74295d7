using System.Buffers;
using System.Collections.Concurrent;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;

namespace HighPerfMta.TestKit;

/// <summary>A message that a <see cref="ScriptedMx"/> accepted: the octets as they were before dot-stuffing.</summary>
public sealed record ReceivedMessage(string Mail, string[] Recipients, byte[] Octets, bool Chunked)
{
    public string Text => Encoding.Latin1.GetString(Octets);
}

/// <summary>
/// An SMTP server that does what a test says. Without a script it accepts everything that is in order: a MAIL within a transaction is answered 503, and RSET ends one. A script gets each command line ("greeting" first, "." for the end of
/// DATA) and answers with a reply ("250 ok\r\n"; CRLF is added when it is missing), null for the usual one, or one of <see cref="Close"/> and <see cref="Silent"/>.
/// </summary>
public sealed class ScriptedMx : IConnector, IAsyncDisposable
{
    /// <summary>Closes the connection.</summary>
    public const string Close = "\0close";

    /// <summary>Answers nothing and goes on.</summary>
    public const string Silent = "\0silent";

    private readonly ConcurrentBag<Task> _sessions = [];
    private readonly ConcurrentBag<IConnection> _connections = [];
    private readonly CancellationTokenSource _stop = new();
    private Socket? _listener;
    private int _count;

    /// <summary>Keywords of EHLO.</summary>
    public string[] Announces { get; set; } = ["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10000000", "ENHANCEDSTATUSCODES"];

    /// <summary>The script: session number from 0, command line.</summary>
    public Func<int, string, string?>? Script { get; set; }

    /// <summary>Awaited before a reply is written.</summary>
    public Func<int, string, Task>? Before { get; set; }

    /// <summary>A BDAT that is refused leaves its transaction open until RSET (RFC 3030 §2); else it ends it.</summary>
    public bool RefusedChunkStaysOpen { get; set; }

    /// <summary>Answers STARTTLS, which a test has to announce; null: a command as any other.</summary>
    public TlsAcceptor? Tls { get; set; }

    /// <summary>Awaited before the server's part of a handshake.</summary>
    public Func<Task>? BeforeHandshake { get; set; }

    /// <summary>Connections begin with a handshake.</summary>
    public bool ImplicitTls { get; set; }

    /// <summary>The TLS sessions, in order: <see cref="TlsSession.Description"/>.</summary>
    public ConcurrentQueue<string> TlsSessions { get; } = [];

    /// <summary>Replies go out in pieces of so many octets; 0: whole.</summary>
    public int Split { get; set; }

    /// <summary>In-memory connects: what connecting to an endpoint does; null result connects.</summary>
    public Func<IPEndPoint, CancellationToken, ValueTask<Exception?>>? OnConnect { get; set; }

    public ConcurrentQueue<ReceivedMessage> Messages { get; } = [];

    /// <summary>Every command line with its session's number.</summary>
    public ConcurrentQueue<(int Session, string Line)> Lines { get; } = [];

    /// <summary>
    /// Every command line, and "." for the end of DATA, with its session's number and whether further input was behind it when it was answered. In memory what is flushed at once is there at once.
    /// </summary>
    public ConcurrentQueue<(int Session, string Line, bool More)> Heard { get; } = [];

    /// <summary>Endpoints that were connected to in memory, in order.</summary>
    public ConcurrentQueue<IPEndPoint> Connects { get; } = [];

    public int Sessions => Volatile.Read(ref _count);

    public IEnumerable<string> LinesOf(int session) => Lines.Where(l => l.Session == session).Select(static l => l.Line);

    /// <summary>Listens on a loopback port.</summary>
    public IPEndPoint Listen(IPAddress? address = null)
    {
        _listener = new Socket((address ?? IPAddress.Loopback).AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        _listener.Bind(new IPEndPoint(address ?? IPAddress.Loopback, 0));
        _listener.Listen();
        _sessions.Add(AcceptAsync(_listener));
        return (IPEndPoint)_listener.LocalEndPoint!;
    }

    public async ValueTask<IConnection> ConnectAsync(IPEndPoint remote, CancellationToken cancellation)
    {
        Connects.Enqueue(remote);
        if (OnConnect is not null && await OnConnect(remote, cancellation) is { } error)
        {
            throw error;
        }

        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair();
        Serve(server);
        return client;
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener?.Dispose();
        foreach (IConnection connection in _connections)
        {
            connection.Abort();
        }

        await Task.WhenAll(_sessions);
        _stop.Dispose();
    }

    private async Task AcceptAsync(Socket listener)
    {
        try
        {
            while (true)
            {
                Serve(PipeSocketConnection.Create(await listener.AcceptAsync(_stop.Token)));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private void Serve(IConnection connection)
    {
        _connections.Add(connection);
        int number = Interlocked.Increment(ref _count) - 1;
        _sessions.Add(Task.Run(() => new Session(this, connection, number).RunAsync()));
    }

    private sealed class Session(ScriptedMx owner, IConnection connection, int number)
    {
        private IConnection _connection = connection;
        private PipeReader _input = connection.Input;
        private readonly List<string> _recipients = [];
        private string _mail = "";

        /// <summary>A BDAT was refused, and its transaction is still open: nothing but RSET is in order.</summary>
        private bool _failed;

        private bool MayTake => _mail.Length > 0 && _recipients.Count > 0 && !_failed;

        public async Task RunAsync()
        {
            try
            {
                if ((!owner.ImplicitTls || await SecureAsync()) && await AnswerAsync("greeting", "220 mx.example ESMTP"))
                {
                    while (await ReadLineAsync() is { } line && await CommandAsync(line))
                    {
                    }
                }

                await _connection.CloseAsync();
            }
            catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or InvalidOperationException)
            {
                // The client is gone.
            }

            await _connection.DisposeAsync();
        }

        /// <summary>False: the client's handshake fails, and it is left alone.</summary>
        private async Task<bool> SecureAsync()
        {
            if (owner.BeforeHandshake is { } before)
            {
                await before().WaitAsync(owner._stop.Token);
            }

            (TlsConnection? secured, _, _) = await owner.Tls!.AcceptAsync(_connection, askForCertificate: false);
            if (secured is null)
            {
                return false;
            }

            owner.TlsSessions.Enqueue(secured.Session.Description);
            _connection = secured;
            _input = secured.Input;
            Begin("");
            return true;
        }

        private async Task<bool> CommandAsync(string line)
        {
            owner.Lines.Enqueue((number, line));
            string verb = line.Split(' ', ':')[0].ToUpperInvariant();
            switch (verb)
            {
                case "EHLO":
                    string[] lines = ["mx.example", .. owner.Announces];
                    return await AnswerAsync(line, string.Concat(lines.Select((l, i) => $"250{(i == lines.Length - 1 ? ' ' : '-')}{l}\r\n")), () => Begin(""));
                case "STARTTLS" when owner.Tls is not null:
                    return await AnswerAsync(line, "220 2.0.0 go ahead") && (_code != 220 || await SecureAsync());
                case "MAIL":
                    return await AnswerAsync(line, _mail.Length == 0 ? "250 2.1.0 Ok" : "503 5.5.1 nested MAIL", () => Begin(line));
                case "RSET":
                    return await AnswerAsync(line, "250 2.0.0 Ok", () => Begin(""));
                case "RCPT":
                    return await AnswerAsync(line, _mail.Length == 0 || _failed ? "503 5.5.1 need MAIL" : "250 2.1.5 Ok", () => _recipients.Add(line));
                case "DATA":
                    return await AnswerAsync(line, !MayTake ? "554 5.5.1 no valid recipients" : "354 go ahead") && (!_lastPositive || await DataAsync());
                case "BDAT":
                    return await ChunkAsync(line);
                case "QUIT":
                    await AnswerAsync(line, "221 2.0.0 Bye");
                    return false;
                default:
                    return await AnswerAsync(line, "250 2.0.0 Ok");
            }
        }

        private bool _lastPositive;
        private int _code;

        /// <summary>A transaction begins, or none is open any more.</summary>
        private void Begin(string mail)
        {
            _mail = mail;
            _failed = false;
            _recipients.Clear();
        }

        private async Task<bool> DataAsync()
        {
            List<byte> octets = [];
            while (true)
            {
                byte[]? line = await ReadRawLineAsync();
                if (line is null)
                {
                    return false;
                }

                if (line is [(byte)'.'])
                {
                    bool open = await AnswerAsync(".", "250 2.0.0 Ok: queued as 12345", () => Keep([.. octets], chunked: false));
                    Begin("");
                    return open;
                }

                octets.AddRange(line is [(byte)'.', ..] ? line[1..] : line);
                octets.AddRange("\r\n"u8);
            }
        }

        private async Task<bool> ChunkAsync(string line)
        {
            int size = int.Parse(line.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);
            byte[] octets = new byte[size];
            for (int at = 0; at < size;)
            {
                ReadResult result = await _input.ReadAsync(owner._stop.Token);
                ReadOnlySequence<byte> taken = result.Buffer.Slice(0, Math.Min(size - at, result.Buffer.Length));
                taken.CopyTo(octets.AsSpan(at));
                at += (int)taken.Length;
                _input.AdvanceTo(taken.End);
                if (result.IsCompleted && at < size)
                {
                    return false;
                }
            }

            bool open = await AnswerAsync(line, !MayTake ? "554 5.5.1 no valid recipients" : "250 2.0.0 Ok: queued as 12345", () => Keep(octets, chunked: true));
            if (_lastPositive || !owner.RefusedChunkStaysOpen)
            {
                Begin("");
            }
            else
            {
                _failed = true;
            }

            return open;
        }

        private void Keep(byte[] octets, bool chunked) => owner.Messages.Enqueue(new ReceivedMessage(_mail, [.. _recipients], octets, chunked));

        private bool HasMore()
        {
            if (!_input.TryRead(out ReadResult result))
            {
                return false;
            }

            bool more = !result.Buffer.IsEmpty;
            _input.AdvanceTo(result.Buffer.Start);
            return more;
        }

        private async Task<bool> AnswerAsync(string line, string usual, Action? accepted = null)
        {
            if (line != "greeting")
            {
                owner.Heard.Enqueue((number, line, HasMore()));
            }

            string reply = owner.Script?.Invoke(number, line) ?? usual;
            if (owner.Before is not null)
            {
                await owner.Before(number, line).WaitAsync(owner._stop.Token);
            }

            _lastPositive = reply[0] is '2' or '3';
            _code = int.TryParse(reply.AsSpan(0, Math.Min(3, reply.Length)), out int code) ? code : 0;
            if (reply[0] == '2')
            {
                accepted?.Invoke();
            }

            if (reply == Silent)
            {
                return true;
            }

            bool close = reply.EndsWith(Close, StringComparison.Ordinal);
            string text = close ? reply[..^Close.Length] : reply;
            byte[] octets = Encoding.Latin1.GetBytes(text.Length == 0 || text.EndsWith('\n') ? text : text + "\r\n");
            int step = owner.Split > 0 ? owner.Split : octets.Length;
            for (int at = 0; at < octets.Length; at += step)
            {
                FlushResult flushed = await _connection.Output.WriteAsync(octets.AsMemory(at, Math.Min(step, octets.Length - at)), owner._stop.Token);
                if (flushed.IsCompleted)
                {
                    return false;
                }
            }

            return !close;
        }

        private async Task<string?> ReadLineAsync() => await ReadRawLineAsync() is { } line ? Encoding.UTF8.GetString(line) : null;

        private async Task<byte[]?> ReadRawLineAsync()
        {
            while (true)
            {
                ReadResult result = await _input.ReadAsync(owner._stop.Token);
                ReadOnlySequence<byte> buffer = result.Buffer;
                if (buffer.PositionOf((byte)'\n') is { } lf)
                {
                    byte[] line = buffer.Slice(0, lf).ToArray();
                    _input.AdvanceTo(buffer.GetPosition(1, lf));
                    return line is [.., (byte)'\r'] ? line[..^1] : throw new IOException("a bare LF");
                }

                _input.AdvanceTo(buffer.Start, buffer.End);
                if (result.IsCompleted)
                {
                    return null;
                }
            }
        }
    }
}
