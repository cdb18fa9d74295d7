using System.Diagnostics.CodeAnalysis;

namespace HighPerfMta.Engine.Auth;

/// <summary>A table of at most so many entries; the one that was set least lately makes room.</summary>
/// <param name="size">Entries; 0 keeps none.</param>
internal sealed class BoundedTable<TKey, TValue>(int size)
    where TKey : notnull
{
    private readonly Dictionary<TKey, LinkedListNode<(TKey Key, TValue Value)>> _entries = [];
    private readonly LinkedList<(TKey Key, TValue Value)> _order = [];
    private readonly Lock _gate = new();

    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _entries.Count;
            }
        }
    }

    public bool TryGet(TKey key, [MaybeNullWhen(false)] out TValue value)
    {
        lock (_gate)
        {
            bool found = _entries.TryGetValue(key, out LinkedListNode<(TKey Key, TValue Value)>? node);
            value = found ? node!.Value.Value : default;
            return found;
        }
    }

    public void Set(TKey key, TValue value) => Update(key, _ => value);

    public void Remove(TKey key)
    {
        lock (_gate)
        {
            if (_entries.Remove(key, out LinkedListNode<(TKey Key, TValue Value)>? node))
            {
                _order.Remove(node);
            }
        }
    }

    /// <summary>Sets what <paramref name="change"/> makes of the entry, or of the default.</summary>
    public TValue Update(TKey key, Func<TValue?, TValue> change)
    {
        lock (_gate)
        {
            if (_entries.Remove(key, out LinkedListNode<(TKey Key, TValue Value)>? node))
            {
                _order.Remove(node);
            }

            TValue value = change(node is null ? default : node.Value.Value);
            if (size > 0)
            {
                while (_entries.Count >= size)
                {
                    _entries.Remove(_order.First!.Value.Key);
                    _order.RemoveFirst();
                }

                _entries[key] = _order.AddLast((key, value));
            }

            return value;
        }
    }
}
