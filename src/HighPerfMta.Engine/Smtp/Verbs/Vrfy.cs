using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>VRFY (RFC 5321 §4.1.1.6, §7.3): never tells whether an address exists.</summary>
internal static class Vrfy
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments) =>
        !session.Listener.Vrfy ? Replies.VrfyDisabled : arguments.IsEmpty ? Replies.BadArguments : Replies.CannotVerify;
}
