using BenchmarkDotNet.Attributes;
using HighPerfMta.Engine.Dns;

namespace HighPerfMta.Microbench.Dns;

/// <summary>The MX records of a domain, from the resolver that the server uses: asked of a name server on loopback, and known already.</summary>
[MemoryDiagnoser]
#pragma warning disable CA1001 // Disposed in the cleanup, as BenchmarkDotNet has it.
public class LookupBench
#pragma warning restore CA1001
{
    private const string Domain = "mail.example.net";

    private readonly LeapingClock _clock = new();
    private MxResponder? _responder;
    private DnsResolver? _resolver;

    [GlobalSetup]
    public async Task SetupAsync()
    {
        _responder = new MxResponder();
        _resolver = new DnsResolver(new DnsOptions { Servers = [_responder.Endpoint] }, _clock);
        await Uncached();
    }

    [GlobalCleanup]
    public async Task CleanupAsync()
    {
        _resolver?.Dispose();
        if (_responder is not null)
        {
            await _responder.DisposeAsync();
        }
    }

    /// <summary>What the cache holds has expired; the answer takes its place.</summary>
    [Benchmark]
    [Ungated("a message of a library over a socket of its own")]
    public async Task Uncached()
    {
        _clock.Leap();
        DnsAnswer<MxRecord> answer = await _resolver!.LookupMxAsync(Domain, CancellationToken.None);
        if (answer.Records.Count != 2)
        {
            throw new InvalidOperationException($"The name server on loopback was not understood: {answer.Status} {answer.Explanation}");
        }
    }

    [Benchmark]
    public DnsAnswer<MxRecord> Cached()
    {
        ValueTask<DnsAnswer<MxRecord>> lookup = _resolver!.LookupMxAsync(Domain, CancellationToken.None);
        if (lookup.IsCompletedSuccessfully)
        {
            return lookup.GetAwaiter().GetResult();
        }

        throw new InvalidOperationException("The answer is not in the cache.");
    }

    /// <summary>Stands still but for leaps that are longer than any answer lives.</summary>
    private sealed class LeapingClock : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Volatile.Read(ref _now);

        public void Leap() => Interlocked.Add(ref _now, TimeSpan.TicksPerDay);
    }
}
