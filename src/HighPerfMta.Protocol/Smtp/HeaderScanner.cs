namespace HighPerfMta.Protocol.Smtp;

/// <summary>Counts Received fields of a message as its octets pass, unstuffed, in any split, until the empty line that ends the header (RFC 5321 §6.3).</summary>
public struct HeaderScanner
{
    private const byte Skip = 255;
    private const byte AfterName = 8;

    // Octets of "received" matched on this line, AfterName once the name is complete, Skip until the next line.
    private byte _matched;
    private bool _afterCr;
    private bool _ended;

    private static ReadOnlySpan<byte> Name => "received"u8;

    /// <summary>Received fields so far.</summary>
    public int ReceivedCount { readonly get; private set; }

    /// <summary>The empty line has not been seen.</summary>
    public readonly bool InHeader => !_ended;

    public void Feed(ReadOnlySpan<byte> octets)
    {
        int i = 0;
        while (i < octets.Length && !_ended)
        {
            if (_matched == Skip)
            {
                int lf = octets[i..].IndexOf((byte)'\n');
                if (lf < 0)
                {
                    return;
                }

                i += lf + 1;
                _matched = 0;
                continue;
            }

            Step(octets[i++]);
        }
    }

    private void Step(byte b)
    {
        if (_afterCr)
        {
            _afterCr = false;
            _ended = b == (byte)'\n';
            _matched = Skip;
        }
        else if (b == (byte)'\n')
        {
            _matched = 0;
        }
        else if (_matched == 0 && b == (byte)'\r')
        {
            _afterCr = true;
        }
        else if (_matched == AfterName)
        {
            // White space before the colon is obsolete syntax (RFC 5322 §4.5.8), and other servers count it.
            if (b == (byte)':')
            {
                ReceivedCount++;
            }

            _matched = b is (byte)' ' or (byte)'\t' ? AfterName : Skip;
        }
        else
        {
            byte lower = b is >= (byte)'A' and <= (byte)'Z' ? (byte)(b | 0x20) : b;
            _matched = lower == Name[_matched] ? (byte)(_matched + 1) : Skip;
        }
    }
}
