using System.Buffers;
using System.Text;

namespace HighPerfMta.Server.Commands;

/// <summary>
/// Writes messages as one mbox (RFC 4155, quoted as mboxrd): lines end with LF, a line of any number of <c>&gt;</c> and <c>From </c> gets one more <c>&gt;</c>, an empty line ends a message.
/// Taking one <c>&gt;</c> from every line that matches <c>^&gt;+From </c> and ending lines with CRLF gives back a message of lines that end so, which is all that SMTP brings, octet by octet.
/// </summary>
internal sealed class MboxWriter(Stream destination)
{
    private static readonly byte[] Postmark = "From "u8.ToArray();

    private readonly ArrayBufferWriter<byte> _out = new(1 << 12);
    private bool _atLineStart = true;
    private bool _afterReturn;
    private int _quotes;
    private int _matched;

    /// <summary>Begins a message with its postmark line and further lines, without line ends.</summary>
    public void Begin(string postmark, IEnumerable<string> lines)
    {
        foreach (string line in lines.Prepend(postmark))
        {
            _out.Write(Encoding.UTF8.GetBytes(line));
            Put((byte)'\n');
        }

        _atLineStart = true;
        _afterReturn = false;
    }

    /// <summary>A piece of the message, which may end anywhere.</summary>
    public async ValueTask WriteAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation)
    {
        foreach (byte octet in octets.Span)
        {
            Add(octet);
        }

        await DrainAsync(cancellation);
    }

    /// <summary>Ends a message.</summary>
    public async ValueTask EndAsync(CancellationToken cancellation)
    {
        bool whole = _atLineStart && _quotes + _matched == 0 && !_afterReturn;
        EndPrefix();
        EndReturn();
        _out.Write(whole ? "\n"u8 : "\n\n"u8);
        await DrainAsync(cancellation);
    }

    private void Add(byte octet)
    {
        if (_atLineStart)
        {
            if (_matched == 0 && octet == '>')
            {
                _quotes++;
                return;
            }

            if (octet == Postmark[_matched])
            {
                if (++_matched == Postmark.Length)
                {
                    _quotes++;
                    EndPrefix();
                }

                return;
            }

            EndPrefix();
        }

        if (octet == '\n')
        {
            // With or without CR before it: mbox has LF alone.
            _afterReturn = false;
            Put(octet);
            _atLineStart = true;
            return;
        }

        EndReturn();
        if (octet == '\r')
        {
            _afterReturn = true;
            return;
        }

        Put(octet);
    }

    private void EndPrefix()
    {
        for (; _quotes > 0; _quotes--)
        {
            Put((byte)'>');
        }

        _out.Write(Postmark.AsSpan(0, _matched));
        _matched = 0;
        _atLineStart = false;
    }

    private void EndReturn()
    {
        if (_afterReturn)
        {
            Put((byte)'\r');
            _afterReturn = false;
        }
    }

    private void Put(byte octet)
    {
        _out.GetSpan(1)[0] = octet;
        _out.Advance(1);
    }

    private async ValueTask DrainAsync(CancellationToken cancellation)
    {
        await destination.WriteAsync(_out.WrittenMemory, cancellation);
        _out.ResetWrittenCount();
    }
}
