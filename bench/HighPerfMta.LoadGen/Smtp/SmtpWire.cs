using System.Diagnostics;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text;

namespace HighPerfMta.LoadGen.Smtp;

/// <summary>
/// The client's end of one SMTP connection: whole replies in, prepared octets out. One user at a time.
/// A watchdog closes the socket when <see cref="Deadline"/> passes, so no call here needs a timer of its own.
/// </summary>
internal sealed class SmtpWire : IDisposable
{
    /// <summary>Octets of the buffer for replies.</summary>
    public const int BufferSize = 8192;

    private readonly Socket _socket;
    private readonly byte[] _buffer;
    private int _start;
    private int _end;
    private long _deadline = long.MaxValue;
    private bool _readsKeywords;
    private SslStream? _session;
    private bool _tells;
    private bool _answered;
    private long _sendBegan;
    private long _sendEnded;

    /// <param name="socket">Closed with the wire.</param>
    /// <param name="buffer">For replies; the caller's again when its last call here has ended.</param>
    public SmtpWire(Socket socket, byte[]? buffer = null)
    {
        _socket = socket;
        _buffer = buffer ?? new byte[BufferSize];
    }

    /// <summary><see cref="Environment.TickCount64"/> after which the watchdog closes the connection.</summary>
    public long Deadline { get => Volatile.Read(ref _deadline); set => Volatile.Write(ref _deadline, value); }

    /// <summary>The last line of the last reply of 400 and above, without its end.</summary>
    public string LastLine { get; private set; } = "";

    /// <summary>The last reply to EHLO had the keyword PIPELINING (RFC 2920 section 2).</summary>
    public bool Pipelining { get; private set; }

    /// <summary>When the octets that were read last arrived here: in the kernel, after <see cref="TimeArrivals"/>, else when they were read. A <see cref="Stopwatch"/> timestamp.</summary>
    public long ArrivedAt { get; private set; }

    /// <summary>Since when the peer waits for this end: the last reply has arrived and everything before it was sent. A <see cref="Stopwatch"/> timestamp.</summary>
    public long FreeAt => Math.Max(ArrivedAt, _sendEnded);

    /// <summary>How long the peer waited for this end since <see cref="Begin"/>: from each arrival to the octets sent next. <see cref="Stopwatch"/> ticks.</summary>
    public long OwnTime { get; private set; }

    /// <summary>Adds to <see cref="OwnTime"/> what has passed since the last reply; once for each reply.</summary>
    public void CountOwnTime()
    {
        if (_answered)
        {
            _answered = false;
            OwnTime += Stopwatch.GetTimestamp() - ArrivedAt;
        }
    }

    /// <summary>Asks the kernel when octets arrive. Before the connection is made.</summary>
    public void TimeArrivals() => _tells = Arrivals.TryEnable(_socket);

    /// <summary>Nothing is owed to the peer now: <see cref="OwnTime"/> begins at 0, and what passes before the next octets are sent does not count.</summary>
    public void Begin()
    {
        OwnTime = 0;
        _answered = false;
    }

    /// <summary>Everything from here on goes through TLS. Whose certificate it is does not matter: the target is the tester's own.</summary>
    /// <exception cref="System.Security.Authentication.AuthenticationException">There is no session.</exception>
    public async ValueTask SecureAsync()
    {
        if (_end > _start)
        {
            throw new IOException("the peer sent more than its reply before TLS");
        }

        CountOwnTime();

        _session = new SslStream(new NetworkStream(_socket));
        await _session.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
        {
            TargetHost = "hpload.invalid",
#pragma warning disable CA5359
            RemoteCertificateValidationCallback = static (_, _, _, _) => true,
#pragma warning restore CA5359
        }).ConfigureAwait(false);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask SendAsync(ReadOnlyMemory<byte> octets)
    {
        CountOwnTime();
        _sendBegan = Stopwatch.GetTimestamp();
        if (_session is not null)
        {
            await _session.WriteAsync(octets).ConfigureAwait(false);
        }
        else
        {
            while (octets.Length > 0)
            {
                octets = octets[await _socket.SendAsync(octets, SocketFlags.None).ConfigureAwait(false)..];
            }
        }

        _sendEnded = Stopwatch.GetTimestamp();
    }

    /// <summary>The code of the next whole reply (RFC 5321 section 4.2, all its lines read).</summary>
    /// <exception cref="IOException">The peer closed the connection or sent what is no reply.</exception>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<int> ReadReplyAsync()
    {
        while (true)
        {
            while (TryReadLine(out var code, out var last))
            {
                if (last)
                {
                    return code;
                }
            }

            await FillAsync().ConfigureAwait(false);
        }
    }

    /// <summary>The same for the reply to EHLO, whose keywords are kept.</summary>
    public async ValueTask<int> ReadEhloReplyAsync()
    {
        Pipelining = false;
        _readsKeywords = true;
        var code = await ReadReplyAsync().ConfigureAwait(false);
        _readsKeywords = false;
        return code;
    }

    public void Dispose()
    {
        _socket.Dispose();
        _session?.Dispose();
    }

    private bool TryReadLine(out int code, out bool last)
    {
        code = 0;
        last = false;
        var pending = _buffer.AsSpan(_start, _end - _start);
        var newline = pending.IndexOf((byte)'\n');
        if (newline < 0)
        {
            return false;
        }

        var line = pending[..newline].TrimEnd((byte)'\r');
        _start += newline + 1;
        if (line.Length < 3 || !IsDigit(line[0]) || !IsDigit(line[1]) || !IsDigit(line[2])
            || (line.Length > 3 && line[3] is not ((byte)' ' or (byte)'-')))
        {
            throw new IOException("the peer sent a line that is no SMTP reply");
        }

        code = ((line[0] - '0') * 100) + ((line[1] - '0') * 10) + (line[2] - '0');
        last = line.Length == 3 || line[3] == (byte)' ';
        Pipelining |= _readsKeywords && line.Length > 4 && Ascii.EqualsIgnoreCase(line[4..].TrimEnd((byte)' '), "PIPELINING"u8);
        if (code >= 400)
        {
            LastLine = Encoding.UTF8.GetString(line);
        }

        return true;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask FillAsync()
    {
        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
        }

        if (_end == _buffer.Length)
        {
            throw new IOException("the peer sent a reply line over 8 KiB");
        }

        var read = _tells && _session is null ? await ReceiveTimedAsync().ConfigureAwait(false) : await ReceiveAsync().ConfigureAwait(false);
        if (read == 0)
        {
            throw new IOException("the peer closed the connection");
        }

        _end += read;
        _answered = true;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<int> ReceiveAsync()
    {
        var read = _session is null
            ? await _socket.ReceiveAsync(_buffer.AsMemory(_end), SocketFlags.None).ConfigureAwait(false)
            : await _session.ReadAsync(_buffer.AsMemory(_end)).ConfigureAwait(false);
        ArrivedAt = Stopwatch.GetTimestamp();
        return read;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<int> ReceiveTimedAsync()
    {
        while (true)
        {
            // Of no octets: ends when there are some.
            await _socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None).ConfigureAwait(false);
            var read = Arrivals.Receive(_socket, _buffer.AsSpan(_end), out var arrivedAt);
            if (read >= 0)
            {
                // No answer comes before its question, whatever happened to the clock.
                ArrivedAt = Math.Max(arrivedAt, _sendBegan);
                return read;
            }
        }
    }

    private static bool IsDigit(byte octet) => octet is >= (byte)'0' and <= (byte)'9';
}
