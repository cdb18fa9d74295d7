using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Control;

/// <summary>How many jobs are where, at one moment.</summary>
public sealed record JobCounts
{
    /// <summary>Due, in the list of their site.</summary>
    public long Waiting { get; init; }

    /// <summary>Waiting for the time of their next attempt.</summary>
    public long Parked { get; init; }

    /// <summary>Held, wherever they are.</summary>
    public long Held { get; init; }

    /// <summary>To be returned to their senders by an operator's command.</summary>
    public long Bouncing { get; init; }

    public long InFlight { get; init; }

    /// <summary>On their way to an owner, or being routed.</summary>
    public long Routing { get; init; }

    /// <summary>Their report or state is being written, or waits for it.</summary>
    public long Settling { get; init; }

    /// <summary>Each with the name that metrics and status give it.</summary>
    public IEnumerable<(string Name, long Count)> ByName() =>
    [
        ("waiting", Waiting), ("parked", Parked), ("held", Held), ("bouncing", Bouncing), ("in_flight", InFlight), ("routing", Routing), ("settling", Settling),
    ];
}

/// <summary>Counts jobs by state in one pass over their entries, seldom enough to cost next to nothing. Safe for concurrent use.</summary>
public sealed class QueueCensus(IMailQueue queue, TimeProvider time)
{
    private static readonly TimeSpan LeastAge = TimeSpan.FromSeconds(3);

    /// <summary>A pass is made again after so many times its own duration at the earliest.</summary>
    private const int Rarity = 50;

    private readonly Lock _gate = new();
    private JobCounts? _last;
    private long _taken;
    private TimeSpan _fresh;

    /// <summary>Counts of a few seconds ago at most; for a very large queue, of a time in proportion.</summary>
    public JobCounts Take()
    {
        lock (_gate)
        {
            if (_last is not null && time.GetElapsedTime(_taken) < _fresh)
            {
                return _last;
            }

            long start = time.GetTimestamp();
            _last = Count(queue.Jobs);
            _taken = time.GetTimestamp();
            TimeSpan pass = time.GetElapsedTime(start, _taken) * Rarity;
            _fresh = pass > LeastAge ? pass : LeastAge;
            return _last;
        }
    }

    private static JobCounts Count(JobTable jobs)
    {
        Span<long> places = stackalloc long[8];
        long held = 0;
        long bouncing = 0;
        int chunks = jobs.Chunks;
        for (int i = 0; i < chunks; i++)
        {
            foreach (ref readonly Job job in jobs.ReadChunk(i))
            {
                if (job.Id == 0)
                {
                    continue;
                }

                if (job.Has(JobFlags.Bouncing))
                {
                    bouncing++;
                }
                else if (job.IsHeld)
                {
                    held++;
                }
                else
                {
                    places[(int)job.Place & 7]++;
                }
            }
        }

        return new JobCounts
        {
            Waiting = places[(int)JobPlace.Waiting],
            Parked = places[(int)JobPlace.Parked],
            Held = held,
            Bouncing = bouncing,
            InFlight = places[(int)JobPlace.InFlight],
            Routing = places[(int)JobPlace.Entering] + places[(int)JobPlace.Routing],
            Settling = places[(int)JobPlace.Settling] + places[(int)JobPlace.ToSettle],
        };
    }
}
