namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// Writes a message for DATA: doubles leading dots and appends the end (RFC 5321 §4.5.2). The state survives any split of input and output.
/// Queued messages have CRLF line ends; should a bare CR or LF come here all the same, it leaves as CRLF, so that nothing this server
/// sends can be taken for an end of message by anyone.
/// </summary>
public struct DotWriter
{
    /// <summary>Octets that <see cref="Finish"/> may need.</summary>
    public const int MaxFinish = 5;

    private State _state;

    private enum State : byte
    {
        // The dot of a stuffed line is written before its octet, so that LineStart turns into Text with that octet.
        LineStart, Text, AfterCr,
    }

    /// <summary>
    /// Stuffs what fits. Either all input was consumed, or fewer than four octets of output are left: come again with the rest.
    /// </summary>
    public void Write(ReadOnlySpan<byte> input, Span<byte> output, out int consumed, out int written)
    {
        int i = 0, o = 0;
        while (i < input.Length && output.Length - o >= 4)
        {
            byte b = input[i];
            if (_state == State.AfterCr)
            {
                output[o++] = (byte)'\r';
                output[o++] = (byte)'\n';
                i += b == (byte)'\n' ? 1 : 0;
                _state = State.LineStart;
                continue;
            }

            if (_state == State.LineStart && b == (byte)'.')
            {
                output[o++] = (byte)'.';
                output[o++] = (byte)'.';
                i++;
                _state = State.Text;
                continue;
            }

            if (b == (byte)'\r')
            {
                _state = State.AfterCr;
                i++;
                continue;
            }

            if (b == (byte)'\n')
            {
                output[o++] = (byte)'\r';
                output[o++] = (byte)'\n';
                i++;
                _state = State.LineStart;
                continue;
            }

            CopyRun(input, ref i, output, ref o);
        }

        consumed = i;
        written = o;
    }

    /// <summary>
    /// Lets whole lines at the front pass that leave as they are, without a copy: true when they are at least <paramref name="least"/> octets; <paramref name="count"/> is how many then. Otherwise nothing was taken.
    /// </summary>
    public bool TryPass(ReadOnlySpan<byte> input, int least, out int count)
    {
        bool mayPass = _state == State.Text || (_state == State.LineStart && !input.IsEmpty && input[0] != (byte)'.');
        count = mayPass ? LineRun.Length(input, 0, int.MaxValue) : 0;
        if (count == 0 || count < least)
        {
            return false;
        }

        _state = State.LineStart;
        return true;
    }

    /// <summary>Ends the message: CRLF if its last line has none, then the dot line. Returns the octets written, at most <see cref="MaxFinish"/>.</summary>
    public int Finish(Span<byte> output)
    {
        int o = 0;
        if (_state != State.LineStart)
        {
            "\r\n"u8.CopyTo(output);
            o = 2;
        }

        ".\r\n"u8.CopyTo(output[o..]);
        _state = State.LineStart;
        return o + 3;
    }

    /// <summary>Copies text through whole lines at once, up to a line that begins with a dot, a bare CR or LF, or the end of either span.</summary>
    private void CopyRun(ReadOnlySpan<byte> input, ref int i, Span<byte> output, ref int o)
    {
        ReadOnlySpan<byte> rest = input[i..];
        if (rest.Length > output.Length - o)
        {
            rest = rest[..(output.Length - o)];
        }

        int end = LineRun.Length(rest, 0, int.MaxValue);
        _state = end > 0 ? State.LineStart : State.Text;
        while (end == 0 || (end < rest.Length && rest[end] != (byte)'.'))
        {
            int stop = rest[end..].IndexOfAny((byte)'\r', (byte)'\n');
            if (stop < 0)
            {
                _state = State.Text;
                end = rest.Length;
                break;
            }

            end += stop;
            if (rest[end] == (byte)'\n' || end + 1 == rest.Length || rest[end + 1] != (byte)'\n')
            {
                _state = stop > 0 ? State.Text : _state;
                break;
            }

            end += 2;
            _state = State.LineStart;
        }

        rest[..end].CopyTo(output[o..]);
        i += end;
        o += end;
    }
}
