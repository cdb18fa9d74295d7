namespace HighPerfMta.Queue.Index;

/// <summary>
/// Names that many jobs share, each kept once and counted: a number stays its name's as long as somebody refers to it. At most
/// <paramref name="limit"/> at once; further ones get number 0 and are not kept. Safe for concurrent use.
/// </summary>
public sealed class NameTable(int limit)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, int> _numbers = new(StringComparer.Ordinal);
    private readonly List<int> _free = [];
    private string?[] _names = new string?[64];
    private int[] _references = new int[64];
    private int _last;
    private int _restored;

    /// <summary>Names kept now.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _numbers.Count;
            }
        }
    }

    /// <summary>The highest number ever given: for scans and for tables by number.</summary>
    public int Highest => Volatile.Read(ref _last);

    /// <summary>The name's number, with a reference to it; 0 when it is new and there is no room.</summary>
    public int Acquire(ReadOnlySpan<char> name)
    {
        lock (_gate)
        {
            Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> numbers = _numbers.GetAlternateLookup<ReadOnlySpan<char>>();
            if (numbers.TryGetValue(name, out int known))
            {
                _references[known]++;
                return known;
            }

            if (_numbers.Count >= limit)
            {
                return 0;
            }

            int given = Next();
            string kept = name.ToString();
            _numbers[kept] = given;
            _references[given] = 1;
            Volatile.Write(ref _names[given], kept);
            return given;
        }
    }

    /// <summary>One more reference to a name that has one; nothing for 0.</summary>
    public void AddReference(int number)
    {
        if (number != 0)
        {
            lock (_gate)
            {
                _references[number]++;
            }
        }
    }

    /// <summary>One reference less; nothing for 0.</summary>
    public void Release(int number)
    {
        if (number == 0)
        {
            return;
        }

        lock (_gate)
        {
            if (--_references[number] == 0)
            {
                _numbers.Remove(_names[number]!);
                Volatile.Write(ref _names[number], null);
                _free.Add(number);
            }
        }
    }

    /// <summary>The name; null when the number is nobody's.</summary>
    public string? Get(int number)
    {
        string?[] names = Volatile.Read(ref _names);
        return number > 0 && number < names.Length ? Volatile.Read(ref names[number]) : null;
    }

    /// <summary>The number of a name that is kept; 0 when it is not.</summary>
    public int Find(string name)
    {
        lock (_gate)
        {
            return _numbers.GetValueOrDefault(name);
        }
    }

    /// <summary>
    /// Puts a name back under the number that it had, kept until <see cref="EndRestore"/> even if nobody refers to it; only before any other use.
    /// </summary>
    public void Restore(int number, string name)
    {
        lock (_gate)
        {
            Grow(number);
            _names[number] = name;
            _numbers[name] = number;
            _references[number]++;
            _last = Math.Max(_last, number);
            _restored = _last;
        }
    }

    /// <summary>After the last <see cref="Restore"/>, when all references to the names were added: drops what nobody refers to.</summary>
    public void EndRestore()
    {
        for (int i = 1; i <= _restored; i++)
        {
            lock (_gate)
            {
                if (_names[i] is null)
                {
                    _free.Add(i);
                    continue;
                }
            }

            Release(i);
        }

        _restored = 0;
    }

    private int Next()
    {
        if (_free.Count > 0)
        {
            int free = _free[^1];
            _free.RemoveAt(_free.Count - 1);
            return free;
        }

        Grow(_last + 1);
        Volatile.Write(ref _last, _last + 1);
        return _last;
    }

    private void Grow(int number)
    {
        if (number >= _names.Length)
        {
            int size = Math.Max(number + 1, _names.Length * 2);
            Array.Resize(ref _references, size);
            string?[] larger = new string?[size];
            _names.CopyTo(larger, 0);
            Volatile.Write(ref _names, larger);
        }
    }
}

/// <summary>The names that jobs refer to by number.</summary>
public sealed class JobNames
{
    /// <summary>Number in <see cref="Domains"/> that stands for the domain of a sender who is not kept at all.</summary>
    public const int UnknownDomain = 1;

    public JobNames() => Domains.Acquire("?");

    /// <summary>Domains of recipients, and of senders that are not kept whole.</summary>
    public NameTable Domains { get; } = new(1_000_000);

    /// <summary>Whole sender addresses; when there are more of them, only their domains are kept.</summary>
    public NameTable Senders { get; } = new(65_535);

    /// <summary>Last replies, as lists show them.</summary>
    public NameTable Reasons { get; } = new(ushort.MaxValue);

    /// <summary>Next hops that operators chose.</summary>
    public NameTable Routes { get; } = new(ushort.MaxValue);

    /// <summary>
    /// For <see cref="Job.RecipientHash"/>: never 0. Local parts that differ in case alone have the same, as operators look for them in any case. The same on every machine
    /// and in every run, as it is in checkpoints.
    /// </summary>
    public static ushort HashOf(ReadOnlySpan<char> localPart)
    {
        // FNV-1a, folded. What is not ASCII counts as one character: case is simple there only for some.
        uint hash = 2166136261;
        foreach (char c in localPart)
        {
            uint folded = c < 128 ? char.ToLowerInvariant(c) : 128u;
            hash = (hash ^ folded) * 16777619;
        }

        ushort half = (ushort)(hash ^ (hash >> 16));
        return half == 0 ? (ushort)1 : half;
    }
}
