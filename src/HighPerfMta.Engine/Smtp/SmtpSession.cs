using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Proxy;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Smtp;

/// <summary>Every way a session can end.</summary>
internal enum SessionEnd : byte
{
    /// <summary>QUIT.</summary>
    Quit,

    /// <summary>The client closed without QUIT.</summary>
    ClientClosed,

    /// <summary>We closed after a reply that ends the session: 421 or 501 of a BDAT that cannot be followed.</summary>
    Closed,

    /// <summary>421 4.4.2.</summary>
    TimedOut,

    /// <summary>421 4.3.2 at a stop of the server.</summary>
    Stopped,

    /// <summary>The transport broke.</summary>
    Broken,

    /// <summary>There was no handshake, or it failed.</summary>
    NoTls,

    /// <summary>A bug of ours; 421 4.3.0 where possible.</summary>
    Failed,
}

/// <summary>
/// One inbound session (RFC 5321 §3). The loop reads, hands every complete command that is buffered to its verb, and alone writes, counts and
/// closes; verbs return a reply. Replies of a pipelined batch go out with one flush, when no complete command is left (RFC 2920 §3.2).
/// </summary>
internal sealed partial class SmtpSession
{
    private readonly SmtpContext _context;
    private readonly SessionTransport _transport;
    private readonly long _startedAt;
    private readonly ArrayBufferWriter<byte> _headers = new(512);
    private volatile IConnection _connection;
    private volatile bool _stopRequested;
    private long _commandSince;
    private int _errors;
    private bool _skippingLine;

    /// <param name="context">What all sessions share.</param>
    /// <param name="connection">The session's alone.</param>
    /// <param name="listener">Where it came in.</param>
    /// <param name="origin">What a balancer said of the client; null: the client is the peer.</param>
    public SmtpSession(SmtpContext context, IConnection connection, ListenerOptions listener, ProxyHeader? origin = null)
    {
        _context = context;
        _connection = connection;
        _transport = new SessionTransport(connection, context.Wheel, context.Limits.CommandTimeout);
        _startedAt = context.Time.GetTimestamp();
        _commandSince = _startedAt;
        Listener = listener;
        ClientAddress = (origin?.Source ?? connection.Remote) is { } client ? RelayPolicy.Normalize(client.Address) : null;

        // Of a client that the balancer does not name nothing is known: it must not have the balancer's own rights.
        _addressCounts = origin?.Origin != ProxyOrigin.Unknown;
        IsTrusted = FindTrust();
        FindGuard();
    }

    private enum Next : byte
    {
        Input, Data, Chunk, Flush, Pause, Tls, Auth, Close,
    }

    public SmtpContext Context => _context;

    public ListenerOptions Listener { get; }

    public ListenerProfile Profile => Listener.Profile;

    public SessionState State { get; set; }

    /// <summary>What the client called itself.</summary>
    public string HeloName { get; set; } = "";

    /// <summary>The client said EHLO.</summary>
    public bool IsExtended { get; set; }

    public Transaction Transaction { get; } = new();

    private bool InTransaction => State > SessionState.Ready;

    /// <summary>Asks the session to end with 421 4.3.2 as soon as no transaction is under way. Safe from any thread.</summary>
    public void RequestStop()
    {
        _stopRequested = true;
        _transport.Interrupt();
        EndWaits();
    }

    /// <summary>Drops the connection at once. Safe from any thread.</summary>
    public void Abort()
    {
        _connection.Abort();
        _transport.EndPause();
        EndWaits();
    }

    /// <summary>Runs the session to its end; never throws.</summary>
    public async Task<SessionEnd> RunAsync()
    {
        SessionEnd end;
        try
        {
            end = await ServeAsync();
            await CommitThread.LeaveAsync();
            await _transport.FlushAsync();
            await _connection.CloseAsync(peerIsDone: end == SessionEnd.Quit);
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or OperationCanceledException)
        {
            SmtpLog.ConnectionBroke(_context.Logger, e, _connection.Remote);
            end = SessionEnd.Broken;
        }
        catch (Exception e)
        {
            SmtpLog.SessionFailed(_context.Logger, e, _connection.Remote);
            end = SessionEnd.Failed;
            await CloseAfterFailureAsync();
        }

        await CommitThread.LeaveAsync();
        GiveBackTaken();
        ForgetLogin();
        Transaction.Dispose();
        await _connection.DisposeAsync();
        SmtpLog.SessionEnded(_context.Logger, _connection.Remote, end);
        return end;
    }

