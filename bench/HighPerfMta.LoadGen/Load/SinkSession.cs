using System.Buffers;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// One SMTP server session of a sink. Replies to all that is buffered go out in one write; a message counts when its 250 has been
/// handed to the socket. Lenient where an MTA must be strict: a load test's peer decides nothing about mail.
/// </summary>
internal sealed class SinkSession : IDisposable
{
    private const int BufferSize = 64 * 1024;
    private const int RepliesSize = 4096;

    private readonly SinkServer _server;
    private readonly SinkOptions _options;
    private readonly Socket _socket;
    private readonly Random _random;
    private readonly ContentScanner _content;
    private readonly byte[] _buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
    private readonly byte[] _replies = ArrayPool<byte>.Shared.Rent(RepliesSize);
    private byte[] _ehlo;
    private readonly byte[] _deferral;
    private int _start;
    private int _end;
    private int _repliesLength;
    private bool _mail;
    private int _recipients;
    private bool _inData;
    private bool _lineStart;
    private bool _afterCrLf;
    private long _chunkLeft = -1;
    private bool _lastChunk;
    private bool _quit;
    private bool _startTls;
    private SslStream? _session;
    private long _deadline;

    public SinkSession(SinkServer server, Socket socket, int seed)
    {
        _server = server;
        _options = server.Options;
        _socket = socket;
        _socket.NoDelay = true;
        _random = new Random(seed);
        _content = new ContentScanner(_options.Received is not null);
        _ehlo = FormatEhlo(_options.Tls == LoadTls.StartTls ? [.. _options.Announce, "STARTTLS"] : _options.Announce);
        _deferral = _options.Deferral is { } deferral ? Encoding.ASCII.GetBytes(FormattableString.Invariant($"{deferral.Code} {deferral.Text}\r\n")) : [];
        Arm();
    }

    public long Deadline => Volatile.Read(ref _deadline);

    /// <summary>Ends the session from outside: its pending read or write fails.</summary>
    public void Close() => _socket.Dispose();

    /// <summary>Only after <see cref="RunAsync"/> has ended.</summary>
    public void Dispose()
    {
        _socket.Dispose();
        _session?.Dispose();
        _content.Dispose();
        ArrayPool<byte>.Shared.Return(_buffer);
        ArrayPool<byte>.Shared.Return(_replies);
    }

    public async Task RunAsync()
    {
        if (_options.Tls == LoadTls.Implicit)
        {
            await SecureAsync();
        }

        _quit = Rejected(SinkStage.Connect);
        if (!_quit)
        {
            Reply("220 sink.invalid ESMTP hpload\r\n"u8);
        }

        while (true)
        {
            await FlushAsync();
            if (_startTls)
            {
                await SecureAsync();
            }

            if (_quit)
            {
                if (_session is not null)
                {
                    await _session.ShutdownAsync();
                }

                _socket.Shutdown(SocketShutdown.Send);
                return;
            }

            if (!await FillAsync())
            {
                return;
            }

            while (Step(out var messageEnded))
            {
                if (messageEnded)
                {
                    await EndMessageAsync();
                }

                if (_repliesLength > RepliesSize / 2)
                {
                    await FlushAsync();
                }
            }
        }
    }

    /// <summary>Takes one command or stretch of content from the buffer; false when more octets are needed.</summary>
    private bool Step(out bool messageEnded)
    {
        messageEnded = false;
        if (_start == _end || _quit || _startTls)
        {
            return false;
        }

        if (_inData)
        {
            return ReadData(out messageEnded);
        }

        if (_chunkLeft >= 0)
        {
            ReadChunk(out messageEnded);
            return true;
        }

        var pending = _buffer.AsSpan(_start, _end - _start);
        var newline = pending.IndexOf((byte)'\n');
        if (newline < 0)
        {
            if (pending.Length == _buffer.Length)
            {
                throw new IOException("a command line over 64 KiB");
            }

            return false;
        }

        _start += newline + 1;
        Command(pending[..newline].TrimEnd((byte)'\r'), out messageEnded);
        return true;
    }

