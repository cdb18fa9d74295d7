using System.Net;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp;

/// <summary>Log lines of reception. Nothing that a client sent is in them.</summary>
internal static partial class SmtpLog
{
    [LoggerMessage(Level = LogLevel.Information, Message = "listening for SMTP on {Endpoint}, profile {Profile}, TLS {Tls}")]
    public static partial void Listening(ILogger logger, IPEndPoint endpoint, ListenerProfile profile, TlsMode tls);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "limits.connections is {Configured}, but the limit of open files ({Descriptors}) leaves room for {Effective}; raise LimitNOFILE")]
    public static partial void ConnectionsCapped(ILogger logger, int configured, int descriptors, int effective);

    [LoggerMessage(Level = LogLevel.Debug, Message = "session with {Client} ended: {End}")]
    public static partial void SessionEnded(ILogger logger, IPEndPoint? client, SessionEnd end);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Client} sent plain text after STARTTLS: its commands, or somebody's on the way; the session is ended")]
    public static partial void PlainTextAfterStartTls(ILogger logger, IPEndPoint? client);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Client} begins with a TLS handshake on {Listener}, where SMTP is spoken in plain text first; it needs a listener with tls = \"implicit\"")]
    public static partial void HandshakeInPlainText(ILogger logger, IPEndPoint? client, IPEndPoint? listener);

    [LoggerMessage(Level = LogLevel.Warning, Message = "balancer {Balancer} sent no PROXY header that can be used ({Cause}); its connection is closed. Does it send one to this listener?")]
    public static partial void NoProxyHeader(ILogger logger, IPEndPoint? balancer, ProxyFailure cause);

    [LoggerMessage(Level = LogLevel.Debug, Message = "connection with {Client} broke")]
    public static partial void ConnectionBroke(ILogger logger, Exception exception, IPEndPoint? client);

    [LoggerMessage(Level = LogLevel.Error, Message = "session with {Client} failed; the connection is closed with 421")]
    public static partial void SessionFailed(ILogger logger, Exception exception, IPEndPoint? client);

    [LoggerMessage(Level = LogLevel.Warning, Message = "message from {Client} cannot be stored now, answered {Code}")]
    public static partial void CannotStore(ILogger logger, Exception exception, IPEndPoint? client, int code);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Client} was turned away: {Limit} ({Untold} more lines like this were not written)")]
    public static partial void TurnedAway(ILogger logger, IPAddress? client, string limit, long untold);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Count} sessions did not end in time and were dropped")]
    public static partial void SessionsDropped(ILogger logger, int count);
}
