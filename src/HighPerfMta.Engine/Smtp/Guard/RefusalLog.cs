using HighPerfMta.Engine.Auth;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>Whether a client that was turned away is told of: one line a minute for each and each kind of thing, and <see cref="LinesPerMinute"/> for all. An attack fills no disk.</summary>
internal sealed class RefusalLog(TimeProvider time)
{
    /// <summary>Lines a minute, however many clients there are.</summary>
    public const int LinesPerMinute = 60;

    private const int Size = 4096;

    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    private readonly RateTable<(UInt128 Client, string What)> _each = new(1, Minute, Size, time);
    private readonly RateTable<int> _all = new(LinesPerMinute, Minute, 1, time);
    private long _untold;

    /// <summary>True when this one is told.</summary>
    /// <param name="client">The client's network; 0: it is not known.</param>
    /// <param name="what">The kind of thing that is told; one of few.</param>
    /// <param name="untold">How many were not told since the last one that was.</param>
    public bool MayTell(UInt128 client, string what, out long untold)
    {
        if (_each.TryTake((client, what)) && _all.TryTake(0))
        {
            untold = Interlocked.Exchange(ref _untold, 0);
            return true;
        }

        untold = 0;
        Interlocked.Increment(ref _untold);
        return false;
    }
}
