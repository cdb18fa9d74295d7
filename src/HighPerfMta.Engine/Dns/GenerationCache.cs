using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace HighPerfMta.Engine.Dns;

/// <summary>
/// A bounded cache that forgets what was not used lately: two generations of half the size each. When the young one is full it becomes the
/// old one, and the old one is dropped; a hit in the old one moves the entry to the young one. Readers take no lock.
/// </summary>
internal sealed class GenerationCache<TKey, TValue>(int size)
    where TKey : notnull
    where TValue : class
{
    private readonly int _half = Math.Max(1, size / 2);
    private readonly Lock _gate = new();
    private volatile ConcurrentDictionary<TKey, TValue> _young = new();
    private volatile ConcurrentDictionary<TKey, TValue> _old = new();
    private int _youngCount;

    /// <summary>Entries held now, at most the size; an entry that was replaced while it aged may count twice.</summary>
    public int Count => _young.Count + _old.Count;

    public bool TryGet(TKey key, [NotNullWhen(true)] out TValue? value)
    {
        if (_young.TryGetValue(key, out value))
        {
            return true;
        }

        if (_old.TryGetValue(key, out value))
        {
            Set(key, value);
            return true;
        }

        return false;
    }

    public void Set(TKey key, TValue value)
    {
        lock (_gate)
        {
            if (_young.ContainsKey(key))
            {
                _young[key] = value;
                return;
            }

            if (_youngCount >= _half)
            {
                _old = _young;
                _young = new ConcurrentDictionary<TKey, TValue>();
                _youngCount = 0;
            }

            _young[key] = value;
            _youngCount++;
        }
    }
}
