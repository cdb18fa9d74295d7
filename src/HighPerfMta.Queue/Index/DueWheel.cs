using System.Numerics;

namespace HighPerfMta.Queue.Index;

/// <summary>When a job has to be looked at, in <see cref="DueTime"/> units.</summary>
public delegate uint JobTime(in Job job);

/// <summary>
/// A hierarchical timer wheel over jobs: four levels of 256 lists that run through the jobs' own links, so that adding, removing and taking what is due
/// cost the same however many there are. The time of a job is <see cref="Job.Due"/> (units of <see cref="DueTime"/>), or what <paramref name="time"/> makes of the job; it must not change while the job is in the wheel.
/// Owned by one thread.
/// </summary>
/// <param name="jobs">The jobs.</param>
/// <param name="time">A job's time; null: <see cref="Job.Due"/>.</param>
public sealed class DueWheel(JobTable jobs, JobTime? time = null)
{
    private const int Bits = 8;
    private const int Slots = 1 << Bits;
    private const int Levels = 4;
    private const uint MaxLag = 16;

    private readonly JobList[] _lists = new JobList[Levels * Slots];
    private readonly ulong[] _used = new ulong[Levels * Slots / 64];
    private uint _now;

    public int Count { get; private set; }

    /// <summary>Adds a job that is in no list; what is due already comes out at the next <see cref="TakeDue"/>.</summary>
    public void Add(int slot)
    {
        Put(slot);
        Count++;
    }

    public void Remove(int slot)
    {
        int list = ListOf(TimeOf(slot));
        _lists[list].Remove(jobs, slot);
        MarkEmpty(list);
        Count--;
    }

    /// <summary>Whether a job that may be in no list, or in one outside of the wheel, is in it.</summary>
    public bool Contains(int slot) => _lists[ListOf(TimeOf(slot))].Contains(jobs, slot);

    private uint TimeOf(int slot) => time is null ? jobs[slot].Due : time(in jobs[slot]);

    // The level is that of the highest byte in which the time differs from now: a job is always found by its time alone.
    private int ListOf(uint due)
    {
        uint at = Math.Max(due, _now);
        uint differing = at ^ _now;
        int level = differing == 0 ? 0 : (31 - BitOperations.LeadingZeroCount(differing)) / Bits;
        return (level * Slots) + (int)((at >> (level * Bits)) & (Slots - 1));
    }

    private void Put(int slot)
    {
        int list = ListOf(TimeOf(slot));
        _lists[list].AddLast(jobs, slot);
        _used[list >> 6] |= 1UL << list;
    }

    private void MarkEmpty(int list)
    {
        if (_lists[list].IsEmpty)
        {
            _used[list >> 6] &= ~(1UL << list);
        }
    }

    /// <summary>
    /// Takes out a job that is due at <paramref name="reached"/> (see <see cref="DueTime.Reached"/>) or before; 0 when there is none. A clock that was set back by
    /// more than two seconds costs one pass over all jobs.
    /// </summary>
    public int TakeDue(uint reached)
    {
        if (reached < _now)
        {
            if (_now - reached <= MaxLag)
            {
                return 0;
            }

            GoBack(reached);
        }

        while (true)
        {
            int list = (int)(_now & (Slots - 1));
            int slot = _lists[list].TakeFirst(jobs);
            if (slot != 0)
            {
                MarkEmpty(list);
                Count--;
                return slot;
            }

            if (_now >= reached || Count == 0)
            {
                _now = Count == 0 ? Math.Max(_now, reached) : _now;
                return 0;
            }

            Advance(Math.Min(reached, NextChange()));
        }
    }

    /// <summary>When something is due, or has to be sorted finer, next: never later than the first due job; <see cref="uint.MaxValue"/> when there is none.</summary>
    public uint NextDue => Count == 0 ? uint.MaxValue : _lists[_now & (Slots - 1)].IsEmpty ? NextChange() : _now;

    /// <summary>The first unit after now at which a list comes up: at level 0 its own, above the one at which it is spread over the levels below.</summary>
    private uint NextChange()
    {
        for (int level = 0; level < Levels; level++)
        {
            int shift = level * Bits;
            int position = (int)((_now >> shift) & (Slots - 1));
            int found = NextUsed(level, position + 1);
            if (found >= 0)
            {
                uint above = level == Levels - 1 ? 0 : _now >> (shift + Bits) << (shift + Bits);
                return above | ((uint)found << shift);
            }
        }

        return uint.MaxValue;
    }

    private int NextUsed(int level, int from)
    {
        for (int i = from; i < Slots; i = (i | 63) + 1)
        {
            ulong word = _used[((level * Slots) + i) >> 6] >> (i & 63);
            if (word != 0)
            {
                return i + BitOperations.TrailingZeroCount(word);
            }
        }

        return -1;
    }

    private void Advance(uint to)
    {
        uint before = _now;
        _now = to;
        for (int level = Levels - 1; level > 0; level--)
        {
            int shift = level * Bits;
            if (before >> shift != to >> shift)
            {
                Spread((level * Slots) + (int)((to >> shift) & (Slots - 1)));
            }
        }
    }

    private void GoBack(uint to)
    {
        JobList all = default;
        for (int list = 0; list < _lists.Length; list++)
        {
            for (int slot = _lists[list].TakeFirst(jobs); slot != 0; slot = _lists[list].TakeFirst(jobs))
            {
                all.AddLast(jobs, slot);
            }
        }

        Array.Clear(_used);
        _now = to;
        for (int slot = all.TakeFirst(jobs); slot != 0; slot = all.TakeFirst(jobs))
        {
            Put(slot);
        }
    }

    private void Spread(int list)
    {
        while (true)
        {
            int slot = _lists[list].TakeFirst(jobs);
            if (slot == 0)
            {
                MarkEmpty(list);
                return;
            }

            Put(slot);
        }
    }
}
