using System.Diagnostics;
using System.Net.Sockets;
using System.Security.Authentication;
using HighPerfMta.LoadGen.Smtp;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// One sender of a source: connects, sends its share of messages, connects again when a connection has had its number.
/// A message counts as accepted only after its final 2xx reply was read whole.
/// </summary>
internal sealed class SourceSession
{
    /// <summary>Heads and tails up to this length travel in one write.</summary>
    private const int JoinLimit = 128 * 1024;

    private static readonly TimeSpan ReconnectPause = TimeSpan.FromMilliseconds(20);

    private readonly SourceRunner _runner;
    private readonly SourceOptions _options;
    private readonly PathTemplate _from;
    private readonly PathTemplate _to;
    private readonly byte[] _replies = new byte[SmtpWire.BufferSize];
    private readonly byte[] _mark = new byte[MessageMark.Length];
    private byte[] _scratch;
    private byte[] _commands = new byte[1024];
    private int _commandsLength;
    private int _pipeline;
    private bool _groupSent;
    private string _refusal = "";

    // Taken: a ticket is held whose message has not begun. In flight: begun and counted as an attempt, its outcome not yet known.
    private long _sequence;
    private long _intendedAt;
    private bool _taken;
    private bool _inFlight;

    // With a rate. Free: since when this sender could have begun its next message. Late: how much later than that and than it was due it began.
    private long _freeAt;
    private long _late;

    public SourceSession(SourceRunner runner)
    {
        _runner = runner;
        _options = runner.Options;
        _from = PathTemplate.Parse(_options.From);
        _to = PathTemplate.Parse(_options.To);

        // Stuffing makes a text longer by less than a sixteenth.
        _scratch = new byte[Math.Min(JoinLimit, _options.Sizes.Largest + (_options.Sizes.Largest / 16)) + 1024];
    }

    /// <param name="freeAt">When this sender is to begin.</param>
    /// <param name="cancellation">Ends the run.</param>
    public async Task RunAsync(long freeAt, CancellationToken cancellation)
    {
        _freeAt = freeAt;
        while (await TakeAsync())
        {
            using var socket = new Socket(_options.Target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            using var wire = new SmtpWire(socket, _replies);
            _groupSent = false;
            try
            {
                Arm(wire);
                if (_options.Rate > 0)
                {
                    wire.TimeArrivals();
                }

                _runner.Opened(wire);
                await socket.ConnectAsync(_options.Target, cancellation);
                if (_options.Tls == LoadTls.Implicit)
                {
                    await wire.SecureAsync();
                }

                if (await GreetAsync(wire))
                {
                    await SendMessagesAsync(wire);
                    await QuitAsync(wire);
                }
            }
            catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or OperationCanceledException or AuthenticationException)
            {
                await FailAsync(e, wire.Deadline < Environment.TickCount64, cancellation);
            }
            finally
            {
                _runner.Closed(wire);
                _freeAt = Math.Max(_freeAt, wire.FreeAt);
            }
        }
    }

    /// <summary>Has a message to send, waiting for its intended time.</summary>
    private async ValueTask<bool> TakeAsync()
    {
        if (_taken)
        {
            return !_runner.Stopping || _groupSent;
        }

        if (!_runner.TryTake(out _sequence, out _intendedAt))
        {
            return false;
        }

        _taken = true;
        if (_options.Rate > 0)
        {
            await _runner.WaitUntilDueAsync(_intendedAt);
            _late = Stopwatch.GetTimestamp() - Math.Max(_intendedAt, _freeAt);
        }

        return !_runner.Stopping;
    }

    private async ValueTask<bool> GreetAsync(SmtpWire wire)
    {
        var code = await wire.ReadReplyAsync();
        if (code == 220)
        {
            await wire.SendAsync("EHLO hpload.invalid\r\n"u8.ToArray());
            code = await wire.ReadEhloReplyAsync();
        }

        if (code == 250 && _options.Tls == LoadTls.StartTls)
        {
            await wire.SendAsync("STARTTLS\r\n"u8.ToArray());
            code = await wire.ReadReplyAsync();
            if (code == 220)
            {
                await wire.SecureAsync();
                await wire.SendAsync("EHLO hpload.invalid\r\n"u8.ToArray());
                code = await wire.ReadEhloReplyAsync();
            }
        }

        if (code is 220 or 250)
        {
            _pipeline = wire.Pipelining ? _options.Pipeline : 0;
            return true;
        }

        _runner.CountAttempt();
        _runner.CountRefused(code, wire.LastLine);
        _taken = false;
        return false;
    }

