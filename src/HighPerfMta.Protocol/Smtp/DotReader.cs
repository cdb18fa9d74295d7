namespace HighPerfMta.Protocol.Smtp;

/// <summary>State of a message's octets as they are read. The violations are those of RFC 5321 §2.3.8 and §4.5.3.1.6.</summary>
public enum DotStatus : byte
{
    /// <summary>The message goes on; as a violation: none.</summary>
    NeedMore,

    /// <summary>CRLF.CRLF was read.</summary>
    End,

    BareCarriageReturn,

    BareLineFeed,

    Nul,

    LineTooLong,
}

/// <summary>
/// Reads what follows 354: removes dot-stuffing and finds the end (RFC 5321 §4.5.2). The state survives any split of the input.
/// <para>
/// Only CRLF.CRLF ends the message; the CRLF of the DATA command counts as the first one. LF.LF, LF.CRLF, CRLF.LF, CR.CR, CRLF.CR, CR CR LF and forms
/// with NUL are what SMTP smuggling is made of: one server takes them for the end, the next does not. Here each is a violation, none
/// is an end, and after it none counts as the start of a line either.
/// </para>
/// </summary>
public struct DotReader
{
    private readonly int _maxLine;
    private int _lineLength;
    private State _state;

    /// <param name="maxLine">Octets of a line without CRLF and without stuffing.</param>
    public DotReader(int maxLine)
    {
        _maxLine = maxLine;
        _state = State.LineStart;
    }

    private enum State : byte
    {
        LineStart, Dot, DotCr, Text, TextCr,
    }

    /// <summary>The first violation, or <see cref="DotStatus.NeedMore"/> when there is none. To be asked at the end: a message with one must be refused.</summary>
    public DotStatus Violation { readonly get; private set; }

    /// <summary>A violation was found.</summary>
    public readonly bool IsViolated => Violation != DotStatus.NeedMore;

    /// <summary>
    /// Takes octets. Returns <see cref="DotStatus.End"/> once the end was read, with <paramref name="consumed"/> behind it, otherwise
    /// <see cref="DotStatus.NeedMore"/> with all consumed. After a violation nothing more is written, but reading goes on to the true
    /// end, so that the session can answer there and live on.
    /// </summary>
    /// <param name="input">Octets from the wire.</param>
    /// <param name="output">At least two octets longer than the input; may not overlap it.</param>
    public DotStatus Read(ReadOnlySpan<byte> input, Span<byte> output, out int consumed, out int written)
    {
        written = 0;
        int i = 0;
        while (i < input.Length)
        {
            byte b = input[i];
            switch (_state)
            {
                case State.LineStart when b == (byte)'.':
                    _state = State.Dot;
                    i++;
                    break;
                case State.Dot when b == (byte)'\r':
                    _state = State.DotCr;
                    i++;
                    break;
                case State.DotCr when b == (byte)'\n':
                    consumed = i + 1;
                    return DotStatus.End;
                case State.TextCr when b == (byte)'\n':
                    EmitCrLf(output, ref written);
                    _lineLength = 0;
                    _state = State.LineStart;
                    i++;
                    break;
                case State.DotCr or State.TextCr:
                    Violate(DotStatus.BareCarriageReturn);
                    _state = State.Text;
                    break;
                default:
                    ReadText(input, ref i, output, ref written);
                    break;
            }
        }

        consumed = i;
        return DotStatus.NeedMore;
    }

    /// <summary>
    /// Copies as many whole lines as need no change at once: up to a CRLF before a dot, a violation, or the end of the input.
    /// </summary>
    private void ReadText(ReadOnlySpan<byte> input, ref int i, Span<byte> output, ref int written)
    {
        int runStart = i;
        int lineStart = i - _lineLength;
        int lines = IsViolated ? 0 : LineRun.Length(input[i..], _lineLength, _maxLine);
        if (lines > 0)
        {
            i += lines;
            lineStart = i;
            _lineLength = 0;
            _state = State.LineStart;
            if (i == input.Length || input[i] == (byte)'.')
            {
                Emit(input[runStart..i], output, ref written);
                return;
            }
        }

        while (true)
        {
            int stop = input[i..].IndexOfAny((byte)'\r', (byte)'\n', (byte)0);
            i = stop < 0 ? input.Length : i + stop;
            _lineLength = i - lineStart;
            if (_lineLength > _maxLine)
            {
                Violate(DotStatus.LineTooLong);
                _lineLength = 0;
                lineStart = i;
            }

            if (stop >= 0 && i + 1 < input.Length && input[i] == (byte)'\r' && input[i + 1] == (byte)'\n')
            {
                i += 2;
                _lineLength = 0;
                _state = State.LineStart;
                lineStart = i;
                if (i < input.Length && input[i] != (byte)'.')
                {
                    continue;
                }

                Emit(input[runStart..i], output, ref written);
                return;
            }

            Emit(input[runStart..i], output, ref written);
            _state = State.Text;
            if (stop >= 0)
            {
                Stop(input[i]);
                i++;
            }

            return;
        }
    }

    private void Stop(byte b)
    {
        if (b == (byte)'\r')
        {
            _state = State.TextCr;
            return;
        }

        Violate(b == 0 ? DotStatus.Nul : DotStatus.BareLineFeed);
    }

    private void Violate(DotStatus violation)
    {
        if (Violation == DotStatus.NeedMore)
        {
            Violation = violation;
        }
    }

    private readonly void Emit(ReadOnlySpan<byte> octets, Span<byte> output, ref int written)
    {
        if (!IsViolated)
        {
            octets.CopyTo(output[written..]);
            written += octets.Length;
        }
    }

    private readonly void EmitCrLf(Span<byte> output, ref int written) => Emit("\r\n"u8, output, ref written);
}
