using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>EXPN (RFC 5321 §4.1.1.7, §7.3): lists are not told.</summary>
internal static class Expn
{
    public static SmtpReply Handle() => Replies.ExpnDisabled;
}
