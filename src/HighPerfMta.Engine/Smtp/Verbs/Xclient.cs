using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp.Verbs;

/// <summary>XCLIENT (XCLIENT_README of Postfix): a named client speaks for another one, with that one's rights. The session is as after its greeting.</summary>
internal static class Xclient
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!session.MaySpeakForOthers)
        {
            return Replies.NotNamed;
        }

        if (session.State > SessionState.Ready)
        {
            return Replies.TransactionUnderWay;
        }

        if (ClientAttributeParser.ParseXclient(arguments, out ClientAttributes client) is { } refusal)
        {
            return refusal;
        }

        session.BecomeClient(client);
        return session.Context.Guard.Denies(session.ClientAddress) ? Replies.AccessDenied : session.Greeting;
    }
}

/// <summary>XFORWARD (XFORWARD_README of Postfix): what a named client says of the client before it, for the records of the next message alone; no right goes by it.</summary>
internal static class Xforward
{
    public static SmtpReply Handle(SmtpSession session, ReadOnlySpan<byte> arguments)
    {
        if (!session.MaySpeakForOthers)
        {
            return Replies.NotNamed;
        }

        if (session.State > SessionState.Ready)
        {
            return Replies.TransactionUnderWay;
        }

        if (ClientAttributeParser.ParseXforward(arguments, out ClientAttributes client) is { } refusal)
        {
            return refusal;
        }

        session.Forwarded = session.Forwarded is { } before ? before.With(client) : client;
        return Replies.Ok;
    }
}