    /// <summary>Ends the transaction; the greeting stays.</summary>
    public void ResetTransaction()
    {
        GiveBackTaken();
        Transaction.Clear();
        _behind = TimeSpan.Zero;
        if (InTransaction)
        {
            Forwarded = null;
            State = SessionState.Ready;
        }
    }

    /// <summary>Writes the event of a refused recipient or message.</summary>
    public void Reject(SmtpReply reply, EmailAddress? recipient, string stage, long? size = null) => _context.Events.Write(new MailEvent
    {
        Time = _context.Time.GetUtcNow(),
        Kind = MailEventKind.Rejected,
        Sender = State > SessionState.Ready ? Transaction.Mail.Sender?.ToString() ?? "" : null,
        Recipient = recipient?.ToString(),
        Source = ClientAddress?.ToString(),
        Tls = Tls?.Description,
        User = User?.Name,
        Forwarded = Forwarded,
        Code = reply.Code,
        Enhanced = reply.Enhanced.ToString(),
        Reply = reply.Text,
        Size = size,
        Stage = stage,
    });

    private async Task<SessionEnd> ServeAsync()
    {
        if ((await BeginAsync() ?? await AwaitGreetingAsync()) is { } failed)
        {
            return failed;
        }

        _transport.Write(Greeting.Wire.Span);
        while (true)
        {
            if (!_transport.TryRead(out ReadResult result))
            {
                if (!await _transport.FlushAsync())
                {
                    return SessionEnd.ClientClosed;
                }

                if (_stopRequested && !InTransaction)
                {
                    Write(Replies.ShuttingDown);
                    return SessionEnd.Stopped;
                }

                TimeSpan wait = TimeLeft(_context.Limits.CommandTimeout, out SmtpReply timeout);
                if (wait <= TimeSpan.Zero)
                {
                    Write(timeout);
                    return SessionEnd.TimedOut;
                }

                result = await _transport.ReadCommandAsync(wait);
                if (result.IsCanceled && _transport.TimedOut)
                {
                    _transport.AdvanceTo(result.Buffer.Start, result.Buffer.End);
                    Write(timeout);
                    return SessionEnd.TimedOut;
                }
            }

            ReadOnlySequence<byte> buffer = result.Buffer;
            if (!_heard && IsHandshakeInPlainText(buffer))
            {
                _transport.AdvanceTo(buffer.End, buffer.End);
                return SessionEnd.NoTls;
            }

            Next next = AnswerBuffered(ref buffer);
            _transport.AdvanceTo(buffer.Start, next == Next.Input ? buffer.End : buffer.Start);
            switch (next)
            {
                case Next.Input when result.IsCompleted:
                    return SessionEnd.ClientClosed;
                case Next.Flush when !await _transport.FlushAsync():
                case Next.Pause when !await HoldBackAsync():
                    return SessionEnd.ClientClosed;
                case Next.Data or Next.Chunk:
                    if (await ReceiveAsync(next) is { } end)
                    {
                        return end;
                    }

                    if (Tls is not null || _connection.HasReceived)
                    {
                        // The reply may go out from the thread that commits; with nothing behind the message that is all before the session waits.
                        await CommitThread.LeaveAsync();
                    }

                    _commandSince = _context.Time.GetTimestamp();
                    break;
                case Next.Tls:
                    if (await StartTlsAsync(pipelined: !buffer.IsEmpty) is { } ended)
                    {
                        return ended;
                    }

                    break;
                case Next.Auth:
                    if (await AuthenticateAsync() is { } left)
                    {
                        return left;
                    }

                    break;
                case Next.Close:
                    return State == SessionState.Quit ? SessionEnd.Quit : SessionEnd.Closed;
            }
        }
    }

