using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>HELP (RFC 5321 §4.1.1.8); an argument is ignored.</summary>
internal static class Help
{
    public static SmtpReply Handle(SmtpSession session) => session.IsLmtp ? Replies.LmtpHelp : Replies.Help;
}
