namespace HighPerfMta.Protocol.Smtp;

/// <summary>What a remote server announced in its reply to EHLO (RFC 5321 §4.1.1.1). Keywords that are not known here are ignored.</summary>
public sealed record PeerCapabilities
{
    /// <summary>A server that knows HELO only.</summary>
    public static readonly PeerCapabilities None = new();

    /// <summary>EHLO was accepted.</summary>
    public bool Esmtp { get; init; }

    public bool Pipelining { get; init; }

    public bool EightBitMime { get; init; }

    public bool SmtpUtf8 { get; init; }

    public bool Chunking { get; init; }

    public bool EnhancedStatusCodes { get; init; }

    public bool BinaryMime { get; init; }

    public bool StartTls { get; init; }

    public bool Dsn { get; init; }

    /// <summary>SIZE was announced, with or without a limit.</summary>
    public bool SizeExtension { get; init; }

    /// <summary>Largest message in octets (RFC 1870); null when no limit was announced.</summary>
    public long? Size { get; init; }

    /// <summary>Reads a positive reply to EHLO; anything else gives <see cref="None"/>.</summary>
    public static PeerCapabilities Parse(PeerReply ehlo)
    {
        ArgumentNullException.ThrowIfNull(ehlo);
        if (ehlo.Class != 2)
        {
            return None;
        }

        bool pipelining = false, eight = false, utf8 = false, chunking = false, codes = false, tls = false, dsn = false, sized = false, binary = false;
        long? size = null;
        IReadOnlyList<string> lines = ehlo.Lines;
        for (int i = 1; i < lines.Count; i++)
        {
            ReadOnlySpan<char> line = lines[i].AsSpan().Trim(' ');
            int space = line.IndexOf(' ');
            ReadOnlySpan<char> keyword = space < 0 ? line : line[..space];
            pipelining |= Is(keyword, "PIPELINING");
            eight |= Is(keyword, "8BITMIME");
            utf8 |= Is(keyword, "SMTPUTF8");
            chunking |= Is(keyword, "CHUNKING");
            codes |= Is(keyword, "ENHANCEDSTATUSCODES");
            tls |= Is(keyword, "STARTTLS");
            dsn |= Is(keyword, "DSN");
            binary |= Is(keyword, "BINARYMIME");
            if (Is(keyword, "SIZE"))
            {
                sized = true;
                size = ParseSize(space < 0 ? default : line[(space + 1)..]);
            }
        }

        return new PeerCapabilities
        {
            Esmtp = true,
            Pipelining = pipelining,
            EightBitMime = eight,
            SmtpUtf8 = utf8,
            Chunking = chunking,
            EnhancedStatusCodes = codes,
            StartTls = tls,
            Dsn = dsn,
            BinaryMime = binary,
            SizeExtension = sized,
            Size = size,
        };
    }

    private static bool Is(ReadOnlySpan<char> keyword, string name) => keyword.Equals(name, StringComparison.OrdinalIgnoreCase);

    private static long? ParseSize(ReadOnlySpan<char> text) =>
        long.TryParse(text.Trim(' '), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out long size) && size > 0
            ? size
            : null;
}
