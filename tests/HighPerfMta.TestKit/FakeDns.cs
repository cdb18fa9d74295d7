using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Dns;

namespace HighPerfMta.TestKit;

/// <summary>DNS answers from a table. What is not in it does not exist.</summary>
public sealed class FakeDns : IDnsResolver
{
    private readonly ConcurrentDictionary<string, DnsAnswer<MxRecord>> _mx = [];
    private readonly ConcurrentDictionary<(string Host, bool IPv6), DnsAnswer<IPAddress>> _addresses = [];

    /// <summary>Every lookup in order, for example "MX example.com".</summary>
    public ConcurrentQueue<string> Lookups { get; } = [];

    /// <summary>MX answers are given by <see cref="TryGetMx"/> too, as from a cache.</summary>
    public bool Cached { get; set; } = true;

    /// <summary>Awaited before every answer.</summary>
    public Func<string, Task>? Before { get; set; }

    /// <summary>MX records, for example "10 mx1.example.com"; "0 ." is a null MX. The domain exists.</summary>
    public FakeDns Mx(string domain, params string[] records)
    {
        MxRecord[] parsed = [.. records.Select(static r => new MxRecord(ushort.Parse(r.Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture), r.Split(' ')[1].TrimEnd('.')))];
        _mx[domain] = new DnsAnswer<MxRecord>(parsed.Length == 0 ? DnsStatus.NoData : DnsStatus.Found, parsed);
        return this;
    }

    public FakeDns MxStatus(string domain, DnsStatus status)
    {
        _mx[domain] = new DnsAnswer<MxRecord>(status, [], false, $"told to be {status}");
        return this;
    }

    /// <summary>Addresses of both families; a family without any is NODATA.</summary>
    public FakeDns Host(string host, params string[] addresses)
    {
        IPAddress[] parsed = [.. addresses.Select(IPAddress.Parse)];
        foreach (bool six in (bool[])[true, false])
        {
            IPAddress[] family = [.. parsed.Where(a => a.AddressFamily == AddressFamily.InterNetworkV6 == six)];
            _addresses[(host, six)] = new DnsAnswer<IPAddress>(family.Length == 0 ? DnsStatus.NoData : DnsStatus.Found, family);
        }

        return this;
    }

    public FakeDns HostStatus(string host, DnsStatus status)
    {
        _addresses[(host, true)] = _addresses[(host, false)] = new DnsAnswer<IPAddress>(status, [], false, $"{host} told to be {status}");
        return this;
    }

    public async ValueTask<DnsAnswer<MxRecord>> LookupMxAsync(string domain, CancellationToken cancellation)
    {
        await WaitAsync($"MX {domain}", cancellation);
        return _mx.GetValueOrDefault(domain, Missing<MxRecord>(domain));
    }

    public async ValueTask<DnsAnswer<IPAddress>> LookupAddressesAsync(string host, bool ipv6, CancellationToken cancellation)
    {
        await WaitAsync(ipv6 ? $"AAAA {host}" : $"A {host}", cancellation);
        return _addresses.GetValueOrDefault((host, ipv6), Missing<IPAddress>(host));
    }

    public bool TryGetMx(string domain, [NotNullWhen(true)] out DnsAnswer<MxRecord>? answer)
    {
        answer = null;
        return Cached && _mx.TryGetValue(domain, out answer);
    }

    private async ValueTask WaitAsync(string lookup, CancellationToken cancellation)
    {
        Lookups.Enqueue(lookup);
        if (Before?.Invoke(lookup) is { } before)
        {
            await before.WaitAsync(cancellation);
        }
    }

    private static DnsAnswer<T> Missing<T>(string name) => new(DnsStatus.NoSuchName, [], false, $"{name} does not exist");
}
