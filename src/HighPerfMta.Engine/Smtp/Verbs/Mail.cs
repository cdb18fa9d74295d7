using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>MAIL FROM (RFC 5321 §4.1.1.2) with SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 §5), and what else the session offers.</summary>
internal static class Mail
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (CommandParser.ParseMail(arguments, out MailParameters mail, session.Extensions) is { } syntax)
        {
            return syntax;
        }

        if (mail.Submitter is not null && !session.HasAuth)
        {
            return Replies.UnknownParameter;
        }

        if (Check(session, mail) is { } refusal)
        {
            session.Reject(refusal, recipient: null, "mail", mail.Size);
            return refusal;
        }

        session.Transaction.Begin(mail);
        session.State = SessionState.Sender;
        return Replies.SenderOk;
    }

    private static SmtpReply? Check(SmtpSession session, in MailParameters mail)
    {
        if (session.Listener.ClientCertificates == ClientCertificates.Require && !session.HasRelayCertificate)
        {
            return Replies.NeedCertificate;
        }

        if (RelayPolicy.CheckSender(session.Profile, session.IsTrusted) is { } denied)
        {
            return session.HasAuth ? AuthReplies.Required : denied;
        }

        if (session.RefuseSender(mail.Sender) is { } foreign)
        {
            return foreign;
        }

        if (mail.Size > session.Context.Limits.MessageSize)
        {
            return Replies.MessageTooLarge;
        }

        return session.Context.Intake.Refusal ?? (session.TryTakeMessage() ? null : Replies.UserMessages);
    }
}
