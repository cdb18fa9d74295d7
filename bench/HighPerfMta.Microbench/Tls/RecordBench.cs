using System.Net.Security;
using System.Security.Authentication;
using BenchmarkDotNet.Attributes;

namespace HighPerfMta.Microbench.Tls;

/// <summary>64 KiB from a client to a server over an established connection of TLS 1.3 in memory: encrypted, copied, and decrypted, on one thread.</summary>
[MemoryDiagnoser]
#pragma warning disable CA1001 // Disposed in the cleanup, as BenchmarkDotNet has it.
public class RecordBench
#pragma warning restore CA1001
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    private readonly byte[] _sent = new byte[64 << 10];
    private readonly byte[] _received = new byte[64 << 10];
    private TlsParty? _party;
    private SslStream? _client;
    private SslStream? _server;

    [GlobalSetup]
    public async Task SetupAsync()
    {
        new Random(1).NextBytes(_sent);
        _party = new TlsParty(TlsParty.Ecdsa, SslProtocols.Tls13, resume: false);
        (_client, _server) = await _party.ConnectAsync(new MemoryWire());
        await Transfer();
        if (!_received.AsSpan().SequenceEqual(_sent))
        {
            throw new InvalidOperationException("The server received other octets than the client sent.");
        }
    }

    [GlobalCleanup]
    public async Task CleanupAsync()
    {
        if (_client is not null && _server is not null)
        {
            await _client.DisposeAsync();
            await _server.DisposeAsync();
        }

        _party?.Dispose();
    }

    [Benchmark]
    public Task Transfer() => TransferAsync().WaitAsync(Limit);

    private async Task TransferAsync()
    {
        await _client!.WriteAsync(_sent);
        await _server!.ReadExactlyAsync(_received);
    }
}
