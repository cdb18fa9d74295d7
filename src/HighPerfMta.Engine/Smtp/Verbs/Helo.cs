using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>HELO (RFC 5321 §4.1.1.1): greets and ends any transaction.</summary>
internal static class Helo
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments) =>
        session.IsLmtp ? Replies.IsLmtp : Greet(session, SmtpVerb.Helo, arguments, session.Context.HeloReply);

    /// <summary>What HELO, EHLO and LHLO share. A refused greeting changes nothing (RFC 5321 §4.1.4).</summary>
    public static SmtpReply Greet(SmtpSession session, SmtpVerb verb, ReadOnlySpan<byte> arguments, SmtpReply welcome)
    {
        if (CommandParser.ParseHello(verb, arguments, out string name) is { } refusal)
        {
            return refusal;
        }

        session.ResetTransaction();
        session.HeloName = name;
        session.IsExtended = verb != SmtpVerb.Helo;
        session.State = SessionState.Ready;
        return welcome;
    }
}
