using HighPerfMta.Engine.Smtp.Verbs;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

internal sealed partial class SmtpSession
{
    /// <summary>The reply of a command; null when octets of a message follow, as <paramref name="next"/> then says.</summary>
    private SmtpReply? Dispatch(SmtpVerb verb, ReadOnlySpan<byte> arguments, ref Next next)
    {
        SmtpReply? refusal = NeedsTls && !StartTls.IsAllowedBefore(verb) ? Replies.NeedTls : StateTable.Refusal(State, verb);
        if (verb == SmtpVerb.Bdat)
        {
            // The octets of a chunk follow its command whatever we think of it: they must never be read as commands.
            next = Next.Chunk;
            return Bdat.Begin(this, arguments, refusal, out _chunk);
        }

        if (refusal is not null)
        {
            return verb == SmtpVerb.Data ? Data.Refuse(this, refusal) : refusal == Replies.NeedHello && IsLmtp ? Replies.NeedLhlo : refusal;
        }

        switch (verb)
        {
            case SmtpVerb.Mail:
                return Mail.Handle(this, arguments);
            case SmtpVerb.Rcpt:
                return Rcpt.Handle(this, arguments);
            case SmtpVerb.Data:
                next = Next.Data;
                return Data.Begin(this, arguments);
            case SmtpVerb.Ehlo:
                return Ehlo.Handle(this, arguments);
            case SmtpVerb.Helo:
                return Helo.Handle(this, arguments);
            case SmtpVerb.Lhlo:
                return Lhlo.Handle(this, arguments);
            case SmtpVerb.Rset:
                return Rset.Handle(this, arguments);
            case SmtpVerb.Quit:
                return Quit.Handle(this, arguments);
            case SmtpVerb.Noop:
                return Noop.Handle();
            case SmtpVerb.Help:
                return Help.Handle(this);
            case SmtpVerb.Vrfy:
                return Vrfy.Handle(this, arguments);
            case SmtpVerb.Expn:
                return Expn.Handle();
            case SmtpVerb.StartTls:
                return StartTls.Handle(this, arguments);
            case SmtpVerb.Etrn:
                return Etrn.Handle(this, arguments);
            case SmtpVerb.Xclient:
                return Xclient.Handle(this, arguments);
            case SmtpVerb.Xforward:
                return Xforward.Handle(this, arguments);
            case SmtpVerb.Auth:
                SmtpReply? refused = Verbs.Auth.Begin(this, arguments);
                next = refused is null ? Next.Auth : next;
                return refused;
            default:
                return Replies.UnknownCommand;
        }
    }
}
