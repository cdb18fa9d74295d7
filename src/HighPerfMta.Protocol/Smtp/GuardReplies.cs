namespace HighPerfMta.Protocol.Smtp;

/// <summary>The replies of limits that keep a server well while it is under attack. All but those to RCPT end the session.</summary>
public static class GuardReplies
{
    /// <summary>RFC 5321 §3.1: a client waits for the greeting.</summary>
    public static readonly SmtpReply EarlyTalker = Make(554, 5, 5, 1, "You spoke before the greeting, closing the connection");

    public static readonly SmtpReply AddressConnectionRate = Make(421, 4, 7, 0, "Too many connections a minute from your address, try again later");
    public static readonly SmtpReply NetworkConnectionRate = Make(421, 4, 7, 0, "Too many connections a minute from your network, try again later");
    public static readonly SmtpReply NetworkConnections = Make(421, 4, 7, 0, "Too many connections from your network, try again later");
    public static readonly SmtpReply AddressMessageRate = Make(421, 4, 7, 0, "Too many messages a minute from your address, try again later");
    public static readonly SmtpReply NetworkMessageRate = Make(421, 4, 7, 0, "Too many messages a minute from your network, try again later");

    /// <summary>The recipients before it are kept: with 421 a message with more recipients than the limit would never get through.</summary>
    public static readonly SmtpReply AddressRecipientRate = Make(450, 4, 7, 1, "Too many recipients a minute from your address, try again later", close: false);

    public static readonly SmtpReply NetworkRecipientRate = Make(450, 4, 7, 1, "Too many recipients a minute from your network, try again later", close: false);
    public static readonly SmtpReply CommandRate = Make(421, 4, 7, 0, "Too many commands a minute, closing the connection");
    public static readonly SmtpReply JunkCommands = Make(421, 4, 7, 0, "Too many commands that send no mail, closing the connection");
    public static readonly SmtpReply TooSlow = Make(421, 4, 4, 2, "The message comes too slowly, closing the connection");
    public static readonly SmtpReply TooManyHandshakes = Make(421, 4, 3, 2, "Too many TLS handshakes, try again later");

    private static SmtpReply Make(int code, byte @class, ushort subject, ushort detail, string text, bool close = true) =>
        new(code, new EnhancedCode(@class, subject, detail), text, cause: null, close);
}