    private void Command(ReadOnlySpan<byte> line, out bool messageEnded)
    {
        messageEnded = false;
        switch (line.Length < 4 ? 0 : VerbOf(line))
        {
            case 'M' << 24 | 'A' << 16 | 'I' << 8 | 'L':
                if (!Rejected(SinkStage.Mail))
                {
                    _mail = true;
                    _recipients = 0;
                    Reply("250 2.1.0 Ok\r\n"u8);
                }

                break;
            case 'R' << 24 | 'C' << 16 | 'P' << 8 | 'T':
                Recipient(line);
                break;
            case 'D' << 24 | 'A' << 16 | 'T' << 8 | 'A':
                Data();
                break;
            case 'B' << 24 | 'D' << 16 | 'A' << 8 | 'T':
                Chunk(line[4..], out messageEnded);
                break;
            case 'E' << 24 | 'H' << 16 | 'L' << 8 | 'O':
                EndTransaction();
                Reply(_ehlo);
                break;
            case 'H' << 24 | 'E' << 16 | 'L' << 8 | 'O':
                EndTransaction();
                Reply("250 sink.invalid\r\n"u8);
                break;
            case 'R' << 24 | 'S' << 16 | 'E' << 8 | 'T':
                EndTransaction();
                Reply("250 2.0.0 Ok\r\n"u8);
                break;
            case 'N' << 24 | 'O' << 16 | 'O' << 8 | 'P':
                Reply("250 2.0.0 Ok\r\n"u8);
                break;
            case 'S' << 24 | 'T' << 16 | 'A' << 8 | 'R' when _options.Tls == LoadTls.StartTls && _session is null:
                _startTls = true;
                Reply("220 2.0.0 Go on\r\n"u8);
                break;
            case 'Q' << 24 | 'U' << 16 | 'I' << 8 | 'T':
                _quit = true;
                Reply("221 2.0.0 Bye\r\n"u8);
                break;
            default:
                Reply("502 5.5.1 Not here\r\n"u8);
                break;
        }
    }

    private void Recipient(ReadOnlySpan<byte> line)
    {
        if (!_mail)
        {
            Reply("503 5.5.1 MAIL first\r\n"u8);
        }
        else if (_server.Defers(line[4..]))
        {
            Reply(_deferral);
        }
        else if (!Rejected(SinkStage.Rcpt))
        {
            _recipients++;
            Reply("250 2.1.5 Ok\r\n"u8);
        }
    }

    private void Data()
    {
        if (_recipients == 0)
        {
            Reply("503 5.5.1 No valid recipients\r\n"u8);
            return;
        }

        _content.Reset();
        _inData = true;
        _lineStart = true;
        _afterCrLf = true;
        Reply("354 Go on\r\n"u8);
    }

    private void Chunk(ReadOnlySpan<byte> arguments, out bool messageEnded)
    {
        messageEnded = false;
        arguments = arguments.Trim((byte)' ');
        if (!System.Buffers.Text.Utf8Parser.TryParse(arguments, out long size, out var used) || size < 0)
        {
            Reply("501 5.5.4 BDAT size [LAST]\r\n"u8);
            _quit = true;
            return;
        }

        if (_chunkLeft == -1)
        {
            _content.Reset();
        }

        _lastChunk = arguments[used..].Trim((byte)' ').Length == 4;
        _chunkLeft = size;
        if (size == 0)
        {
            ReadChunk(out messageEnded);
        }
    }

    private void ReadChunk(out bool messageEnded)
    {
        var take = (int)Math.Min(_chunkLeft, _end - _start);
        _content.Feed(_buffer.AsSpan(_start, take));
        _start += take;
        _chunkLeft -= take;
        messageEnded = false;
        if (_chunkLeft > 0)
        {
            return;
        }

        // -2: between the chunks of one message.
        _chunkLeft = _lastChunk ? -1 : -2;
        if (_recipients == 0)
        {
            Reply("503 5.5.1 No valid recipients\r\n"u8);
        }
        else if (_lastChunk)
        {
            messageEnded = true;
        }
        else
        {
            Reply("250 2.0.0 Ok\r\n"u8);
        }
    }

