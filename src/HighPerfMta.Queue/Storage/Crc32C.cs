using System.Buffers.Binary;
using System.Numerics;

namespace HighPerfMta.Queue.Storage;

/// <summary>CRC32C (Castagnoli, RFC 3720 §12.1) by the processor's instruction.</summary>
internal static class Crc32C
{
    /// <summary>The state to go on from for an unkeyed sum.</summary>
    public const uint Initial = 0xFFFF_FFFF;

    /// <summary>A state that has already taken in a key, so that sums of other logs do not verify here.</summary>
    public static uint Seed(ulong key) => BitOperations.Crc32C(Initial, key);

    public static uint Compute(uint state, ReadOnlySpan<byte> data)
    {
        while (data.Length >= sizeof(ulong))
        {
            state = BitOperations.Crc32C(state, BinaryPrimitives.ReadUInt64LittleEndian(data));
            data = data[sizeof(ulong)..];
        }

        foreach (byte octet in data)
        {
            state = BitOperations.Crc32C(state, octet);
        }

        return ~state;
    }
}
