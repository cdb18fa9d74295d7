using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>LHLO (RFC 2033 §4.1): EHLO of a listener that speaks LMTP, where EHLO and HELO are refused.</summary>
internal static class Lhlo
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments) =>
        session.IsLmtp ? Helo.Greet(session, SmtpVerb.Lhlo, arguments, session.Context.EhloReply(session)) : Replies.IsNotLmtp;
}
