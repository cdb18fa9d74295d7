using System.Runtime.CompilerServices;
using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>The fields that a header may hold once (RFC 5322 §3.6), and those that say something of the whole message.</summary>
[Flags]
public enum HeaderFields : ushort
{
    None = 0,
    Date = 1 << 0,
    From = 1 << 1,
    Sender = 1 << 2,
    ReplyTo = 1 << 3,
    To = 1 << 4,
    Cc = 1 << 5,
    Bcc = 1 << 6,
    MessageId = 1 << 7,
    InReplyTo = 1 << 8,
    References = 1 << 9,
    Subject = 1 << 10,

    /// <summary>Those before: each at most once.</summary>
    Single = (1 << 11) - 1,

    /// <summary>A trace field, of which there are many.</summary>
    Received = 1 << 11,

    /// <summary>A signature over what follows, or an ARC set: whoever changes the message breaks it.</summary>
    Signature = 1 << 12,

    ResentBcc = 1 << 13,
}

/// <summary>
/// Reads the header of a message as its octets pass, unstuffed, in any split, until the empty line that ends it (RFC 5322 §2.1): which fields are there, which
/// more than once, how many and how long they are. It keeps no octet of the message and never fails; whoever asks decides what is too much.
/// </summary>
public struct HeaderScanner
{
    private const int MaxName = 254;

    private Phase _phase;
    private bool _isBad;
    private byte _length;
    private int _line;
    private int _longestLine;
    private NameOctets _name;

    private enum Phase : byte
    {
        /// <summary>At the beginning of a line.</summary>
        Start,

        /// <summary>After a CR at the beginning of a line.</summary>
        StartCr,

        /// <summary>In a field's name.</summary>
        Name,

        /// <summary>In white space between a name and its colon.</summary>
        AfterName,

        /// <summary>Up to the end of the line.</summary>
        Rest,

        /// <summary>Behind the empty line.</summary>
        Ended,
    }

    /// <summary>Received fields so far (RFC 5321 §6.3).</summary>
    public int ReceivedCount { readonly get; private set; }

    /// <summary>
    /// Fields so far. This, <see cref="Size"/> and <see cref="LongestLine"/> count up to the first malformed line: for most readers the body begins there, and a text without a
    /// header is nothing else. They never become less.
    /// </summary>
    public int FieldCount { readonly get; private set; }

    /// <summary>Octets of whole lines so far, with the line ends.</summary>
    public long Size { readonly get; private set; }

    /// <summary>Octets of the longest line so far, with the CR but not the LF.</summary>
    public readonly int LongestLine => _phase == Phase.Rest && !HasMalformedLine ? Math.Max(_longestLine, _line) : _longestLine;

    /// <summary>Fields that are there.</summary>
    public HeaderFields Seen { readonly get; private set; }

    /// <summary>Fields that are there more than once.</summary>
    public HeaderFields Repeated { readonly get; private set; }

    /// <summary>There is a line that is neither a field nor part of one: no colon, something before it that no name has, or a name of more than 254 octets.</summary>
    public bool HasMalformedLine { readonly get; private set; }

    /// <summary>There is an octet above 127.</summary>
    public bool HasEightBit { readonly get; private set; }

    /// <summary>The empty line has not been seen.</summary>
    public readonly bool InHeader => _phase != Phase.Ended;

    /// <summary>Takes octets of the message.</summary>
    /// <returns>How many of them belong to the header, the empty line included.</returns>
    public int Feed(ReadOnlySpan<byte> octets)
    {
        int at = 0;
        while (at < octets.Length && _phase != Phase.Ended)
        {
            at += Take(octets[at..]);
        }

        HasEightBit = HasEightBit || !Ascii.IsValid(octets[..at]);
        return at;
    }

    /// <summary>To be called after the last octet of a message whose header has not ended: its last line may have no end.</summary>
    public void Finish()
    {
        if (_phase is Phase.Name or Phase.AfterName)
        {
            HasMalformedLine = true;
        }

        Measure(_line, 0);
        _phase = Phase.Ended;
    }

    /// <summary>Takes a whole line, the rest of one, or an octet of one that is not all there; returns how many octets that were.</summary>
    private int Take(ReadOnlySpan<byte> octets)
    {
        int lf = _phase is Phase.Start or Phase.Rest ? octets.IndexOf((byte)'\n') : -1;
        if (_phase == Phase.Rest)
        {
            // A line of a binary message can be as long as the message.
            _line = (int)Math.Min((long)_line + (lf < 0 ? octets.Length : lf), int.MaxValue);
            _phase = lf < 0 ? Phase.Rest : EndLine();
            return lf < 0 ? octets.Length : lf + 1;
        }

        if (lf < 0)
        {
            Step(octets[0]);
            return 1;
        }

        TakeLine(octets[..lf]);
        return lf + 1;
    }

