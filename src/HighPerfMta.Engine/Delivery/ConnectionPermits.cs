namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// The permits of all outbound connections, shared by the shards. A permit is held from before a connection is opened until after it is closed.
/// Taking never waits: a shard that gets none counts itself as starved and is woken when one comes free.
/// </summary>
internal sealed class ConnectionPermits(int limit)
{
    private int _used;
    private int _starving;

    /// <summary>Called on the thread that released a permit while someone was starving.</summary>
    public Action? Freed { get; set; }

    public int Used => Volatile.Read(ref _used);

    /// <summary>Sites, in all shards, that wait for their first permit.</summary>
    public int Starving => Volatile.Read(ref _starving);

    public bool TryTake()
    {
        int used = Volatile.Read(ref _used);
        while (used < limit)
        {
            int seen = Interlocked.CompareExchange(ref _used, used + 1, used);
            if (seen == used)
            {
                return true;
            }

            used = seen;
        }

        return false;
    }

    public void Release()
    {
        Interlocked.Decrement(ref _used);
        if (Starving > 0)
        {
            Freed?.Invoke();
        }
    }

    public void AddStarving() => Interlocked.Increment(ref _starving);

    public void RemoveStarving() => Interlocked.Decrement(ref _starving);
}
