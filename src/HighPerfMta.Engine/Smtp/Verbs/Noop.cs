using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>NOOP (RFC 5321 §4.1.1.9); an argument is ignored.</summary>
internal static class Noop
{
    public static SmtpReply Handle() => Replies.Noop;
}
