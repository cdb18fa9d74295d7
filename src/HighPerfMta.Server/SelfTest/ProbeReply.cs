namespace HighPerfMta.Server.SelfTest;

/// <summary>What a wait for a reply ended with.</summary>
internal enum ReplyKind : byte
{
    Reply,

    /// <summary>The server closed, or the connection broke.</summary>
    Closed,

    /// <summary>Nothing came in time.</summary>
    Silent,

    /// <summary>Something came that is no reply (RFC 5321 §4.2), or too much of it.</summary>
    Garbled,
}

/// <summary>A reply with all its lines.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Code">Three digits; 0 without a reply.</param>
/// <param name="Lines">The texts behind the codes, as Latin-1.</param>
internal sealed record ProbeReply(ReplyKind Kind, int Code, IReadOnlyList<string> Lines)
{
    public bool IsReply => Kind == ReplyKind.Reply;

    public bool IsPositive => Code is >= 200 and < 300;

    public bool IsRefusal => Code is >= 400 and < 600;

    /// <summary>For evidence: escaped.</summary>
    public override string ToString() => Kind switch
    {
        ReplyKind.Closed => "(closed)",
        ReplyKind.Silent => "(no answer)",
        ReplyKind.Garbled => Wire.Escape(string.Join('\n', Lines)),
        _ => $"{Code} {Wire.Escape(string.Join(" / ", Lines))}",
    };
}
