namespace HighPerfMta.Protocol.Smtp;

/// <summary>What <see cref="CommandParser.TryReadLine"/> found.</summary>
public enum LineStatus : byte
{
    /// <summary>No line end yet; nothing was consumed.</summary>
    NeedMore,

    /// <summary>A whole line.</summary>
    Line,

    /// <summary>No line end within the limit; nothing was consumed, see <see cref="CommandParser.DiscardLine"/>.</summary>
    TooLong,

    /// <summary>The line holds a CR without LF; it was consumed up to that. The rest, to its CRLF, is to be discarded.</summary>
    BareCarriageReturn,

    /// <summary>The line holds an LF without CR; as before.</summary>
    BareLineFeed,

    /// <summary>The line holds a NUL; as before.</summary>
    Nul,
}

/// <summary>The verbs that are told apart.</summary>
public enum SmtpVerb : byte
{
    Unknown, Helo, Ehlo, Mail, Rcpt, Data, Bdat, Rset, Noop, Help, Vrfy, Expn, Quit, StartTls, Auth, Xclient, Xforward, Lhlo, Etrn,
}

/// <summary>One command line taken apart; every span is a view of the receive buffer (or of the scratch of the reader).</summary>
public readonly ref struct SmtpCommand
{
    internal SmtpCommand(SmtpVerb verb, ReadOnlySpan<byte> arguments, ReadOnlySpan<byte> line)
    {
        Verb = verb;
        Arguments = arguments;
        Line = line;
    }

    public SmtpVerb Verb { get; }

    /// <summary>What follows the verb, without surrounding spaces.</summary>
    public ReadOnlySpan<byte> Arguments { get; }

    /// <summary>The whole line without CRLF.</summary>
    public ReadOnlySpan<byte> Line { get; }
}