    /// <summary>Feeds whole lines, or the pieces of one longer than the buffer, to the scanner; only CRLF.CRLF ends.</summary>
    private bool ReadData(out bool messageEnded)
    {
        messageEnded = false;
        while (_start < _end)
        {
            var pending = _buffer.AsSpan(_start, _end - _start);
            var newline = pending.IndexOf((byte)'\n');
            if (newline < 0 && pending.Length < _buffer.Length)
            {
                return false;
            }

            var line = newline < 0 ? pending : pending[..(newline + 1)];
            _start += line.Length;
            if (_lineStart && _afterCrLf && line[0] == (byte)'.')
            {
                if (line.SequenceEqual(".\r\n"u8))
                {
                    _inData = false;
                    messageEnded = true;
                    return true;
                }

                _content.Feed(line[1..]);
            }
            else
            {
                _content.Feed(line);
            }

            _lineStart = newline >= 0;
            _afterCrLf = line.EndsWith("\r\n"u8);
        }

        return false;
    }

    private async ValueTask EndMessageAsync()
    {
        if (_options.Delay > TimeSpan.Zero)
        {
            await FlushAsync();
            await Task.Delay(_options.Delay);
        }

        var recipients = _recipients;
        EndTransaction();
        if (Rejected(SinkStage.Data))
        {
            return;
        }

        Reply("250 2.0.0 Ok: taken\r\n"u8);
        await FlushAsync();
        _server.CountMessage(_content, recipients);
    }

    private void EndTransaction()
    {
        _mail = false;
        _recipients = 0;
        _chunkLeft = -1;
    }

    private bool Rejected(SinkStage stage)
    {
        foreach (var rejection in _options.Rejections)
        {
            if (rejection.Stage == stage && _random.NextDouble() < rejection.Share)
            {
                _server.CountRejected();
                Reply(Encoding.ASCII.GetBytes(FormattableString.Invariant(
                    $"{rejection.Code} {rejection.Code / 100}.0.0 Refused by the load test\r\n")));
                return true;
            }
        }

        return false;
    }

    private void Reply(ReadOnlySpan<byte> line)
    {
        line.CopyTo(_replies.AsSpan(_repliesLength));
        _repliesLength += line.Length;
    }

    /// <summary>Everything from here on goes through TLS, and the session is as after the connection.</summary>
    private async ValueTask SecureAsync()
    {
        if (_start < _end)
        {
            throw new IOException("the peer sent more than STARTTLS before TLS");
        }

        Arm();
        _session = new SslStream(new NetworkStream(_socket));
        await _session.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificateContext = _server.Certificate });
        _startTls = false;
        _ehlo = FormatEhlo(_options.Announce);
        EndTransaction();
    }

    private async ValueTask FlushAsync()
    {
        ReadOnlyMemory<byte> pending = _replies.AsMemory(0, _repliesLength);
        _repliesLength = 0;
        if (_session is not null && pending.Length > 0)
        {
            await _session.WriteAsync(pending);
            return;
        }

        while (pending.Length > 0)
        {
            pending = pending[await _socket.SendAsync(pending, SocketFlags.None)..];
        }
    }

    private async ValueTask<bool> FillAsync()
    {
        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
        }

        Arm();
        var read = _session is null ? await _socket.ReceiveAsync(_buffer.AsMemory(_end), SocketFlags.None) : await _session.ReadAsync(_buffer.AsMemory(_end));
        _end += read;
        return read > 0;
    }

    private void Arm() => Volatile.Write(ref _deadline, Environment.TickCount64 + (long)_options.IdleTimeout.TotalMilliseconds);

    private static int VerbOf(ReadOnlySpan<byte> line) =>
        ((line[0] & 0xDF) << 24) | ((line[1] & 0xDF) << 16) | ((line[2] & 0xDF) << 8) | (line[3] & 0xDF);

    private static byte[] FormatEhlo(IReadOnlyList<string> extensions)
    {
        var lines = new List<string> { "sink.invalid" };
        lines.AddRange(extensions);
        return Encoding.ASCII.GetBytes(string.Concat(lines.Select((l, i) => $"250{(i == lines.Count - 1 ? ' ' : '-')}{l}\r\n")));
    }
}
