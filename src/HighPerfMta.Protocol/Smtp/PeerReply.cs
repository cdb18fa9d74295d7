namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// A reply that a remote server sent (RFC 5321 §4.2), made safe: no control characters, bounded length. <paramref name="Text"/> is one line,
/// the lines joined by spaces, without code and enhanced code.
/// </summary>
/// <param name="Code">200 to 599.</param>
/// <param name="Enhanced">The enhanced code of the first line (RFC 2034), when its class agrees with the code.</param>
/// <param name="Text">What a person reads; at most <see cref="DeliveryOutcome.MaxText"/> characters.</param>
public sealed record PeerReply(int Code, EnhancedCode Enhanced, string Text)
{
    private readonly IReadOnlyList<string>? _lines;

    /// <summary>First digit of the code: 2 to 5.</summary>
    public int Class => Code / 100;

    /// <summary>The text of each line, for EHLO; <see cref="Text"/> alone when there was one line.</summary>
    public IReadOnlyList<string> Lines
    {
        get => _lines ?? [Text];
        init => _lines = value;
    }
}

/// <summary>What <see cref="ReplyParser"/> found.</summary>
public enum ReplyStatus : byte
{
    /// <summary>The reply is not complete; nothing was consumed.</summary>
    NeedMore,

    Reply,

    /// <summary>This is not SMTP; the connection is of no more use.</summary>
    Malformed,

    /// <summary>A line or the whole reply exceeds its limit; the connection is of no more use.</summary>
    TooLong,
}
