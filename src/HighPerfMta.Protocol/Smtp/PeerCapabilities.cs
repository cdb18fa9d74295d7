namespace HighPerfMta.Protocol.Smtp;

/// <summary>What a remote server announced in its reply to EHLO (RFC 5321 §4.1.1.1). Keywords that are not known here are ignored.</summary>
public sealed record PeerCapabilities
{
    /// <summary>A server that knows HELO only.</summary>
    public static readonly PeerCapabilities None = new();

    // 0: none. There is one of these for each connection, and a number that may be null takes twice the room.
    private readonly long _size;

    /// <summary>EHLO was accepted.</summary>
    public bool Esmtp { get; init; }

    public bool Pipelining { get; init; }

    public bool EightBitMime { get; init; }

    public bool SmtpUtf8 { get; init; }

    public bool Chunking { get; init; }

    public bool EnhancedStatusCodes { get; init; }

    public bool BinaryMime { get; init; }

    public bool MtPriority { get; init; }

    /// <summary>Numbers that few announce; null: none of them.</summary>
    public PeerLimits? Limits { get; init; }

    public bool StartTls { get; init; }

    public bool Dsn { get; init; }

    /// <summary>SIZE was announced, with or without a limit.</summary>
    public bool SizeExtension { get; init; }

    /// <summary>Largest message in octets (RFC 1870); null when no limit was announced.</summary>
    public long? Size
    {
        get => _size == 0 ? null : _size;
        init => _size = value ?? 0;
    }

    /// <summary>Reads a positive reply to EHLO; anything else gives <see cref="None"/>.</summary>
    public static PeerCapabilities Parse(PeerReply ehlo)
    {
        ArgumentNullException.ThrowIfNull(ehlo);
        if (ehlo.Class != 2)
        {
            return None;
        }

        bool pipelining = false, eight = false, utf8 = false, chunking = false, codes = false, tls = false, dsn = false, sized = false, binary = false, priority = false;
        int? recipients = null, mails = null, domains = null, by = null;
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
            priority |= Is(keyword, "MT-PRIORITY");
            if (Is(keyword, "DELIVERBY"))
            {
                by = space >= 0 && int.TryParse(line[(space + 1)..].Trim(' '), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int least) ? least : 0;
            }

            if (Is(keyword, "LIMITS") && space >= 0)
            {
                ReadOnlySpan<char> limits = line[(space + 1)..];
                recipients = LimitOf(limits, "RCPTMAX");
                mails = LimitOf(limits, "MAILMAX");
                domains = LimitOf(limits, "RCPTDOMAINMAX");
            }

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
            MtPriority = priority,
            Limits = recipients is null && mails is null && domains is null && by is null ? null : new PeerLimits(recipients, mails, domains, by),
            SizeExtension = sized,
            Size = size,
        };
    }

    private static bool Is(ReadOnlySpan<char> keyword, string name) => keyword.Equals(name, StringComparison.OrdinalIgnoreCase);

    /// <summary>A limit of RFC 9422 §3: 1 to 6 digits, no zero first. One that is not that is none.</summary>
    private static int? LimitOf(ReadOnlySpan<char> limits, string name)
    {
        foreach (Range part in limits.Split(' '))
        {
            ReadOnlySpan<char> limit = limits[part];
            int equals = limit.IndexOf('=');
            if (equals > 0 && Is(limit[..equals], name))
            {
                ReadOnlySpan<char> value = limit[(equals + 1)..];
                return value.Length is >= 1 and <= 6 && value[0] != '0' && int.TryParse(value, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int most)
                    ? most
                    : null;
            }
        }

        return null;
    }

    private static long? ParseSize(ReadOnlySpan<char> text) =>
        long.TryParse(text.Trim(' '), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out long size) && size > 0
            ? size
            : null;
}

/// <summary>Numbers that a remote server announced.</summary>
/// <param name="Recipients">Most recipients of a transaction (LIMITS RCPTMAX, RFC 9422); null: it did not say.</param>
/// <param name="Mails">Most transactions of a session (LIMITS MAILMAX).</param>
/// <param name="RecipientDomains">Most domains among the recipients of a transaction (LIMITS RCPTDOMAINMAX).</param>
/// <param name="DeliverByMin">The shortest time in seconds that it takes with BY and R (RFC 2852), 0 for any; null: DELIVERBY was not announced.</param>
public sealed record PeerLimits(int? Recipients, int? Mails, int? RecipientDomains, int? DeliverByMin);
