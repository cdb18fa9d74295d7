namespace HighPerfMta.Queue.Log;

/// <summary>
/// Tells from the last commits whether the next one should let records gather first. A commit costs its thread and those that it wakes about what receiving a message costs. So a short pause pays where
/// another record comes in that time; where fewer come it only makes everyone wait. Where each commit serves many already (a slow disk gathers them by itself) there is little left to share, and where each serves one
/// or two there are few clients: they all wait for this very commit.
/// </summary>
internal sealed class CommitPace
{
    /// <summary>How long records gather. What a thread sleeps is longer by what the kernel allows itself, 50 µs by default.</summary>
    public static readonly TimeSpan Gathering = TimeSpan.FromMicroseconds(100);

    /// <summary>Records that wait for a commit on the average, up to which nothing gathers.</summary>
    public const double Few = 2.5;

    /// <summary>Records that wait for a commit on the average, from which on nothing gathers.</summary>
    public const int Many = 16;

    // Some sixteen commits are remembered. A quiet time counts as little as this, so that a burst is seen within a few dozen of them.
    private const double Kept = 15d / 16;
    private static readonly TimeSpan LongestGap = TimeSpan.FromMilliseconds(10);

    private double _served;
    private double _commits;
    private double _ticks;

    public bool ShouldGather => _served * Gathering.Ticks > _ticks && _served > Few * _commits && _served < Many * _commits;

    /// <param name="served">Records that were waited for and that the commit made durable; a commit that nobody waited for does not count.</param>
    /// <param name="gap">Time since the commit before.</param>
    public void Note(int served, TimeSpan gap)
    {
        if (served == 0)
        {
            return;
        }

        _served = (_served * Kept) + served;
        _commits = (_commits * Kept) + 1;
        _ticks = (_ticks * Kept) + Math.Min(gap.Ticks, LongestGap.Ticks);
    }
}
