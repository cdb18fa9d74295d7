using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>BDAT (RFC 3030 §2). The octets that follow the command are taken by the session, also when the chunk is refused.</summary>
internal static class Bdat
{
    /// <summary>What a BDAT command announced.</summary>
    /// <param name="Size">Octets that follow.</param>
    /// <param name="IsLast">LAST was given.</param>
    /// <param name="Refusal">The answer once the octets have been thrown away; null when they are wanted.</param>
    internal readonly record struct Chunk(long Size, bool IsLast, SmtpReply? Refusal);

    /// <summary>
    /// Null: take <paramref name="chunk"/>'s octets. A reply only when nobody can say how many octets follow: then the session ends, because
    /// what comes next would be read as commands.
    /// </summary>
    public static SmtpReply? Begin(SmtpSession session, ReadOnlySpan<byte> arguments, SmtpReply? outOfPlace, out Chunk chunk)
    {
        if (CommandParser.ParseBdat(arguments, out long size, out bool last) is { } syntax)
        {
            chunk = default;
            return new SmtpReply(syntax.Code, syntax.Enhanced, syntax.Text, "BDAT size unknown", close: true);
        }

        chunk = new Chunk(size, last, outOfPlace is null ? Check(session, size) : Explain(session, outOfPlace));
        return null;
    }

    /// <summary>The answer to a refused chunk whose octets are gone; the transaction is dead, and over when it was the last chunk.</summary>
    public static SmtpReply EndRefused(SmtpSession session, in Chunk chunk)
    {
        SmtpReply refusal = chunk.Refusal!;
        if (session.State is not (SessionState.Recipients or SessionState.Chunks or SessionState.DeadChunks))
        {
            return refusal;
        }

        if (session.State != SessionState.DeadChunks)
        {
            session.Reject(refusal, session.Transaction.SingleRecipient, "bdat", chunk.Size);
        }

        if (chunk.IsLast)
        {
            session.ResetTransaction();
        }
        else
        {
            Kill(session);
        }

        return refusal;
    }

    /// <summary>The transaction is dead: its storage is given back, later chunks are refused.</summary>
    public static void Kill(SmtpSession session)
    {
        session.Transaction.Chunks?.Dispose();
        session.Transaction.Chunks = null;
        session.State = SessionState.DeadChunks;
    }

    private static SmtpReply? Check(SmtpSession session, long size)
    {
        long taken = session.Transaction.Chunks?.Length ?? 0;
        return size > session.Context.Limits.MessageSize - taken ? Replies.MessageTooLarge : session.Context.Intake.Refusal;
    }

    private static SmtpReply Explain(SmtpSession session, SmtpReply refusal) =>
        session.State == SessionState.Sender && session.Transaction.RefusedRecipients > 0 ? Replies.NoValidRecipients : refusal;
}