    private async ValueTask SendMessagesAsync(SmtpWire wire)
    {
        for (var sent = 0; _options.MessagesPerConnection == 0 || sent < _options.MessagesPerConnection; sent++)
        {
            if (!await TakeAsync())
            {
                return;
            }

            if (sent > 0)
            {
                wire.Begin();
            }

            _runner.CountAttempt();
            _taken = false;
            _inFlight = true;
            Arm(wire);
            var more = _options.MessagesPerConnection == 0 || sent + 1 < _options.MessagesPerConnection;
            await SendMessageAsync(wire, more);
            _freeAt = wire.FreeAt;
        }
    }

    private async ValueTask SendMessageAsync(SmtpWire wire, bool more)
    {
        if (!_groupSent)
        {
            FormatGroup(_sequence);
            if (_pipeline > 0)
            {
                await wire.SendAsync(_commands.AsMemory(0, _commandsLength));
            }
        }

        _groupSent = false;
        var refusal = _pipeline > 0 ? await ReadGroupAsync(wire) : await SendGroupInStepAsync(wire);
        if (refusal != 0)
        {
            _inFlight = false;
            _runner.CountRefused(refusal, _refusal);
            return;
        }

        await SendContentAsync(wire, more);
    }

    /// <summary>0 when the server asks for the content, else the code that refused the message.</summary>
    private async ValueTask<int> ReadGroupAsync(SmtpWire wire)
    {
        var refusal = 0;
        var accepted = 0;
        var mail = await wire.ReadReplyAsync();
        if (mail != 250)
        {
            refusal = Refusal(mail, wire);
        }

        for (var i = 0; i < _options.Recipients; i++)
        {
            var code = await wire.ReadReplyAsync();
            accepted += code is 250 or 251 ? 1 : 0;
            refusal = refusal == 0 && code is not (250 or 251) ? Refusal(code, wire) : refusal;
        }

        var data = await wire.ReadReplyAsync();
        if (data == 354 && accepted > 0)
        {
            return 0;
        }

        refusal = refusal == 0 ? Refusal(data, wire) : refusal;

        // RFC 2920 section 3.1: a server may ask for the content though it took no recipient; it then gets an empty one and refuses.
        await wire.SendAsync(data == 354 ? ".\r\n"u8.ToArray() : "RSET\r\n"u8.ToArray());
        await wire.ReadReplyAsync();
        return refusal;
    }

    /// <summary>Keeps the line of the reply that decided, for the report.</summary>
    private int Refusal(int code, SmtpWire wire)
    {
        _refusal = wire.LastLine;
        return code;
    }

    private async ValueTask<int> SendGroupInStepAsync(SmtpWire wire)
    {
        var accepted = 0;
        var refusal = 0;
        var at = 0;
        while (at < _commandsLength)
        {
            var length = _commands.AsSpan(at, _commandsLength - at).IndexOf((byte)'\n') + 1;
            var isData = at + length == _commandsLength;
            if (isData && accepted == 0)
            {
                break;
            }

            await wire.SendAsync(_commands.AsMemory(at, length));
            var code = await wire.ReadReplyAsync();
            if (isData && code == 354)
            {
                return 0;
            }

            accepted += at > 0 && code is 250 or 251 ? 1 : 0;
            refusal = refusal == 0 && code is not (250 or 251) ? Refusal(code, wire) : refusal;
            if (at == 0 && code != 250)
            {
                return refusal;
            }

            at += length;
        }

        await wire.SendAsync("RSET\r\n"u8.ToArray());
        await wire.ReadReplyAsync();
        return refusal;
    }

    private async ValueTask SendContentAsync(SmtpWire wire, bool more)
    {
        var sequence = _sequence;
        var intendedAt = _intendedAt;
        var body = _options.Sizes.For(sequence);
        wire.CountOwnTime();
        new MessageMark(_options.Run, sequence, intendedAt + Own(wire)).Write(_mark);
        var length = Join(body, out var rest);
        if (rest.IsEmpty && more && _pipeline > 1 && _options.Rate <= 0 && _runner.TryTake(out _sequence, out _intendedAt))
        {
            _taken = true;
            _groupSent = true;
            FormatGroup(_sequence);
            if (length + _commandsLength > _scratch.Length)
            {
                Array.Resize(ref _scratch, length + _commandsLength);
            }

            _commands.AsSpan(0, _commandsLength).CopyTo(_scratch.AsSpan(length));
            length += _commandsLength;
        }

        await SendBodyAsync(wire, body, length, rest);
        var code = await wire.ReadReplyAsync();
        _inFlight = false;
        if (code == 250)
        {
            _runner.CountAccepted(sequence, intendedAt, wire.ArrivedAt, Own(wire));
            _options.Accepted?.Invoke(sequence, body.Hash(_mark));
        }
        else
        {
            _runner.CountRefused(code, wire.LastLine);
        }
    }

