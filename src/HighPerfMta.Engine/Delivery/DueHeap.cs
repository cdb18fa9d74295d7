namespace HighPerfMta.Engine.Delivery;

/// <summary>Something that happens at a time; it is in at most one <see cref="DueHeap"/>, and only that heap touches these fields.</summary>
internal abstract class Timed
{
    /// <summary>UTC ticks; valid while in the heap.</summary>
    internal long Due;

    internal int HeapIndex = -1;
}

/// <summary>
/// A 4-ary heap by due time, 16 bytes an entry, with change and removal by entry. What is added last is mostly due last, so that adding costs
/// next to nothing. Owned by one shard; not for concurrent use.
/// </summary>
internal sealed class DueHeap
{
    private const int Arity = 4;

    private Entry[] _entries = new Entry[64];

    private readonly record struct Entry(long Due, Timed Item);

    public int Count { get; private set; }

    /// <summary>When the first entry is due; <see cref="long.MaxValue"/> when there is none.</summary>
    public long FirstDue => Count == 0 ? long.MaxValue : _entries[0].Due;

    public Timed this[int index] => _entries[index].Item;

    /// <summary>Adds the item or moves it to a new time.</summary>
    public void Set(Timed item, long due)
    {
        if (item.HeapIndex < 0)
        {
            if (Count == _entries.Length)
            {
                Array.Resize(ref _entries, Count * 2);
            }

            item.Due = due;
            Raise(Count++, new Entry(due, item));
            return;
        }

        long before = item.Due;
        item.Due = due;
        if (due < before)
        {
            Raise(item.HeapIndex, new Entry(due, item));
        }
        else if (due > before)
        {
            Sink(item.HeapIndex, new Entry(due, item));
        }
    }

    public void Remove(Timed item)
    {
        int at = item.HeapIndex;
        if (at < 0)
        {
            return;
        }

        item.HeapIndex = -1;
        Entry last = _entries[--Count];
        _entries[Count] = default;
        if (at < Count)
        {
            if (at > 0 && last.Due < _entries[(at - 1) / Arity].Due)
            {
                Raise(at, last);
            }
            else
            {
                Sink(at, last);
            }
        }

        Shrink();
    }

    /// <summary>Takes out the first entry if it is due.</summary>
    public Timed? TakeDue(long now)
    {
        if (Count == 0 || FirstDue > now)
        {
            return null;
        }

        Timed first = _entries[0].Item;
        Remove(first);
        return first;
    }

    private void Raise(int at, Entry entry)
    {
        while (at > 0)
        {
            int parent = (at - 1) / Arity;
            if (_entries[parent].Due <= entry.Due)
            {
                break;
            }

            Put(at, _entries[parent]);
            at = parent;
        }

        Put(at, entry);
    }

    private void Sink(int at, Entry entry)
    {
        while (true)
        {
            int first = (at * Arity) + 1;
            if (first >= Count)
            {
                break;
            }

            int least = first;
            int end = Math.Min(first + Arity, Count);
            for (int child = first + 1; child < end; child++)
            {
                if (_entries[child].Due < _entries[least].Due)
                {
                    least = child;
                }
            }

            if (_entries[least].Due >= entry.Due)
            {
                break;
            }

            Put(at, _entries[least]);
            at = least;
        }

        Put(at, entry);
    }

    private void Put(int at, Entry entry)
    {
        _entries[at] = entry;
        entry.Item.HeapIndex = at;
    }

    private void Shrink()
    {
        if (_entries.Length > 1024 && Count < _entries.Length / 4)
        {
            Array.Resize(ref _entries, _entries.Length / 2);
        }
    }
}
