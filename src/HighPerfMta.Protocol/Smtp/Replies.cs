namespace HighPerfMta.Protocol.Smtp;

/// <summary>The fixed replies of this server, with codes of RFC 5321 §4.2 and enhanced codes of RFC 3463. Each is encoded once.</summary>
public static class Replies
{
    public static readonly SmtpReply Ok = Make(250, 2, 0, 0, "OK");
    public static readonly SmtpReply SenderOk = Make(250, 2, 1, 0, "Sender OK");
    public static readonly SmtpReply RecipientOk = Make(250, 2, 1, 5, "Recipient OK");

    /// <summary>RFC 2034 §4 gives 354 no enhanced code.</summary>
    public static readonly SmtpReply StartMailInput = new(354, EnhancedCode.None, "End data with <CR><LF>.<CR><LF>");

    public static readonly SmtpReply Reset = Make(250, 2, 0, 0, "Reset");
    public static readonly SmtpReply Noop = Make(250, 2, 0, 0, "OK");
    public static readonly SmtpReply Help = Make(214, 2, 0, 0,
        "Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP HELP VRFY QUIT\nSee RFC 5321.");

    /// <summary>RFC 5321 §3.5.3: the truth about an address is not told.</summary>
    public static readonly SmtpReply CannotVerify = Make(252, 2, 5, 0, "Cannot VRFY user; send the message and delivery will be attempted");

    /// <summary>Where VRFY is turned off.</summary>
    public static readonly SmtpReply VrfyDisabled = Make(502, 5, 5, 1, "VRFY is not provided");

    // ETRN (RFC 1985 §5.3)
    public static readonly SmtpReply QueueStarted = Make(250, 2, 0, 0, "OK, queuing for the domain started");
    public static readonly SmtpReply QueueNotStarted = Make(458, 4, 3, 2, "Unable to queue messages for the domain now, try again later");
    public static readonly SmtpReply EtrnNotAllowed = Make(459, 4, 7, 1, "Not allowed to start the queue for a domain");

    /// <summary>HELP where LMTP is spoken.</summary>
    public static readonly SmtpReply LmtpHelp = Make(214, 2, 0, 0,
        "Commands: LHLO MAIL RCPT DATA BDAT RSET NOOP HELP VRFY QUIT\nSee RFC 2033.");

    public static readonly SmtpReply ExpnDisabled = Make(502, 5, 5, 1, "EXPN is not provided");
    public static readonly SmtpReply Goodbye = Make(221, 2, 0, 0, "Bye", close: true);

    // Commands
    public static readonly SmtpReply UnknownCommand = Make(500, 5, 5, 2, "Command not recognized");
    public static readonly SmtpReply LineTooLong = Make(500, 5, 5, 2, "Line too long");
    public static readonly SmtpReply BareCarriageReturn = Make(500, 5, 5, 2, "Bare <CR> received: lines must end with <CR><LF>");
    public static readonly SmtpReply BareLineFeed = Make(500, 5, 5, 2, "Bare <LF> received: lines must end with <CR><LF>");
    public static readonly SmtpReply NulInCommand = Make(500, 5, 5, 2, "NUL received");
    public static readonly SmtpReply BadArguments = Make(501, 5, 5, 4, "Syntax error in arguments");
    public static readonly SmtpReply NoArguments = Make(501, 5, 5, 4, "The command takes no arguments");
    public static readonly SmtpReply BadParameter = Make(501, 5, 5, 4, "Parameter malformed, repeated, or with a value that is not supported");
    public static readonly SmtpReply UnknownParameter = Make(555, 5, 5, 4, "Parameter not recognized");
    public static readonly SmtpReply NotImplemented = Make(502, 5, 5, 1, "Command not implemented");
    public static readonly SmtpReply BadSequence = Make(503, 5, 5, 1, "Bad sequence of commands");
    public static readonly SmtpReply NeedHello = Make(503, 5, 5, 1, "Send EHLO or HELO first");
    public static readonly SmtpReply NeedEhlo = Make(503, 5, 5, 1, "Send EHLO first");
    public static readonly SmtpReply NeedMail = Make(503, 5, 5, 1, "Send MAIL first");
    public static readonly SmtpReply NestedMail = Make(503, 5, 5, 1, "Sender already given");
    public static readonly SmtpReply NeedRecipient = Make(503, 5, 5, 1, "Send RCPT first");

