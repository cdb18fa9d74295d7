using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>EHLO (RFC 5321 §4.1.1.1): as HELO, and announces the extensions.</summary>
internal static class Ehlo
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments) =>
        session.IsLmtp ? Replies.IsLmtp : Helo.Greet(session, SmtpVerb.Ehlo, arguments, session.Context.EhloReply(session));
}
