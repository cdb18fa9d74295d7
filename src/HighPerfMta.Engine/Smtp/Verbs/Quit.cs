using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>QUIT (RFC 5321 §4.1.1.10).</summary>
internal static class Quit
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!arguments.IsEmpty)
        {
            return Replies.NoArguments;
        }

        session.ResetTransaction();
        session.State = SessionState.Quit;
        return Replies.Goodbye;
    }
}