    /// <summary>A whole line without its LF.</summary>
    private void TakeLine(ReadOnlySpan<byte> line)
    {
        if (line is [(byte)'\r'])
        {
            Measure(0, 2);
            _phase = Phase.Ended;
            return;
        }

        if (line is [(byte)' ' or (byte)'\t', ..])
        {
            HasMalformedLine |= FieldCount == 0;
        }
        else
        {
            int colon = line.IndexOf((byte)':');
            ReadOnlySpan<byte> name = colon < 0 ? default : line[..colon].TrimEnd(" \t"u8);
            Note(name, isBad: name.IsEmpty || name.Length > MaxName || name.ContainsAnyExceptInRange((byte)'!', (byte)'~'));
        }

        Measure(line.Length, 1);
    }

    private void Step(byte b)
    {
        if (b == (byte)'\n' && _phase == Phase.StartCr)
        {
            Measure(0, 2);
            _phase = Phase.Ended;
            return;
        }

        if (b == (byte)'\n')
        {
            HasMalformedLine |= _phase is Phase.Name or Phase.AfterName;
            _phase = EndLine();
            return;
        }

        if (_phase == Phase.StartCr)
        {
            // A CR that no LF follows: the message is refused for it. Here the line is one without a name.
            (_length, _isBad) = (0, true);
        }

        _line++;
        _phase = _phase switch
        {
            Phase.Start => Begin(b),
            _ when b == (byte)':' => EndName(),
            _ => Extend(b),
        };
    }

    private Phase Begin(byte b)
    {
        switch (b)
        {
            case (byte)'\r':
                return Phase.StartCr;
            case (byte)' ' or (byte)'\t':
                HasMalformedLine |= FieldCount == 0;
                return Phase.Rest;
            default:
                (_length, _isBad) = (0, false);
                return b == (byte)':' ? EndName() : Extend(b);
        }
    }

    /// <summary>An octet of a line before its colon. What is too long for the names that matter is only counted.</summary>
    private Phase Extend(byte b)
    {
        if (b is (byte)' ' or (byte)'\t')
        {
            // White space before the colon is obsolete syntax (RFC 5322 §4.5.8), and others read such fields.
            return Phase.AfterName;
        }

        _isBad |= b is < (byte)'!' or > (byte)'~' || _phase == Phase.AfterName || _length == MaxName;
        if (_length < NameOctets.Capacity)
        {
            _name[_length] = b;
        }

        _length = (byte)Math.Min(_length + 1, MaxName);
        return Phase.Name;
    }

    private Phase EndName()
    {
        ReadOnlySpan<byte> name = _name;
        Note(_length <= NameOctets.Capacity ? name[.._length] : default, _isBad || _length == 0);
        return Phase.Rest;
    }

    private Phase EndLine()
    {
        Measure(_line, 1);
        _line = 0;
        return Phase.Start;
    }

    private void Measure(int line, int end)
    {
        if (!HasMalformedLine)
        {
            _longestLine = Math.Max(_longestLine, line);
            Size += (long)line + end;
        }
    }

    private void Note(ReadOnlySpan<byte> name, bool isBad)
    {
        HasMalformedLine |= isBad;
        if (isBad)
        {
            return;
        }

        HeaderFields field = FieldOf(name);
        Repeated |= Seen & field;
        Seen |= field;
        FieldCount += HasMalformedLine ? 0 : 1;
        ReceivedCount += field == HeaderFields.Received ? 1 : 0;
    }

    private static HeaderFields FieldOf(ReadOnlySpan<byte> name) => name.Length switch
    {
        2 when Is(name, "to"u8) => HeaderFields.To,
        2 when Is(name, "cc"u8) => HeaderFields.Cc,
        3 when Is(name, "bcc"u8) => HeaderFields.Bcc,
        4 when Is(name, "from"u8) => HeaderFields.From,
        4 when Is(name, "date"u8) => HeaderFields.Date,
        6 when Is(name, "sender"u8) => HeaderFields.Sender,
        7 when Is(name, "subject"u8) => HeaderFields.Subject,
        8 when Is(name, "received"u8) => HeaderFields.Received,
        8 when Is(name, "reply-to"u8) => HeaderFields.ReplyTo,
        8 when Is(name, "arc-seal"u8) => HeaderFields.Signature,
        10 when Is(name, "message-id"u8) => HeaderFields.MessageId,
        10 when Is(name, "references"u8) => HeaderFields.References,
        10 when Is(name, "resent-bcc"u8) => HeaderFields.ResentBcc,
        11 when Is(name, "in-reply-to"u8) => HeaderFields.InReplyTo,
        14 when Is(name, "dkim-signature"u8) => HeaderFields.Signature,
        _ => HeaderFields.None,
    };

    private static bool Is(ReadOnlySpan<byte> name, ReadOnlySpan<byte> known) => Ascii.EqualsIgnoreCase(name, known);

    /// <summary>The beginning of a name that came in pieces: as long as the longest that matters.</summary>
    [InlineArray(Capacity)]
    private struct NameOctets
    {
        public const int Capacity = 14;

        private byte _first;
    }
}
