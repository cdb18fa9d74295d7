namespace HighPerfMta.Queue.Log;

/// <summary>
/// Decides when a commit that is wanted begins. Who comes alone is committed at once; where many wait at once they share a flush instead of queueing for one after the other: the commit waits
/// until as many have come as lately waited at the same time, but no longer than <see cref="Patience"/>. Not safe for concurrent use.
/// </summary>
internal sealed class CommitCrowd(TimeProvider time)
{
    /// <summary>The longest that a commit waits for others to join it; the finest that a loop can sleep.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(1);

    /// <summary>A larger crowd does not wait for the last of it.</summary>
    public const int Most = 64;

    private int _size = 1;
    private int _came;
    private long _since;

    /// <summary>One more waits for the next commit. True when the loop has to be told: the first is there, or the last of a crowd.</summary>
    public bool Arrive()
    {
        _came++;
        return _came == 1 || _came >= _size;
    }

    /// <summary>Whether the wanted commit still waits for more.</summary>
    /// <param name="rested">The loop slept as long as it wanted.</param>
    public bool Gathers(bool rested)
    {
        if (_came >= _size)
        {
            return false;
        }

        if (_since == 0)
        {
            _since = Math.Max(1, time.GetTimestamp());
            return true;
        }

        if (!rested && time.GetElapsedTime(_since) < Patience)
        {
            return true;
        }

        // So many do not come within that time.
        _size = Math.Max(1, _came);
        return false;
    }

    /// <summary>A commit for all who came has begun.</summary>
    public void Committing()
    {
        _came = 0;
        _since = 0;
    }

    /// <summary>A flush has ended: those that it was for, and those that came while it was made, waited at the same time.</summary>
    public void Flushed(int ready, int waiting)
    {
        if (ready > 0)
        {
            _size = Math.Min(ready + waiting, Most);
        }
    }

    /// <summary>How long the loop may sleep now that a commit is wanted.</summary>
    public TimeSpan Wait => _since == 0 ? TimeSpan.Zero : Patience;
}