    /// <summary>Answers every complete command in the buffer, up to one that brings octets of a message; consumed lines are cut off the buffer.</summary>
    private Next AnswerBuffered(ref ReadOnlySequence<byte> buffer)
    {
        byte[]? scratch = null;
        int limit = _context.Limits.CommandLine;
        try
        {
            while (!buffer.IsEmpty)
            {
                if (_skippingLine)
                {
                    _skippingLine = !CommandParser.DiscardLine(buffer, out SequencePosition end);
                    buffer = buffer.Slice(end);
                    if (_skippingLine)
                    {
                        return Next.Input;
                    }
                }
                else
                {
                    bool isAuth = IsAuthLine(buffer);
                    int most = isAuth ? Math.Max(limit, SaslLine.MaxLength) : limit;
                    if (scratch is null && !buffer.IsSingleSegment)
                    {
                        scratch = ArrayPool<byte>.Shared.Rent(Math.Max(limit, SaslLine.MaxLength));
                    }

                    LineStatus status = CommandParser.TryReadLine(buffer, most, scratch, out ReadOnlySpan<byte> line, out SequencePosition consumed);
                    if (status == LineStatus.NeedMore)
                    {
                        return Next.Input;
                    }

                    buffer = buffer.Slice(consumed);
                    Next next = Answer(status, line, isAuth);
                    if (next != Next.Input)
                    {
                        return next;
                    }
                }
            }

            return Next.Input;
        }
        finally
        {
            if (scratch is not null)
            {
                ArrayPool<byte>.Shared.Return(scratch);
            }
        }
    }

    /// <summary>Answers one line; Input means: go on with the next one.</summary>
    private Next Answer(LineStatus status, ReadOnlySpan<byte> line, bool isAuth)
    {
        SmtpReply? reply;
        Next next = Next.Input;
        if (status == LineStatus.Line)
        {
            SmtpCommand command = CommandParser.Parse(line);
            reply = Guarding?.CheckCommand(command.Verb) ?? Dispatch(command.Verb, command.Arguments, ref next);
            _commandSince = _context.Time.GetTimestamp();
        }
        else
        {
            // Answered at once: a client whose lines never end with CRLF would wait for an answer until the time-out.
            _skippingLine = true;
            reply = isAuth && status == LineStatus.TooLong ? AuthReplies.TooLong : Replies.ForLine(status);
            _commandSince = _context.Time.GetTimestamp();
        }

        if (reply is null)
        {
            return next;
        }

        if (Write(reply))
        {
            return Next.Close;
        }

        if (reply == Replies.ReadyForTls)
        {
            return Next.Tls;
        }

        if (reply.Code >= 500 && DelayOfError > TimeSpan.Zero)
        {
            return Next.Pause;
        }

        return _transport.MustFlush ? Next.Flush : Next.Input;
    }

    /// <summary>Writes a reply and counts it. True when the session ends with it.</summary>
    private bool Write(SmtpReply reply)
    {
        if (!reply.IsPositive)
        {
            _context.Metrics.Refusals.Add(1);

            // 4xx is our fault or the limit's, not an error of the client: a client that offers too many recipients must not be dropped for it.
            if (reply.Code >= 500 && ++_errors >= _context.Limits.Errors)
            {
                reply = Replies.TooManyErrors;
            }

            if (reply.Close)
            {
                _context.Guard.TurnedAway(reply, ClientAddress);
            }
        }

        _transport.Write(reply.Wire.Span);
        return reply.Close;
    }

    /// <summary>What is left of the wait for a command (it does not start again with every octet) and of the session, and the reply when it is over.</summary>
    private TimeSpan TimeLeft(TimeSpan limit, out SmtpReply timeout)
    {
        TimeSpan step = limit - _context.Time.GetElapsedTime(_commandSince);
        TimeSpan session = _context.Limits.SessionTimeout - _context.Time.GetElapsedTime(_startedAt);
        timeout = step <= session ? Replies.Timeout : Replies.SessionTimeout;
        return step <= session ? step : session;
    }

    private async ValueTask CloseAfterFailureAsync()
    {
        try
        {
            _transport.Write(Replies.InternalErrorClosing.Wire.Span);
            await _transport.FlushAsync();
            await _connection.CloseAsync();
        }
        catch (Exception e)
        {
            SmtpLog.ConnectionBroke(_context.Logger, e, _connection.Remote);
        }
    }
}
