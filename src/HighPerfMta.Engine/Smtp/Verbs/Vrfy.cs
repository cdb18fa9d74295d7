using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>VRFY (RFC 5321 §4.1.1.6, §7.3): never tells whether an address exists.</summary>
internal static class Vrfy
{
    public static SmtpReply Handle(ReadOnlySpan<byte> arguments) => arguments.IsEmpty ? Replies.BadArguments : Replies.CannotVerify;
}