    /// <summary>How long the message has waited for this source itself; 0 without a rate, when it is due as soon as it can be sent.</summary>
    private long Own(SmtpWire wire) => _options.Rate > 0 ? _late + wire.OwnTime : 0;

    /// <summary>Mark, head and, when all of it fits, the text, in the scratch buffer; what does not fit is left.</summary>
    private int Join(MessageBody body, out ReadOnlyMemory<byte> rest)
    {
        _mark.CopyTo(_scratch, 0);
        body.Head.Span.CopyTo(_scratch.AsSpan(_mark.Length));
        var length = _mark.Length + body.Head.Length;
        rest = body.Tail;
        if (length + (body.Period.Length * body.Repeats) + body.Tail.Length > JoinLimit)
        {
            return length;
        }

        for (var i = 0L; i < body.Repeats; i++)
        {
            body.Period.Span.CopyTo(_scratch.AsSpan(length));
            length += body.Period.Length;
        }

        body.Tail.Span.CopyTo(_scratch.AsSpan(length));
        rest = default;
        return length + body.Tail.Length;
    }

    private async ValueTask SendBodyAsync(SmtpWire wire, MessageBody body, int joined, ReadOnlyMemory<byte> rest)
    {
        await wire.SendAsync(_scratch.AsMemory(0, joined));
        if (rest.IsEmpty)
        {
            return;
        }

        for (var i = 0L; i < body.Repeats; i++)
        {
            Arm(wire);
            await wire.SendAsync(body.Period);
        }

        await wire.SendAsync(rest);
        Arm(wire);
    }

    private async ValueTask QuitAsync(SmtpWire wire)
    {
        await wire.SendAsync("QUIT\r\n"u8.ToArray());
        try
        {
            await wire.ReadReplyAsync();
        }
        catch (IOException)
        {
            // The goodbye decides nothing: every message before it has its reply.
            _freeAt = Stopwatch.GetTimestamp();
        }
    }

    /// <summary>Counts the message whose outcome the broken connection took along, if there was one.</summary>
    private async ValueTask FailAsync(Exception cause, bool overdue, CancellationToken cancellation)
    {
        var canceled = cause is OperationCanceledException;
        if (_inFlight || (_taken && !_groupSent && !_options.Reconnect && !canceled))
        {
            if (!_inFlight)
            {
                _runner.CountAttempt();
                _taken = false;
            }

            _inFlight = false;
            _runner.CountFailed(overdue ? "no reply within the time limit" : cause.Message);
        }

        _groupSent = false;
        if (!canceled)
        {
            await Task.WhenAny(Task.Delay(ReconnectPause, cancellation));
        }

        _freeAt = Stopwatch.GetTimestamp();
    }

    private void FormatGroup(long sequence)
    {
        _commandsLength = 0;
        Append("MAIL FROM:<"u8, _from, sequence, 0);
        for (var r = 0; r < _options.Recipients; r++)
        {
            Append("RCPT TO:<"u8, _to, sequence, r);
        }

        Append("DATA\r\n"u8);
    }

    private void Append(ReadOnlySpan<byte> verb, PathTemplate path, long sequence, int recipient)
    {
        Append(verb);
        Reserve(path.MaxLength);
        _commandsLength += path.Write(_commands.AsSpan(_commandsLength), sequence, recipient);
        Append(">\r\n"u8);
    }

    private void Append(ReadOnlySpan<byte> octets)
    {
        Reserve(octets.Length);
        octets.CopyTo(_commands.AsSpan(_commandsLength));
        _commandsLength += octets.Length;
    }

    private void Reserve(int octets)
    {
        if (_commandsLength + octets > _commands.Length)
        {
            Array.Resize(ref _commands, (_commandsLength + octets) * 2);
        }
    }

    private void Arm(SmtpWire wire) => wire.Deadline = Environment.TickCount64 + (long)_options.Timeout.TotalMilliseconds;
}
