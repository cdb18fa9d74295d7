using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>ETRN (RFC 1985): a client that may send anywhere asks that what is queued for a domain be tried now. It is delivered as always, by routes and MX, never to who asks.</summary>
internal static class Etrn
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!session.Listener.Extensions.HasFlag(SmtpExtensions.Etrn) || session.IsLmtp)
        {
            return Replies.NotImplemented;
        }

        if (!session.IsTrusted)
        {
            return Replies.EtrnNotAllowed;
        }

        if (CommandParser.ParseEtrn(arguments, out string domain, out bool withSubdomains) is { } syntax)
        {
            return syntax;
        }

        if (session.Context.QueueStarter?.TryStart(domain, withSubdomains) != true)
        {
            return Replies.QueueNotStarted;
        }

        session.Context.Metrics.QueuesStarted.Add(1);
        return Replies.QueueStarted;
    }
}
