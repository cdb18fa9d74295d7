using System.Text;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Finds octets over 127 in a message's header and body. Fed in any split; line ends are CRLF.</summary>
internal struct EightBitFinder
{
    /// <summary>Octets of CRLFCRLF seen at the end of what was fed; a message that begins with a blank line has no header.</summary>
    private int _matched;

    private bool _begun;
    private bool _inBody;

    public bool InHeader { get; private set; }

    public bool InBody { get; private set; }

    public void Feed(ReadOnlySpan<byte> octets)
    {
        if (!_begun && !octets.IsEmpty)
        {
            _begun = true;
            _matched = 2;
        }

        int header = _inBody ? 0 : HeaderLength(octets);
        InHeader |= !Ascii.IsValid(octets[..header]);
        InBody |= !Ascii.IsValid(octets[header..]);
    }

    private int HeaderLength(ReadOnlySpan<byte> octets)
    {
        for (int i = 0; i < octets.Length; i++)
        {
            byte expected = (_matched & 1) == 0 ? (byte)'\r' : (byte)'\n';
            _matched = octets[i] == expected ? _matched + 1 : octets[i] == (byte)'\r' ? 1 : 0;
            if (_matched == 4)
            {
                _inBody = true;
                return i + 1;
            }
        }

        return octets.Length;
    }
}
