namespace HighPerfMta.Engine.Auth;

/// <summary>
/// How much each of many does. What was taken leaks away evenly: a limit of 60 an hour gives one back each minute, after a burst of up to 60. What is refused takes
/// nothing. The table is a <see cref="BoundedTable{TKey, TValue}"/>: whoever is forgotten begins anew.
/// </summary>
/// <param name="limit">Of the window; 0: there is none, and nothing is counted.</param>
/// <param name="window">The time in which a full count leaks away.</param>
/// <param name="size">Keys that are counted.</param>
/// <param name="time">The clock.</param>
internal sealed class RateTable<TKey>(int limit, TimeSpan window, int size, TimeProvider time)
    where TKey : notnull
{
    private readonly BoundedTable<TKey, Level> _levels = new(limit > 0 ? size : 0);

    /// <summary>Keys that are counted now.</summary>
    public int Count => _levels.Count;

    /// <summary>Takes one, if there is room for it.</summary>
    public bool TryTake(TKey key)
    {
        bool hasRoom = true;
        if (limit > 0)
        {
            _levels.Update(key, level =>
            {
                double now = Leaked(level);
                hasRoom = now + 1 <= limit;
                return new Level(hasRoom ? now + 1 : now, time.GetTimestamp());
            });
        }

        return hasRoom;
    }

    /// <summary>Gives back what was taken in vain.</summary>
    public void Return(TKey key, int count)
    {
        if (limit > 0 && count > 0)
        {
            _levels.Update(key, level => new Level(Math.Max(0, Leaked(level) - count), time.GetTimestamp()));
        }
    }

    private double Leaked(Level level) => Math.Max(0, level.Value - (time.GetElapsedTime(level.At).TotalSeconds * limit / window.TotalSeconds));

    private readonly record struct Level(double Value, long At);
}
