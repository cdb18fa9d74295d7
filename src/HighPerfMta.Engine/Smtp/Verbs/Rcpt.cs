using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>RCPT TO (RFC 5321 §4.1.1.3) with NOTIFY and ORCPT (RFC 3461).</summary>
internal static class Rcpt
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        Transaction transaction = session.Transaction;
        if (CommandParser.ParseRcpt(arguments, transaction.Mail.SmtpUtf8, session.Extensions, out EmailAddress? recipient, out RecipientParameters? parameters) is { } syntax)
        {
            transaction.RefusedRecipients++;
            return syntax;
        }

        if (transaction.RecipientCount >= session.Context.Limits.Recipients || !transaction.HasRoomFor(recipient!, parameters))
        {
            return RefuseTooMany(session, recipient!);
        }

        if (recipient!.Domain.Length == 0)
        {
            // RFC 5321 §4.5.1: a bare postmaster is always taken from whoever may use the listener at all.
            recipient = session.Context.Postmaster;
        }
        else if (session.Context.Relay.CheckRecipient(session.Profile, session.IsTrusted, recipient) is { } denied)
        {
            transaction.RefusedRecipients++;
            session.Reject(denied, recipient, "rcpt");
            return denied;
        }

        if (session.Context.Options.Routes?.Find(recipient).Kind == NextHopKind.Reject)
        {
            transaction.RefusedRecipients++;
            session.Reject(Replies.DestinationRefused, recipient, "rcpt");
            return Replies.DestinationRefused;
        }

        if (!session.TryTakeRecipient())
        {
            transaction.RefusedRecipients++;
            session.Reject(Replies.UserRecipients, recipient, "rcpt");
            return Replies.UserRecipients;
        }

        if (session.Guarding?.TakeRecipient() is { } over)
        {
            transaction.RefusedRecipients++;
            return over;
        }

        transaction.Add(recipient, parameters);
        session.State = SessionState.Recipients;
        return Replies.RecipientOk;
    }

    private static SmtpReply RefuseTooMany(SmtpSession session, EmailAddress recipient)
    {
        session.Transaction.RefusedRecipients++;
        if (!session.Transaction.RecipientLimitReported)
        {
            session.Transaction.RecipientLimitReported = true;
            session.Reject(Replies.TooManyRecipients, recipient, "rcpt");
        }

        return Replies.TooManyRecipients;
    }
}
