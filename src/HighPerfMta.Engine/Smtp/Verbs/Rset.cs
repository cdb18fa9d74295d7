using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>RSET (RFC 5321 §4.1.1.5): ends the transaction; the greeting stays.</summary>
internal static class Rset
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!arguments.IsEmpty)
        {
            return Replies.NoArguments;
        }

        session.ResetTransaction();
        return Replies.Reset;
    }
}