    /// <summary>DATA when every RCPT was refused (RFC 5321 §3.3).</summary>
    public static readonly SmtpReply NoValidRecipients = Make(554, 5, 5, 1, "No valid recipients");

    /// <summary>DATA and BDAT in one transaction (RFC 3030 §3).</summary>
    public static readonly SmtpReply DataAfterBdat = Make(503, 5, 5, 1, "DATA and BDAT cannot be mixed in one transaction");

    /// <summary>DATA after BODY=BINARYMIME (RFC 3030 §3).</summary>
    public static readonly SmtpReply BinaryNeedsBdat = Make(503, 5, 5, 1, "A message of BODY=BINARYMIME comes by BDAT");

    /// <summary>BDAT after a chunk that was refused, or after LAST (RFC 3030 §3).</summary>
    public static readonly SmtpReply BdatSequence = Make(503, 5, 5, 1, "BDAT is not possible now");

    // Transport security (RFC 3207)
    public static readonly SmtpReply ReadyForTls = Make(220, 2, 0, 0, "Ready to start TLS");
    public static readonly SmtpReply NeedTls = Make(530, 5, 7, 0, "Must issue a STARTTLS command first");
    public static readonly SmtpReply TlsAlready = Make(503, 5, 5, 1, "TLS is in use already");
    public static readonly SmtpReply NeedCertificate = Make(530, 5, 7, 0, "Must show a client certificate that is allowed here");
    public static readonly SmtpReply PlainTextAfterStartTls = Make(554, 5, 5, 1, "Plain text after STARTTLS, closing the connection", close: true);
    public static readonly SmtpReply TlsOnly = Make(554, 5, 7, 0, "This port is for TLS from the first octet, closing the connection", close: true);

    /// <summary>XCLIENT and XFORWARD of a client that is not named (550 in their specifications).</summary>
    public static readonly SmtpReply NotNamed = Make(550, 5, 7, 0, "Not allowed to speak for other clients");

    /// <summary>XCLIENT and XFORWARD within a transaction.</summary>
    public static readonly SmtpReply TransactionUnderWay = Make(503, 5, 5, 1, "Mail transaction in progress");

    public static readonly SmtpReply EhloNeedsName = Make(501, 5, 5, 4, "EHLO needs a domain or an address literal");
    public static readonly SmtpReply HeloNeedsName = Make(501, 5, 5, 4, "HELO needs a domain or an address literal");

    // LMTP (RFC 2033)
    public static readonly SmtpReply LhloNeedsName = Make(501, 5, 5, 4, "LHLO needs a domain or an address literal");
    public static readonly SmtpReply NeedLhlo = Make(503, 5, 5, 1, "Send LHLO first");
    public static readonly SmtpReply IsLmtp = Make(500, 5, 5, 1, "This is LMTP: send LHLO");
    public static readonly SmtpReply IsNotLmtp = Make(500, 5, 5, 1, "This is not LMTP: send EHLO");

    // Times that a sender asks for
    public static readonly SmtpReply HeldTooLong = Make(501, 5, 5, 4, "The message would be held longer than is offered");
    public static readonly SmtpReply DeadlineTooShort = Make(555, 5, 5, 4, "The time for delivery is shorter than is offered");

    // Addresses
    public static readonly SmtpReply BadSenderAddress = Make(501, 5, 1, 7, "Bad sender address syntax");
    public static readonly SmtpReply BadRecipientAddress = Make(501, 5, 1, 3, "Bad recipient address syntax");
    public static readonly SmtpReply Utf8SenderNeedsParameter = Make(553, 5, 6, 7, "Sender address is not ASCII and SMTPUTF8 was not given");
    public static readonly SmtpReply Utf8RecipientNeedsParameter = Make(553, 5, 6, 7, "Recipient address is not ASCII and SMTPUTF8 was not given");
    public static readonly SmtpReply RelayingDenied = Make(550, 5, 7, 1, "Relaying denied");
    public static readonly SmtpReply DestinationRefused = Make(550, 5, 7, 1, "Mail to this destination is refused");
    public static readonly SmtpReply AccessDenied = Make(554, 5, 7, 1, "Access denied", close: true);

