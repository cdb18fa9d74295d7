namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// Applies to the octets of BDAT chunks (RFC 3030) the rules that <see cref="DotReader"/> applies to DATA: what came in a chunk may have
/// to go out with DATA, where a bare CR or LF is a smuggling tool. The state survives any split, chunk borders included.
/// </summary>
public struct LineChecker
{
    private readonly int _maxLine;
    private int _lineLength;
    private bool _afterCr;

    /// <param name="maxLine">Octets of a line without CRLF.</param>
    public LineChecker(int maxLine) => _maxLine = maxLine;

    /// <summary>The first violation, or <see cref="DotStatus.NeedMore"/> when there is none.</summary>
    public DotStatus Violation { readonly get; private set; }

    /// <summary>The octets so far end with CRLF; false when there were none. A lone CR at the end of the message is a violation: see <see cref="Finish"/>.</summary>
    public bool EndsWithCrLf { readonly get; private set; }

    /// <summary>Takes octets; returns <see cref="Violation"/>.</summary>
    public DotStatus Check(ReadOnlySpan<byte> octets)
    {
        if (octets.IsEmpty)
        {
            return Violation;
        }

        int i = 0;
        if (_afterCr)
        {
            _afterCr = false;
            if (octets[0] == (byte)'\n')
            {
                i = 1;
                _lineLength = 0;
                EndsWithCrLf = true;
                if (octets.Length == 1)
                {
                    return Violation;
                }
            }
            else
            {
                Violate(DotStatus.BareCarriageReturn);
                _lineLength++;
            }
        }

        int lineStart = i - _lineLength;
        while (true)
        {
            int stop = octets[i..].IndexOfAny((byte)'\r', (byte)'\n', (byte)0);
            i = stop < 0 ? octets.Length : i + stop;
            if (i - lineStart > _maxLine)
            {
                Violate(DotStatus.LineTooLong);
                lineStart = i;
            }

            if (stop < 0)
            {
                break;
            }

            Stop(octets, ref i, ref lineStart);
            if (_afterCr)
            {
                break;
            }
        }

        // A CR whose LF may still come is no octet of the line.
        _lineLength = octets.Length - lineStart - (_afterCr ? 1 : 0);
        EndsWithCrLf = !_afterCr && _lineLength == 0 && octets[^1] == (byte)'\n' && (octets.Length > 1 ? octets[^2] == (byte)'\r' : EndsWithCrLf);
        return Violation;
    }

    /// <summary>To be called after the last octet; returns <see cref="Violation"/>, which is a bare CR when the message ends with one.</summary>
    public DotStatus Finish()
    {
        if (_afterCr)
        {
            Violate(DotStatus.BareCarriageReturn);
        }

        return Violation;
    }

    private void Stop(ReadOnlySpan<byte> octets, ref int i, ref int lineStart)
    {
        switch (octets[i])
        {
            case (byte)'\r' when i + 1 == octets.Length:
                _afterCr = true;
                i++;
                break;
            case (byte)'\r' when octets[i + 1] == (byte)'\n':
                i += 2;
                lineStart = i;
                break;
            case (byte)'\r':
                Violate(DotStatus.BareCarriageReturn);
                i++;
                break;
            default:
                Violate(octets[i] == 0 ? DotStatus.Nul : DotStatus.BareLineFeed);
                i++;
                break;
        }
    }

    private void Violate(DotStatus violation)
    {
        if (Violation == DotStatus.NeedMore)
        {
            Violation = violation;
        }
    }
}
