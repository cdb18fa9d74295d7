namespace HighPerfMta.Protocol.Smtp;

/// <summary>
/// The queue id of a message: 64 bits, rising with time, unique in a data directory. Its text is 13 characters of
/// Crockford base32, upper case, fixed width, so that text order is time order.
/// </summary>
public readonly record struct MessageId(ulong Value) : IComparable<MessageId>
{
    private const string Alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    /// <summary>Characters of the text form.</summary>
    public const int TextLength = 13;

    public int CompareTo(MessageId other) => Value.CompareTo(other.Value);

    public static bool operator <(MessageId left, MessageId right) => left.Value < right.Value;

    public static bool operator >(MessageId left, MessageId right) => left.Value > right.Value;

    public static bool operator <=(MessageId left, MessageId right) => left.Value <= right.Value;

    public static bool operator >=(MessageId left, MessageId right) => left.Value >= right.Value;

    public override string ToString() => string.Create(TextLength, Value, static (span, value) =>
    {
        for (int i = TextLength - 1; i >= 0; i--)
        {
            span[i] = Alphabet[(int)(value & 31)];
            value >>= 5;
        }
    });

    /// <summary>Writes the 13 ASCII characters; <paramref name="destination"/> must hold them.</summary>
    public void Format(Span<byte> destination)
    {
        ulong value = Value;
        for (int i = TextLength - 1; i >= 0; i--)
        {
            destination[i] = (byte)Alphabet[(int)(value & 31)];
            value >>= 5;
        }
    }

    /// <summary>Reads the text form, either case. False for anything else.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out MessageId id)
    {
        id = default;
        if (text.Length != TextLength)
        {
            return false;
        }

        UInt128 value = 0;
        foreach (char c in text)
        {
            int digit = Alphabet.IndexOf(char.ToUpperInvariant(c), StringComparison.Ordinal);
            if (digit < 0)
            {
                return false;
            }

            value = (value << 5) | (uint)digit;
        }

        if (value > ulong.MaxValue)
        {
            return false;
        }

        id = new MessageId((ulong)value);
        return true;
    }
}
