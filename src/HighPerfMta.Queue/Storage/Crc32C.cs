using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;

namespace HighPerfMta.Queue.Storage;

/// <summary>CRC32C (Castagnoli, RFC 3720 §12.1) by the processor's instruction.</summary>
internal static class Crc32C
{
    /// <summary>Octets of each of the three pieces that are summed at once: the instruction takes three cycles, and another may begin in each of them.</summary>
    private const int Lane = 256;

    private static readonly uint[] OverLane = MakeOverLane();

    /// <summary>The state to go on from for an unkeyed sum.</summary>
    public const uint Initial = 0xFFFF_FFFF;

    /// <summary>A state that has already taken in a key, so that sums of other logs do not verify here.</summary>
    public static uint Seed(ulong key) => BitOperations.Crc32C(Initial, key);

    public static uint Compute(uint state, ReadOnlySpan<byte> data)
    {
        if (BitConverter.IsLittleEndian)
        {
            for (; data.Length >= 3 * Lane; data = data[(3 * Lane)..])
            {
                state = ThreeLanes(state, MemoryMarshal.Cast<byte, ulong>(data[..(3 * Lane)]));
            }
        }

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

    private static uint ThreeLanes(uint state, ReadOnlySpan<ulong> words)
    {
        ReadOnlySpan<ulong> first = words[..(Lane / sizeof(ulong))];
        ReadOnlySpan<ulong> second = words.Slice(first.Length, first.Length);
        ReadOnlySpan<ulong> third = words.Slice(2 * first.Length, first.Length);
        uint ofSecond = 0;
        uint ofThird = 0;
        for (int i = 0; i < first.Length; i++)
        {
            state = BitOperations.Crc32C(state, first[i]);
            ofSecond = BitOperations.Crc32C(ofSecond, second[i]);
            ofThird = BitOperations.Crc32C(ofThird, third[i]);
        }

        return Shift(Shift(state) ^ ofSecond) ^ ofThird;
    }

    /// <summary>The state after <see cref="Lane"/> more zero octets.</summary>
    private static uint Shift(uint state) =>
        OverLane[state & 0xFF] ^ OverLane[256 + ((state >> 8) & 0xFF)] ^ OverLane[512 + ((state >> 16) & 0xFF)] ^ OverLane[768 + (state >> 24)];

    /// <summary>What each octet of a state becomes over a lane of zeroes. The sum is linear: the whole is the exclusive or of its parts.</summary>
    private static uint[] MakeOverLane()
    {
        uint[] table = new uint[4 * 256];
        for (int i = 0; i < table.Length; i++)
        {
            uint state = (uint)(i & 0xFF) << (i >> 8 << 3);
            for (int at = 0; at < Lane; at += sizeof(ulong))
            {
                state = BitOperations.Crc32C(state, 0UL);
            }

            table[i] = state;
        }

        return table;
    }
}
