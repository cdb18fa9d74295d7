using System.Runtime.CompilerServices;
using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// Takes the fields that name hidden recipients, Bcc and Resent-Bcc, out of the header of a message as its octets pass, unstuffed, in any split (RFC 5322 §3.6.3: who
/// gets the message must not read them). It holds back at most the beginning of a line that may be one. Signatures do not cover these fields (RFC 6376 §5.4.1 names those that they should).
/// </summary>
public struct BccFilter
{
    /// <summary>Octets that a call may write beyond those that it was given.</summary>
    public const int Slack = Held.Capacity;

    /// <summary>White space before a colon (RFC 5322 §4.5.8) up to which a field is one.</summary>
    private const int MostSpace = 3;

    private Held _held;
    private byte _heldLength;
    private bool _inLine;
    private bool _dropping;

    /// <summary>Nothing is taken out from here on: the header has ended.</summary>
    public bool IsDone { readonly get; private set; }

    /// <summary>Filters the octets at the beginning of a buffer in place.</summary>
    /// <param name="buffer">The octets, with <see cref="Slack"/> octets of room behind them.</param>
    /// <param name="length">Octets that came.</param>
    /// <returns>Octets that are left.</returns>
    public int Filter(Span<byte> buffer, int length)
    {
        if (_heldLength > 0)
        {
            buffer[..length].CopyTo(buffer[_heldLength..]);
            ((ReadOnlySpan<byte>)_held)[.._heldLength].CopyTo(buffer);
            length += _heldLength;
            _heldLength = 0;
        }

        int read = 0, written = 0;
        while (read < length && !IsDone)
        {
            Span<byte> rest = buffer[read..length];
            if (!_inLine && !BeginLine(rest))
            {
                rest.CopyTo(_held);
                _heldLength = (byte)rest.Length;
                return written;
            }

            int lf = rest.IndexOf((byte)'\n');
            int taken = lf < 0 ? rest.Length : lf + 1;
            if (!_dropping)
            {
                rest[..taken].CopyTo(buffer[written..]);
                written += taken;
            }

            _inLine = lf < 0;
            read += taken;
        }

        buffer[read..length].CopyTo(buffer[written..]);
        return written + length - read;
    }

    /// <summary>The octets held back at the end of a message: a line that did not become one of the fields. They are given once.</summary>
    public int Finish(Span<byte> output)
    {
        int length = _heldLength;
        ((ReadOnlySpan<byte>)_held)[..length].CopyTo(output);
        _heldLength = 0;
        IsDone = true;
        return length;
    }

    /// <summary>Looks at the beginning of a line. False: it takes more octets to know what line that is.</summary>
    private bool BeginLine(ReadOnlySpan<byte> rest)
    {
        if (rest is [(byte)' ' or (byte)'\t', ..])
        {
            return true;
        }

        if (rest is [(byte)'\r'] || MayBecome(rest, "bcc"u8) || MayBecome(rest, "resent-bcc"u8))
        {
            return false;
        }

        IsDone = rest is [(byte)'\n', ..] or [(byte)'\r', (byte)'\n', ..];
        _dropping = !IsDone && (IsField(rest, "bcc"u8) || IsField(rest, "resent-bcc"u8));
        return true;
    }

    /// <summary>All there is of the line is the name, or a part of it, or the name and white space.</summary>
    private static bool MayBecome(ReadOnlySpan<byte> rest, ReadOnlySpan<byte> name)
    {
        int length = Math.Min(rest.Length, name.Length);
        return rest.Length <= name.Length + MostSpace && Ascii.EqualsIgnoreCase(rest[..length], name[..length]) && !rest[length..].ContainsAnyExcept((byte)' ', (byte)'\t');
    }

    private static bool IsField(ReadOnlySpan<byte> rest, ReadOnlySpan<byte> name) =>
        rest.Length > name.Length && Ascii.EqualsIgnoreCase(rest[..name.Length], name)
        && rest.Slice(name.Length, Math.Min(MostSpace + 1, rest.Length - name.Length)).TrimStart(" \t"u8) is [(byte)':', ..];

    [InlineArray(Capacity)]
    private struct Held
    {
        public const int Capacity = 14;

        private byte _first;
    }
}
