using System.Numerics;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>A set of numbers as ranges that neither overlap nor touch, in order: two numbers a range, found by halving.</summary>
internal sealed class AddressRanges<T>
    where T : struct, IBinaryInteger<T>, IMinMaxValue<T>
{
    private readonly T[] _first;
    private readonly T[] _last;

    /// <param name="ranges">From and to, both included, in any order; they may overlap.</param>
    public AddressRanges(IEnumerable<(T First, T Last)> ranges)
    {
        List<T> first = [];
        List<T> last = [];
        foreach ((T from, T to) in ranges.OrderBy(static r => r.First))
        {
            if (last.Count > 0 && (last[^1] == T.MaxValue || from <= last[^1] + T.One))
            {
                last[^1] = T.Max(last[^1], to);
            }
            else
            {
                first.Add(from);
                last.Add(to);
            }
        }

        _first = [.. first];
        _last = [.. last];
    }

    /// <summary>Ranges that are left of those given.</summary>
    public int Count => _first.Length;

    public bool Holds(T value)
    {
        int index = Array.BinarySearch(_first, value);
        index = index < 0 ? ~index - 1 : index;
        return index >= 0 && value <= _last[index];
    }
}
