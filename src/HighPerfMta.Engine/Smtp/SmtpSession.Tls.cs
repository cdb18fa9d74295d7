using System.Buffers;
using System.IO.Pipelines;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>The part of the session that puts it under TLS (RFC 3207, RFC 8314 §3.3), and what is known of the client through it.</summary>
internal sealed partial class SmtpSession
{
    private bool _heard;

    /// <summary>What the handshake established; null: the session is in plain text.</summary>
    public TlsSession? Tls { get; private set; }

    /// <summary>STARTTLS is possible now.</summary>
    public bool CanStartTls => Tls is null && _context.Tls is not null && !SpeaksForAnother && Listener.Tls is TlsMode.StartTls or TlsMode.Required;

    /// <summary>Nothing but greeting and STARTTLS is answered yet.</summary>
    public bool NeedsTls => Tls is null && Listener.Tls == TlsMode.Required;

    /// <summary>The client showed a certificate of <c>relay.certificates</c>, where it is asked for one: a session that another listener began may be resumed on this one.</summary>
    public bool HasRelayCertificate => Listener.ClientCertificates != ClientCertificates.Off && _context.Relay.Knows(Tls?.ClientCertificate);

    /// <summary>Implicit TLS: the handshake before the greeting. Null: it is done, or not asked for.</summary>
    private async ValueTask<SessionEnd?> BeginAsync()
    {
        if (Listener.Tls != TlsMode.Implicit)
        {
            return null;
        }

        return await SecureAsync(_context.Tls!) switch
        {
            TlsFailure.None => null,
            TlsFailure.Plaintext => End(Replies.TlsOnly),
            _ => WithoutTls(),
        };
    }

    /// <summary>
    /// After the 220 to STARTTLS. What the client has sent before it had that 220 was sent in plain text, by whomever: it is read by nobody, and the session ends.
    /// </summary>
    private async ValueTask<SessionEnd?> StartTlsAsync(bool pipelined)
    {
        if (pipelined || _connection.HasInput())
        {
            return pipelined || await HasOctetsAsync() ? Injected() : SessionEnd.ClientClosed;
        }

        if (!await _transport.FlushAsync())
        {
            return SessionEnd.ClientClosed;
        }

        switch (await SecureAsync(_context.Tls!))
        {
            case TlsFailure.None:
                ForgetGreeting();
                return null;
            case TlsFailure.Plaintext:
                return Injected();
            default:
                return WithoutTls();
        }
    }

    /// <summary>Whether there are octets, or only the end of the stream, where there is one of the two.</summary>
    private async ValueTask<bool> HasOctetsAsync()
    {
        ReadResult result = await _transport.ReadAsync(_context.Limits.CommandTimeout);
        bool any = !result.Buffer.IsEmpty;
        _transport.AdvanceTo(result.Buffer.End, result.Buffer.End);
        return any;
    }

    private SessionEnd WithoutTls() => _stopRequested ? SessionEnd.Stopped : SessionEnd.NoTls;

    private SessionEnd Injected()
    {
        _context.Metrics.Injections.Add(1);
        if (_context.Guard.MayTell(ClientAddress, "injection"))
        {
            SmtpLog.PlainTextAfterStartTls(_context.Logger, _connection.Remote);
        }

        return End(Replies.PlainTextAfterStartTls);
    }

    /// <summary>The last reply of a session.</summary>
    private SessionEnd End(SmtpReply reply)
    {
        Write(reply);
        return SessionEnd.Closed;
    }

    private async ValueTask<TlsFailure> SecureAsync(TlsAcceptor acceptor)
    {
        (TlsConnection? secured, TlsFailure failure, string detail) =
            await _transport.SecureAsync(() => HandshakeAsync(acceptor), acceptor.HandshakeTimeout);
        if (secured is null)
        {
            if (!_stopRequested)
            {
                acceptor.Report(failure, _connection.Remote, detail, _context.Guard.MayTell(ClientAddress, TlsAcceptor.CauseOf(failure)));
            }

            return failure;
        }

        _connection = secured;
        _heard = true;
        Tls = secured.Session;
        IsTrusted = FindTrust();
        _commandSince = _context.Time.GetTimestamp();
        return TlsFailure.None;
    }

    /// <summary>A server that stops begins none, and ends one that is under way: the client has nothing of it yet.</summary>
    private ValueTask<(TlsConnection? Secured, TlsFailure Failure, string Detail)> HandshakeAsync(TlsAcceptor acceptor) =>
        _stopRequested ? new((null, TlsFailure.Closed, "")) : acceptor.AcceptAsync(_connection, Listener.ClientCertificates != ClientCertificates.Off, isKnown: IsKnown);

    /// <summary>A session begins anew, as after the connection (RFC 3207 §4.2).</summary>
    public void ForgetGreeting()
    {
        ResetTransaction();
        ForgetLogin();
        Forwarded = null;
        State = SessionState.Fresh;
        HeloName = "";
        IsExtended = false;
    }

    /// <summary>A client that begins with a handshake where SMTP is spoken in plain text would get replies that it cannot read. Looked for once, at the first octet.</summary>
    private bool IsHandshakeInPlainText(in ReadOnlySequence<byte> buffer)
    {
        if (_heard || buffer.IsEmpty)
        {
            return false;
        }

        _heard = true;
        if (!TlsAcceptor.IsHandshake(buffer.FirstSpan[0]))
        {
            return false;
        }

        _context.Metrics.WrongProtocol.Add(1);
        if (_context.Guard.MayTell(ClientAddress, "handshake"))
        {
            SmtpLog.HandshakeInPlainText(_context.Logger, _connection.Remote, _connection.Local);
        }

        return true;
    }
}
