using System.Buffers.Binary;
using System.Text;

namespace HighPerfMta.Queue.Records;

/// <summary>
/// Reads what <see cref="RecordWriter"/> wrote. A payload has passed its checksum, but its writer may have been another version or broken,
/// so every length is checked against what is there.
/// </summary>
/// <exception cref="InvalidDataException">The payload ends inside a field, or a field holds what it cannot hold.</exception>
internal ref struct RecordReader(ReadOnlySpan<byte> payload)
{
    private readonly ReadOnlySpan<byte> _payload = payload;

    /// <summary>Octets read.</summary>
    public int Position { get; private set; }

    public readonly int Remaining => _payload.Length - Position;

    public byte Byte() => Octets(1)[0];

    public long Int64() => BinaryPrimitives.ReadInt64LittleEndian(Octets(8));

    public ulong Number()
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            byte next = Byte();
            value |= (ulong)(next & 0x7F) << shift;
            if (next < 0x80)
            {
                return value;
            }
        }

        throw new InvalidDataException("A number is longer than 64 bits");
    }

    /// <summary>A number that must not be above <paramref name="maximum"/>.</summary>
    public int Number(int maximum)
    {
        ulong value = Number();
        return value <= (ulong)maximum ? (int)value : throw new InvalidDataException($"{value} is above {maximum}");
    }

    public ReadOnlySpan<byte> Octets(int count)
    {
        if (count > Remaining)
        {
            throw new InvalidDataException($"{count} octets are missing behind octet {Position}");
        }

        ReadOnlySpan<byte> octets = _payload.Slice(Position, count);
        Position += count;
        return octets;
    }

    public string Text() => Encoding.UTF8.GetString(Octets(Number(Remaining)));
}