    // Users who are logged in (RFC 6409 §6.1)
    public static readonly SmtpReply NotOwnSender = Make(553, 5, 7, 1, "Sender address is not one of the user who is logged in");
    public static readonly SmtpReply UserMessages = Make(450, 4, 7, 1, "Too many messages of this user, try again later");
    public static readonly SmtpReply UserRecipients = Make(450, 4, 7, 1, "Too many recipients of this user, try again later");

    // Limits
    public static readonly SmtpReply TooManyRecipients = Make(452, 4, 5, 3, "Too many recipients");
    public static readonly SmtpReply MessageTooLarge = Make(552, 5, 3, 4, "Message size exceeds the limit");
    public static readonly SmtpReply TooManyErrors = Make(421, 4, 7, 0, "Too many errors, closing the connection", close: true);
    public static readonly SmtpReply TooManyConnections = Make(421, 4, 3, 2, "Too many connections, try again later", close: true);
    public static readonly SmtpReply TooManyConnectionsFromAddress =
        Make(421, 4, 7, 0, "Too many connections from your address, try again later", close: true);
    public static readonly SmtpReply Timeout = Make(421, 4, 4, 2, "Timeout, closing the connection", close: true);
    public static readonly SmtpReply SessionTimeout = Make(421, 4, 4, 2, "The session lasted too long, closing the connection", close: true);
    public static readonly SmtpReply ShuttingDown = Make(421, 4, 3, 2, "The server is shutting down, try again later", close: true);
    public static readonly SmtpReply InternalErrorClosing = Make(421, 4, 3, 0, "Internal error, closing the connection", close: true);

    // Storage
    public static readonly SmtpReply InsufficientStorage = Make(452, 4, 3, 1, "Insufficient system storage, try again later");
    public static readonly SmtpReply LocalError = Make(451, 4, 3, 0, "Local error in processing, try again later");

    // Message
    public static readonly SmtpReply BareCarriageReturnInMessage = Make(554, 5, 5, 2, "Message holds a bare <CR>: lines must end with <CR><LF>");
    public static readonly SmtpReply BareLineFeedInMessage = Make(554, 5, 5, 2, "Message holds a bare <LF>: lines must end with <CR><LF>");
    public static readonly SmtpReply NulInMessage = Make(554, 5, 5, 2, "Message holds a NUL");
    public static readonly SmtpReply MessageLineTooLong = Make(554, 5, 5, 2, "Message holds a line that is too long");
    public static readonly SmtpReply RoutingLoop = Make(554, 5, 4, 6, "Too many Received fields: the message is looping");

    /// <summary>The reply for a command line that was no line; null for the two that are none of its faults.</summary>
    public static SmtpReply? ForLine(LineStatus status) => status switch
    {
        LineStatus.TooLong => LineTooLong,
        LineStatus.BareCarriageReturn => BareCarriageReturn,
        LineStatus.BareLineFeed => BareLineFeed,
        LineStatus.Nul => NulInCommand,
        _ => null,
    };

    /// <summary>The reply for a message with a violation; null when there is none.</summary>
    public static SmtpReply? ForMessage(DotStatus violation) => violation switch
    {
        DotStatus.BareCarriageReturn => BareCarriageReturnInMessage,
        DotStatus.BareLineFeed => BareLineFeedInMessage,
        DotStatus.Nul => NulInMessage,
        DotStatus.LineTooLong => MessageLineTooLong,
        _ => null,
    };

    private static SmtpReply Make(int code, byte @class, ushort subject, ushort detail, string text, bool close = false) =>
        new(code, new EnhancedCode(@class, subject, detail), text, cause: null, close);
}
