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

        if (session.Guarding?.TakeMessage() is { } over)
        {
            return over;
        }

        session.Transaction.Begin(WithTimes(mail, session.Context.Time));
        session.State = SessionState.Sender;
        return Replies.SenderOk;
    }

    /// <summary>Times count from MAIL on.</summary>
    private static MailParameters WithTimes(in MailParameters mail, TimeProvider time)
    {
        if (mail.Times is not { } times)
        {
            return mail;
        }

        DateTimeOffset now = time.GetUtcNow();
        EnvelopeParameters parameters = mail.Extended ?? EnvelopeParameters.None;
        return mail with { Extended = parameters with { DeliverBy = times.DeliverBy(now), ReleaseAt = times.ReleaseAt(now) } };
    }

    private static SmtpReply? CheckTimes(SmtpSession session, MailTimes times)
    {
        DateTimeOffset now = session.Context.Time.GetUtcNow();
        if (times.ReleaseAt(now) > now + session.Context.Options.Submission.FutureRelease)
        {
            return Replies.HeldTooLong;
        }

        return times is { Notify: false, By: < ExtensionLines.LeastDeliverBy } ? Replies.DeadlineTooShort : null;
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

        if (mail.Times is { } times && CheckTimes(session, times) is { } wrong)
        {
            return wrong;
        }

        return session.Context.Intake.Refusal ?? (session.TryTakeMessage() ? null : Replies.UserMessages);
    }
}
