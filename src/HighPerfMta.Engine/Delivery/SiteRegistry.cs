using System.Collections.Concurrent;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// Numbers for the sites of all shards, as jobs refer to them. A number is its site's as long as the site has jobs or connections, and is given to another one later. Safe for concurrent use;
/// a site is added and removed by its shard.
/// </summary>
internal sealed class SiteRegistry
{
    private readonly ConcurrentDictionary<string, SiteQueue> _byKey = new(StringComparer.Ordinal);
    private readonly Stack<int> _free = [];
    private readonly Lock _gate = new();
    private SiteQueue?[] _sites = new SiteQueue?[64];
    private int _last;

    /// <summary>The site; null for 0 and for a number that is nobody's.</summary>
    public SiteQueue? this[int number]
    {
        get
        {
            SiteQueue?[] sites = Volatile.Read(ref _sites);
            return number > 0 && number < sites.Length ? Volatile.Read(ref sites[number]) : null;
        }
    }

    public int Count => _byKey.Count;

    public SiteQueue? Find(string key) => _byKey.GetValueOrDefault(key);

    public void Add(SiteQueue site)
    {
        lock (_gate)
        {
            if (!_free.TryPop(out int number))
            {
                number = ++_last;
                if (number == _sites.Length)
                {
                    SiteQueue?[] larger = new SiteQueue?[_sites.Length * 2];
                    _sites.CopyTo(larger, 0);
                    Volatile.Write(ref _sites, larger);
                }
            }

            site.Number = number;
            Volatile.Write(ref _sites[number], site);
        }

        _byKey[site.Key] = site;
    }

    public void Remove(SiteQueue site)
    {
        _byKey.TryRemove(new KeyValuePair<string, SiteQueue>(site.Key, site));
        lock (_gate)
        {
            Volatile.Write(ref _sites[site.Number], null);
            _free.Push(site.Number);
        }
    }
}
