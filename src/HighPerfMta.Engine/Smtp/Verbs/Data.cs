using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>DATA (RFC 5321 §4.1.1.4). The octets that follow 354 are taken by the session.</summary>
internal static class Data
{
    /// <summary>Null: the message may come.</summary>
    public static SmtpReply? Begin(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!arguments.IsEmpty)
        {
            return Replies.NoArguments;
        }

        if (session.Transaction.Mail.Body == BodyEncoding.BinaryMime)
        {
            return Replies.BinaryNeedsBdat;
        }

        if (session.Context.Intake.Refusal is { } refusal)
        {
            session.Reject(refusal, session.Transaction.SingleRecipient, "data");
            return refusal;
        }

        return null;
    }

    /// <summary>Out of place; after refused recipients the reason is that none was valid (RFC 5321 §3.3).</summary>
    public static SmtpReply Refuse(SmtpSession session, SmtpReply refusal) =>
        session.State == SessionState.Sender && session.Transaction.RefusedRecipients > 0 ? Replies.NoValidRecipients : refusal;
}
