using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using DnsClient;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Engine.Dns;

/// <summary>
/// Lookups with a cache of our own: bounded, with positive and negative times to live (RFC 2308). Equal lookups under way at once are one
/// query. A lookup goes on when its caller gives up, so that the next one finds the answer. Safe for concurrent use.
/// </summary>
public sealed class DnsResolver : IDnsResolver, IDisposable
{
    private readonly GenerationCache<DnsKey, Entry> _cache;
    private readonly ConcurrentDictionary<DnsKey, Task<Entry>> _running = new();
    private readonly SemaphoreSlim _places;
    private readonly CancellationTokenSource _stop = new();
    private readonly DnsTransport _transport;
    private readonly TimeProvider _time;

    public DnsResolver(DnsOptions options, TimeProvider time, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _cache = new GenerationCache<DnsKey, Entry>(options.CacheSize);
        _places = new SemaphoreSlim(Math.Max(1, options.Concurrency));
        _transport = new DnsTransport(options, time, logger ?? NullLogger.Instance);
        _time = time;
    }

    internal readonly record struct DnsKey(string Name, QueryType Type);

    /// <summary>A cached answer: a <see cref="DnsAnswer{T}"/> of the type that belongs to the key.</summary>
    private sealed record Entry(object Answer, long Expires);

    /// <summary>Entries in the cache, expired ones included.</summary>
    public int CacheCount => _cache.Count;

    public ValueTask<DnsAnswer<MxRecord>> LookupMxAsync(string domain, CancellationToken cancellation) =>
        LookupAsync<MxRecord>(new DnsKey(domain, QueryType.MX), cancellation);

    public ValueTask<DnsAnswer<IPAddress>> LookupAddressesAsync(string host, bool ipv6, CancellationToken cancellation) =>
        LookupAsync<IPAddress>(new DnsKey(host, ipv6 ? QueryType.AAAA : QueryType.A), cancellation);

    public bool TryGetMx(string domain, [NotNullWhen(true)] out DnsAnswer<MxRecord>? answer) => TryGet(new DnsKey(domain, QueryType.MX), out answer);

    public void Dispose() => _stop.Cancel();

    private ValueTask<DnsAnswer<T>> LookupAsync<T>(DnsKey key, CancellationToken cancellation) =>
        TryGet(key, out DnsAnswer<T>? answer) ? new ValueTask<DnsAnswer<T>>(answer) : WaitAsync<T>(key, cancellation);

    private bool TryGet<T>(DnsKey key, [NotNullWhen(true)] out DnsAnswer<T>? answer)
    {
        bool valid = _cache.TryGet(key, out Entry? entry) && entry.Expires > _time.GetTimestamp();
        answer = valid ? (DnsAnswer<T>)entry!.Answer : null;
        return valid;
    }

    private async ValueTask<DnsAnswer<T>> WaitAsync<T>(DnsKey key, CancellationToken cancellation)
    {
        if (!_running.TryGetValue(key, out Task<Entry>? running))
        {
            TaskCompletionSource<Entry> mine = new(TaskCreationOptions.RunContinuationsAsynchronously);
            running = _running.GetOrAdd(key, mine.Task);
            if (running == mine.Task)
            {
                _ = RunAsync(key, mine);
            }
        }

        Entry entry = await running.WaitAsync(cancellation);
        return (DnsAnswer<T>)entry.Answer;
    }

    private async Task RunAsync(DnsKey key, TaskCompletionSource<Entry> done)
    {
        try
        {
            DnsTransport.Result result;
            await _places.WaitAsync(_stop.Token);
            try
            {
                result = await _transport.QueryAsync(key.Name, key.Type, _stop.Token);
            }
            finally
            {
                _places.Release();
            }

            long expires = _time.GetTimestamp() + (long)(result.Ttl.TotalSeconds * _time.TimestampFrequency);
            Entry entry = new(key.Type == QueryType.MX ? DnsInterpreter.ToMx(result) : DnsInterpreter.ToAddresses(result), expires);
            _cache.Set(key, entry);
            _running.TryRemove(key, out _);
            done.SetResult(entry);
        }
        catch (OperationCanceledException)
        {
            _running.TryRemove(key, out _);
            done.SetCanceled(_stop.Token);
        }
        catch (Exception error)
        {
            _running.TryRemove(key, out _);
            done.SetException(error);
        }
    }
}
