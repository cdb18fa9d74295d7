namespace HighPerfMta.Protocol.Smtp;

/// <summary>Why a message is refused for its header (RFC 3463 §3.7: 5.6.0, something is wrong with the content).</summary>
public static class HeaderReplies
{
    public static readonly SmtpReply TooLarge = new(552, new EnhancedCode(5, 3, 4), "Message header exceeds the limit");
    public static readonly SmtpReply TooManyFields = Make("Message header has too many fields");
    public static readonly SmtpReply LineTooLong = Make("Message header holds a line that is too long");
    public static readonly SmtpReply NoFrom = Make("Message header has no From field");
    public static readonly SmtpReply NoDate = Make("Message header has no Date field");
    public static readonly SmtpReply NoMessageId = Make("Message header has no Message-ID field");
    public static readonly SmtpReply RepeatedFrom = Make("Message header has more than one From field");
    public static readonly SmtpReply RepeatedField = Make("Message header has a field more than once that may be there once");
    public static readonly SmtpReply MalformedLine = Make("Message header holds a line that is no field");
    public static readonly SmtpReply EightBit = Make("Message header holds octets above 127 and SMTPUTF8 was not given");
    public static readonly SmtpReply HiddenRecipients = Make("Message header has a Bcc field");

    private static SmtpReply Make(string text) => new(554, new EnhancedCode(5, 6, 0), text);
}
