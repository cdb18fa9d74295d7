using System.Net.Security;
using System.Security.Authentication;
using BenchmarkDotNet.Attributes;

namespace HighPerfMta.Microbench.Tls;

/// <summary>
/// Handshakes in memory, both ends on one thread: what is counted is the client's share and the server's together, up to the first octet from the server. A client that does not resume makes its
/// context of OpenSSL anew each time, as the runtime has it; the server has one for all.
/// </summary>
[MemoryDiagnoser]
[Ungated("the runtime's objects around OpenSSL's, with finalizers")]
public class HandshakeBench
{
    private readonly List<TlsParty> _parties = [];
    private TlsParty? _full12;
    private TlsParty? _full13;
    private TlsParty? _resumed12;
    private TlsParty? _resumed13;

    [Params(TlsParty.Ecdsa, TlsParty.Rsa)]
    public string Key { get; set; } = TlsParty.Ecdsa;

    [GlobalSetup]
    public async Task SetupAsync()
    {
        _full12 = await NewAsync(SslProtocols.Tls12, resume: false);
        _full13 = await NewAsync(SslProtocols.Tls13, resume: false);
        _resumed12 = await NewAsync(SslProtocols.Tls12, resume: true);
        _resumed13 = await NewAsync(SslProtocols.Tls13, resume: true);
    }

    [GlobalCleanup]
    public void Cleanup() => _parties.ForEach(static p => p.Dispose());

    [Benchmark]
    public Task FullTls12() => HandshakeAsync(_full12!);

    [Benchmark]
    public Task FullTls13() => HandshakeAsync(_full13!);

    [Benchmark]
    public Task ResumedTls12() => HandshakeAsync(_resumed12!);

    [Benchmark]
    public Task ResumedTls13() => HandshakeAsync(_resumed13!);

    /// <summary>The figures are worth nothing unless the handshakes are what they are called: a second one has no certificate in it exactly if it is to be resumed.</summary>
    private async Task<TlsParty> NewAsync(SslProtocols protocol, bool resume)
    {
#pragma warning disable CA2000 // Disposed with the others.
        TlsParty party = new(Key, protocol, resume);
#pragma warning restore CA2000
        _parties.Add(party);
        long first = await HandshakeAsync(party);
        long second = await HandshakeAsync(party);
        bool resumed = second < first - (party.CertificateOctets / 2);
        return resumed == resume
            ? party
            : throw new InvalidOperationException($"{protocol} with {Key}: the server sent {first} octets, then {second}; {(resume ? "nothing" : "something")} was resumed");
    }

    /// <returns>Octets that the server sent.</returns>
    private static async Task<long> HandshakeAsync(TlsParty party)
    {
        MemoryWire wire = new();
        (SslStream client, SslStream server) = await party.ConnectAsync(wire);
        await client.DisposeAsync();
        await server.DisposeAsync();
        return wire.Server.Written;
    }
}
