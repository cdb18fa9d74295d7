using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace HighPerfMta.Queue.Records;

/// <summary>
/// Writes the fields of a record's payload into a pooled buffer that grows. Integers are LEB128, fixed ones little-endian, strings are UTF-8
/// behind their length in octets. Dispose gives the buffer back.
/// </summary>
internal struct RecordWriter : IDisposable
{
    private byte[] _buffer;

    public RecordWriter(int capacity) => _buffer = ArrayPool<byte>.Shared.Rent(capacity);

    /// <summary>Octets written.</summary>
    public int Length { get; private set; }

    public readonly ReadOnlyMemory<byte> Written => _buffer.AsMemory(0, Length);

    public void Byte(byte value)
    {
        Need(1);
        _buffer[Length++] = value;
    }

    public void Int64(long value)
    {
        Need(8);
        BinaryPrimitives.WriteInt64LittleEndian(_buffer.AsSpan(Length), value);
        Length += 8;
    }

    public void Number(ulong value)
    {
        Need(10);
        while (value >= 0x80)
        {
            _buffer[Length++] = (byte)(value | 0x80);
            value >>= 7;
        }

        _buffer[Length++] = (byte)value;
    }

    public void Octets(ReadOnlySpan<byte> octets)
    {
        Need(octets.Length);
        octets.CopyTo(_buffer.AsSpan(Length));
        Length += octets.Length;
    }

    public void Text(string text)
    {
        int count = Encoding.UTF8.GetByteCount(text);
        Number((ulong)count);
        Need(count);
        Length += Encoding.UTF8.GetBytes(text, _buffer.AsSpan(Length));
    }

    /// <summary>Takes back what was written behind the first <paramref name="length"/> octets.</summary>
    public void Cut(int length) => Length = length;

    public void Dispose()
    {
        if (_buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = null!;
        }
    }

    private void Need(int count)
    {
        if (_buffer.Length - Length >= count)
        {
            return;
        }

        byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(_buffer.Length * 2, Length + count));
        _buffer.AsSpan(0, Length).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = larger;
    }
}
