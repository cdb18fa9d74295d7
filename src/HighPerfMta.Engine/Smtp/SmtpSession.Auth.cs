using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Sasl;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>The part of the session in which its client logs in (RFC 4954), and what holds for a client that has.</summary>
internal sealed partial class SmtpSession
{
    // Never disposed of: it has no timer, and RequestStop may come at any moment.
    private CancellationTokenSource? _ending;
    private AuthConnection? _authConnection;
    private AuthExchange? _exchange;
    private byte[]? _initialResponse;
    private AllowedSenders? _senders;
    private int _takenMessages;
    private int _takenRecipients;

    /// <summary>Who has logged in; null: nobody.</summary>
    public AuthenticatedUser? User { get; private set; }

    /// <summary>There is AUTH on this listener, now or after STARTTLS.</summary>
    public bool HasAuth => Listener.Auth != AuthMode.Off && _context.Auth is not null;

    /// <summary>What EHLO's AUTH names now, with spaces between; empty: it is not announced.</summary>
    public string Mechanisms => HasAuth && User is null ? _context.Auth!.Announcement(Connection) : "";

    /// <summary>What authentication knows of the connection. The client's address is that of the peer where nobody knows a better one.</summary>
    private AuthConnection Connection => _authConnection ??= new AuthConnection(ClientAddress ?? _connection.Remote?.Address ?? IPAddress.None)
    {
        Local = _connection.Local?.Address,
        Mode = Listener.Auth,
        IsEncrypted = Tls is not null,
        Bindings = (_connection as TlsConnection)?.ReadBindings() ?? ChannelBindings.None,
        VerifiedCertificate = ShownCertificate is { } certificate ? _context.Auth?.Verify(certificate) : null,
    };

    /// <summary>The client's own, where it is asked for one: a session that another listener began may be resumed on this one.</summary>
    private byte[]? ShownCertificate => _certificateCounts && Listener.ClientCertificates != ClientCertificates.Off ? Tls?.CertificateData : null;

    /// <summary>Begins an exchange, which the session then holds; null: it has begun.</summary>
    public SmtpReply? BeginAuthentication(string mechanism, byte[]? initialResponse)
    {
        _exchange = _context.Auth!.Begin(mechanism, Connection, out SmtpReply? refusal);
        _initialResponse = initialResponse;
        return refusal;
    }

    /// <summary>The user may not send as this; null: it may, or nobody is logged in.</summary>
    public SmtpReply? RefuseSender(EmailAddress? sender) => _senders is null || _senders.Has(sender) ? null : Replies.NotOwnSender;

    /// <summary>False when the user has sent too many messages lately.</summary>
    public bool TryTakeMessage()
    {
        bool taken = User is null || _context.Rates.TryTakeMessage(User.Name);
        _takenMessages += User is not null && taken ? 1 : 0;
        return taken;
    }

    /// <summary>False when the user has sent to too many recipients lately.</summary>
    public bool TryTakeRecipient()
    {
        bool taken = User is null || _context.Rates.TryTakeRecipient(User.Name);
        _takenRecipients += User is not null && taken ? 1 : 0;
        return taken;
    }

    /// <summary>The message was accepted: what was taken for it stays taken.</summary>
    private void KeepTaken() => _takenMessages = _takenRecipients = 0;

    private void GiveBackTaken()
    {
        if (User is { } user)
        {
            _context.Rates.Return(user.Name, _takenMessages, _takenRecipients);
        }

        KeepTaken();
    }

    private void LogIn(AuthenticatedUser user)
    {
        User = user;
        _senders = _context.Senders.Of(user);
        IsTrusted = FindTrust();
    }

    /// <summary>Another connection, or another client: nobody is logged in (RFC 4954 §4, RFC 3207 §4.2).</summary>
    private void ForgetLogin()
    {
        User = null;
        _senders = null;
        _authConnection?.VerifiedCertificate?.Dispose();
        _authConnection = null;
        IsTrusted = FindTrust();
    }

    /// <summary>Ends what an exchange waits for. Safe from any thread.</summary>
    private void EndWaits()
    {
        Interlocked.MemoryBarrier();
        _ = Volatile.Read(ref _ending)?.CancelAsync();
    }

