using System.Runtime.CompilerServices;
using System.Text;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// Takes the fields that name hidden recipients, Bcc and Resent-Bcc, out of the header of a message as its octets pass, unstuffed, in any split (RFC 5322 §3.6.3: who
/// gets the message must not read them). It holds back at most the beginning of a line that may be one. Behind a signature nothing is changed any more.
/// </summary>
public struct BccFilter
{
    /// <summary>Octets that a call may write beyond those that it was given.</summary>
    public const int Slack = Held.Capacity;

    private Held _held;
    private byte _heldLength;
    private bool _inLine;
    private bool _dropping;

    /// <summary>Nothing is taken out from here on: the header has ended, or is signed.</summary>
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

        if (rest is [(byte)'\r'] || MayBecome(rest, "bcc"u8) || MayBecome(rest, "resent-bcc"u8) || MayBecome(rest, "dkim-signature"u8) || MayBecome(rest, "arc-seal"u8))
        {
            return false;
        }

        // An LF alone may end the header of a binary message for others: what follows may be its body.
        IsDone = rest is [(byte)'\n', ..] or [(byte)'\r', (byte)'\n', ..] || IsField(rest, "dkim-signature"u8) || IsField(rest, "arc-seal"u8);
        _dropping = !IsDone && (IsField(rest, "bcc"u8) || IsField(rest, "resent-bcc"u8));
        return true;
    }

    private static bool MayBecome(ReadOnlySpan<byte> rest, ReadOnlySpan<byte> name) => rest.Length <= name.Length && Ascii.EqualsIgnoreCase(rest, name[..rest.Length]);

    /// <summary>The name with its colon, or with the white space that may be before it: a line that is no field then is none of use either.</summary>
    private static bool IsField(ReadOnlySpan<byte> rest, ReadOnlySpan<byte> name) =>
        rest.Length > name.Length && rest[name.Length] is (byte)':' or (byte)' ' or (byte)'\t' && Ascii.EqualsIgnoreCase(rest[..name.Length], name);

    [InlineArray(Capacity)]
    private struct Held
    {
        public const int Capacity = 14;

        private byte _first;
    }
}
