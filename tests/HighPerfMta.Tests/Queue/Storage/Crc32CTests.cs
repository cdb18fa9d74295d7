using CsCheck;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Tests.Queue.Storage;

public class Crc32CTests
{
    /// <summary>RFC 3720 appendix B.4.</summary>
    [Fact]
    public void The_examples_of_the_standard_come_out()
    {
        Assert.Equal(0x8A9136AAu, Crc32C.Compute(Crc32C.Initial, new byte[32]));
        Assert.Equal(0x62A8AB43u, Crc32C.Compute(Crc32C.Initial, [.. Enumerable.Repeat((byte)0xFF, 32)]));
        Assert.Equal(0x46DD794Eu, Crc32C.Compute(Crc32C.Initial, [.. Enumerable.Range(0, 32).Select(static i => (byte)i)]));
        Assert.Equal(0x113FDB5Cu, Crc32C.Compute(Crc32C.Initial, [.. Enumerable.Range(0, 32).Select(static i => (byte)(31 - i))]));
    }

    /// <summary>Lengths about those from which several pieces are summed at once.</summary>
    [Fact]
    public void Of_any_length_and_state_it_is_what_one_bit_after_the_other_gives() =>
        Gen.Select(Gen.UInt, Gen.Byte.Array[0, 2400], Gen.Int[0, 9]).Sample(static (state, octets, from) =>
        {
            ReadOnlySpan<byte> data = octets.AsSpan(Math.Min(from, octets.Length));
            Assert.Equal(Bitwise(state, data), Crc32C.Compute(state, data));
        }, iter: 2000);

    private static uint Bitwise(uint state, ReadOnlySpan<byte> data)
    {
        foreach (byte octet in data)
        {
            state ^= octet;
            for (int bit = 0; bit < 8; bit++)
            {
                state = (state >> 1) ^ ((state & 1) * 0x82F63B78u);
            }
        }

        return ~state;
    }
}