    /// <summary>Holds an exchange to its end. Null: the session goes on.</summary>
    private async ValueTask<SessionEnd?> AuthenticateAsync()
    {
        await using AuthExchange exchange = _exchange!;
        byte[]? response = _initialResponse;
        _exchange = null;
        _initialResponse = null;
        if (_ending is null)
        {
            Interlocked.Exchange(ref _ending, new CancellationTokenSource());
        }

        try
        {
            // RequestStop may have come before there was something to end.
            if (_stopRequested)
            {
                Write(Replies.ShuttingDown);
                return SessionEnd.Stopped;
            }

            // Nobody knows how long the answer takes: the replies before it are not kept back.
            return await _transport.FlushAsync() ? await AuthenticateAsync(exchange, response, _ending!.Token) : SessionEnd.ClientClosed;
        }
        catch (OperationCanceledException) when (_stopRequested)
        {
            Write(Replies.ShuttingDown);
            return SessionEnd.Stopped;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(response);
        }
    }

    private async ValueTask<SessionEnd?> AuthenticateAsync(AuthExchange exchange, byte[]? response, CancellationToken ending)
    {
        // An array that is null would become memory that is empty, which is another response.
        ReadOnlyMemory<byte>? initial = null;
        if (response is not null)
        {
            initial = response;
        }

        AuthReply reply = await exchange.StartAsync(initial, ending);
        while (reply.IsChallenge)
        {
            Write(reply.Reply);
            (SessionEnd? end, LineStatus status, byte[] line) = await ReadResponseAsync();
            if (end is not null)
            {
                return end;
            }

            reply = status switch
            {
                LineStatus.Line => await exchange.NextAsync(line, ending),
                LineStatus.TooLong => await exchange.EndAsync(SaslLineStatus.TooLong, ending),
                _ => await exchange.EndAsync(SaslLineStatus.Malformed, ending),
            };
            CryptographicOperations.ZeroMemory(line);
        }

        if (reply.User is { } user)
        {
            LogIn(user);
        }

        _commandSince = _context.Time.GetTimestamp();
        return Write(reply.Reply) ? SessionEnd.Closed : null;
    }

    /// <summary>The line that answers a challenge, or how the session ends. It has the time of a command.</summary>
    private async ValueTask<(SessionEnd? End, LineStatus Status, byte[] Line)> ReadResponseAsync()
    {
        _commandSince = _context.Time.GetTimestamp();
        while (true)
        {
            if (!_transport.TryRead(out ReadResult result))
            {
                if (!await _transport.FlushAsync())
                {
                    return (SessionEnd.ClientClosed, default, []);
                }

                if (_stopRequested)
                {
                    Write(Replies.ShuttingDown);
                    return (SessionEnd.Stopped, default, []);
                }

                TimeSpan wait = TimeLeft(_context.Limits.CommandTimeout, out SmtpReply timeout);
                result = wait > TimeSpan.Zero ? await _transport.ReadCommandAsync(wait) : default;
                if (wait <= TimeSpan.Zero || (result.IsCanceled && _transport.TimedOut))
                {
                    if (wait > TimeSpan.Zero)
                    {
                        _transport.AdvanceTo(result.Buffer.Start, result.Buffer.End);
                    }

                    Write(timeout);
                    return (SessionEnd.TimedOut, default, []);
                }
            }

            LineStatus status = TakeResponse(result.Buffer, out byte[] line, out SequencePosition consumed);
            _transport.AdvanceTo(consumed, status == LineStatus.NeedMore ? result.Buffer.End : consumed);
            if (status != LineStatus.NeedMore)
            {
                // What is left of a line that is too long or holds a bare line end is none of the exchange's, nor a command.
                _skippingLine = status != LineStatus.Line;
                return (null, status, line);
            }

            if (result.IsCompleted)
            {
                return (SessionEnd.ClientClosed, default, []);
            }
        }
    }

    private static LineStatus TakeResponse(in ReadOnlySequence<byte> buffer, out byte[] line, out SequencePosition consumed)
    {
        line = [];
        byte[]? scratch = buffer.IsSingleSegment ? null : ArrayPool<byte>.Shared.Rent(SaslLine.MaxLength);
        try
        {
            LineStatus status = CommandParser.TryReadLine(buffer, SaslLine.MaxLength, scratch, out ReadOnlySpan<byte> octets, out consumed);
            line = status == LineStatus.Line ? octets.ToArray() : line;
            return status;
        }
        finally
        {
            if (scratch is not null)
            {
                ArrayPool<byte>.Shared.Return(scratch, clearArray: true);
            }
        }
    }

    /// <summary>
    /// The line begins an exchange. A token may have to go with it: RFC 4954 would have it as short as other commands, and clients exist that send it whole.
    /// </summary>
    private bool IsAuthLine(in ReadOnlySequence<byte> buffer)
    {
        const int length = 5;
        if (!HasAuth || buffer.Length < length)
        {
            return false;
        }

        Span<byte> word = stackalloc byte[length];
        buffer.Slice(0, length).CopyTo(word);
        return Ascii.EqualsIgnoreCase(word, "auth "u8);
    }
}
