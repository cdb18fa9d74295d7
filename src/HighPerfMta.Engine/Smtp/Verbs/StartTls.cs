using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>STARTTLS (RFC 3207). The handshake that follows 220 is the session's.</summary>
internal static class StartTls
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (session.Tls is not null)
        {
            return Replies.TlsAlready;
        }

        if (session.SpeaksForAnother)
        {
            return Replies.BadSequence;
        }

        if (!session.CanStartTls)
        {
            return Replies.NotImplemented;
        }

        if (!arguments.IsEmpty)
        {
            return Replies.NoArguments;
        }

        // After 220 there is no other word than the handshake.
        return session.Context.Tls!.IsFull && !session.IsKnown ? GuardReplies.TooManyHandshakes : Replies.ReadyForTls;
    }

    /// <summary>RFC 3207 §4: before TLS nothing but these is answered where TLS is required.</summary>
    public static bool IsAllowedBefore(SmtpVerb verb) =>
        verb is SmtpVerb.Ehlo or SmtpVerb.Helo or SmtpVerb.Lhlo or SmtpVerb.StartTls or SmtpVerb.Noop or SmtpVerb.Rset or SmtpVerb.Help or SmtpVerb.Quit or SmtpVerb.Unknown;
}
