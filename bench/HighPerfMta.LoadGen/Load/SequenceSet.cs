using System.Numerics;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// A set of sequence numbers as a bitmap that grows in blocks. Bounded: numbers from <see cref="Limit"/> on are not held,
/// <see cref="TryAdd"/> then answers true and counts them in <see cref="Beyond"/>. Safe for several threads.
/// </summary>
internal sealed class SequenceSet
{
    /// <summary>64 Mi numbers, 8 MiB.</summary>
    public const long Limit = 64L << 20;

    private const int BlockBits = 1 << 16;

    private readonly Lock _lock = new();
    private readonly ulong[]?[] _blocks = new ulong[Limit / BlockBits][];

    public long Count { get; private set; }

    public long Beyond { get; private set; }

    /// <summary>False when the number is in the set already.</summary>
    public bool TryAdd(long sequence)
    {
        lock (_lock)
        {
            if (sequence is < 0 or >= Limit)
            {
                Beyond++;
                return true;
            }

            var block = _blocks[sequence / BlockBits] ??= new ulong[BlockBits / 64];
            ref var word = ref block[sequence % BlockBits / 64];
            var bit = 1UL << (int)(sequence & 63);
            if ((word & bit) != 0)
            {
                return false;
            }

            word |= bit;
            Count++;
            return true;
        }
    }

    /// <summary>How many numbers of this set are not in <paramref name="other"/>.</summary>
    public long CountMissingFrom(SequenceSet other)
    {
        var missing = 0L;
        for (var b = 0; b < _blocks.Length; b++)
        {
            if (_blocks[b] is not { } mine)
            {
                continue;
            }

            for (var w = 0; w < mine.Length; w++)
            {
                missing += BitOperations.PopCount(mine[w] & ~(other._blocks[b]?[w] ?? 0));
            }
        }

        return missing;
    }

    public bool Contains(long sequence)
    {
        lock (_lock)
        {
            return sequence is >= 0 and < Limit
                && ((_blocks[sequence / BlockBits]?[sequence % BlockBits / 64] ?? 0) & (1UL << (int)(sequence & 63))) != 0;
        }
    }
}
