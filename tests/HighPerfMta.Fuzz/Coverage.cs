using System.Runtime.InteropServices;

namespace HighPerfMta.Fuzz;

/// <summary>What instrumented assemblies write: a count for each edge between pieces of code. Without such assemblies it stays empty.</summary>
internal sealed unsafe class Coverage
{
    private const int Size = 64 << 10;

    /// <summary>Never freed: threads of a target that has ended may still write to it.</summary>
    private static readonly byte* _map = (byte*)NativeMemory.AllocZeroed(Size);

    private readonly byte[] _seen = new byte[Size];

    public bool IsThere => Edges > 0;

    public int Edges { get; private set; }

    /// <summary>To be called before anything of an instrumented assembly runs: it writes wherever it is told to.</summary>
    public static void Install() => SharpFuzz.Common.Trace.SharedMem = _map;

    public static void Clear() => new Span<byte>(_map, Size).Clear();

    /// <summary>An edge was taken that never was, or many more times than ever.</summary>
    public bool HasNew()
    {
        bool isNew = false;
        ReadOnlySpan<byte> map = new(_map, Size);
        for (int at = map.IndexOfAnyExcept((byte)0); at >= 0;)
        {
            byte level = (byte)(1 << int.Log2(map[at]));
            Edges += _seen[at] == 0 ? 1 : 0;
            isNew |= (_seen[at] & level) == 0;
            _seen[at] |= level;
            int more = map[(at + 1)..].IndexOfAnyExcept((byte)0);
            at = more < 0 ? -1 : at + 1 + more;
        }

        return isNew;
    }
}
