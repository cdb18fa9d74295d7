using System.Diagnostics;

namespace HighPerfMta.Queue.Async;

/// <summary>
/// Decides for one thread whether it keeps to its processor. It does while it is busy: then there is always something on each processor that takes the next work, and what keeps a processor from it is most often
/// the server itself. A thread that is mostly at rest may go where there is room, for it must not wait behind another program while a processor is free.
/// </summary>
/// <param name="place">See <see cref="ThreadPlacement"/>.</param>
/// <param name="decide">Called on the thread after each watch with the place, whether it keeps to it, and whether it did not before or does no more.</param>
public sealed class PlaceKeeper(int place, Action<int, bool, bool> decide)
{
    /// <summary>How long a thread is watched before each decision.</summary>
    public static readonly TimeSpan Watch = TimeSpan.FromMilliseconds(20);

    /// <summary>Share of the time from which on a thread is busy.</summary>
    public const double Busy = 0.2;

    /// <summary>Share of the time below which it is so no more.</summary>
    public const double Quiet = 0.1;

    private static readonly long WatchTicks = (long)(Watch.TotalSeconds * Stopwatch.Frequency);

    private long _since = Stopwatch.GetTimestamp();
    private long _woken = Stopwatch.GetTimestamp();
    private long _worked;

    public PlaceKeeper(int place)
        : this(place, ThreadPlacement.Decide)
    {
    }

    public bool Keeps { get; private set; }

    /// <summary>The thread goes to sleep at that time (<see cref="Stopwatch"/>).</summary>
    public void Sleeps(long now)
    {
        _worked += now - _woken;
        long watched = now - _since;
        if (watched < WatchTicks)
        {
            return;
        }

        double share = (double)_worked / watched;
        bool keeps = share >= (Keeps ? Quiet : Busy);
        _since = now;
        _worked = 0;
        bool changed = keeps != Keeps;
        Keeps = keeps;
        decide(place, keeps, changed);
    }

    public void Wakes(long now) => _woken = now;
}
