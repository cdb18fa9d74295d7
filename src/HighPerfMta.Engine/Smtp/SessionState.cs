using HighPerfMta.Engine.Auth;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>Where a session stands between two commands.</summary>
internal enum SessionState : byte
{
    /// <summary>No HELO or EHLO yet.</summary>
    Fresh,

    /// <summary>Greeted; no transaction.</summary>
    Ready,

    /// <summary>MAIL accepted, no recipient yet.</summary>
    Sender,

    /// <summary>At least one recipient accepted.</summary>
    Recipients,

    /// <summary>At least one BDAT chunk accepted, the last one not yet.</summary>
    Chunks,

    /// <summary>A BDAT chunk was refused: the transaction is dead, its other chunks are consumed and refused until RSET or LAST (RFC 3030 §3).</summary>
    DeadChunks,

    /// <summary>QUIT was answered; nothing more is read.</summary>
    Quit,
}

/// <summary>Which verb is legal in which state (RFC 5321 §4.1.4), in one table; null is legal.</summary>
internal static class StateTable
{
    private const int States = 6;

    // Columns: Fresh, Ready, Sender, Recipients, Chunks, DeadChunks. A verb that is not listed is legal everywhere.
    private static readonly SmtpReply?[]?[] Rows = Build(
        (SmtpVerb.Auth, [Replies.NeedHello, null, AuthReplies.NotNow, AuthReplies.NotNow, AuthReplies.NotNow, AuthReplies.NotNow]),
        (SmtpVerb.Etrn, [Replies.NeedHello, null, Replies.TransactionUnderWay, Replies.TransactionUnderWay, Replies.TransactionUnderWay, Replies.TransactionUnderWay]),
        (SmtpVerb.Mail, [Replies.NeedHello, null, Replies.NestedMail, Replies.NestedMail, Replies.NestedMail, Replies.NestedMail]),
        (SmtpVerb.Rcpt, [Replies.NeedHello, Replies.NeedMail, null, null, Replies.BadSequence, Replies.BadSequence]),
        (SmtpVerb.Data, [Replies.NeedHello, Replies.NeedMail, Replies.NeedRecipient, null, Replies.DataAfterBdat, Replies.DataAfterBdat]),
        (SmtpVerb.Bdat, [Replies.NeedHello, Replies.NeedMail, Replies.NeedRecipient, null, null, Replies.BdatSequence]));

    /// <summary>Null when the verb is legal now, otherwise the refusal.</summary>
    public static SmtpReply? Refusal(SessionState state, SmtpVerb verb) => Rows[(int)verb]?[(int)state];

    private static SmtpReply?[]?[] Build(params (SmtpVerb Verb, SmtpReply?[] Row)[] rows)
    {
        SmtpReply?[]?[] table = new SmtpReply?[]?[(int)SmtpVerb.Etrn + 1];
        foreach ((SmtpVerb verb, SmtpReply?[] row) in rows)
        {
            System.Diagnostics.Debug.Assert(row.Length == States);
            table[(int)verb] = row;
        }

        return table;
    }
}
