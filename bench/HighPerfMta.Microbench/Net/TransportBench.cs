using System.Net.Sockets;
using BenchmarkDotNet.Attributes;

namespace HighPerfMta.Microbench.Net;

/// <summary>A command and its reply, 64 octets each, over loopback: our transport, and the pipes of Pipelines.Sockets.Unofficial. The client's share is the same in both.</summary>
[MemoryDiagnoser]
public class TransportBench
{
    private EchoPair? _own;
    private EchoPair? _pipes;

    [GlobalSetup]
    public async Task SetupAsync()
    {
        using Socket listener = EchoPair.Listen();
        _own = await EchoPair.OpenAsync(listener);
        _own.Serve(EchoPair.Own);
        _pipes = await EchoPair.OpenAsync(listener);
        _pipes.Serve(EchoPair.Pipes);
    }

    [GlobalCleanup]
    public async Task CleanupAsync()
    {
        foreach (EchoPair? pair in (EchoPair?[])[_own, _pipes])
        {
            if (pair is not null)
            {
                await pair.DisposeAsync();
            }
        }
    }

    [Benchmark]
    public void Own() => _own!.Exchange();

    [Benchmark(Baseline = true)]
    [Ungated("the code is the package's")]
    public void Pipes() => _pipes!.Exchange();
}
