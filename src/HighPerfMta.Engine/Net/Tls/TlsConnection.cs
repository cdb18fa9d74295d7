using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Protocol.Sasl;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>A connection inside another one: what it reads and writes is encrypted below. It owns the connection below.</summary>
public sealed class TlsConnection : IConnection
{
    /// <summary>How long the peer may take to read the end of the session.</summary>
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(3);

    private readonly IConnection _below;
    private readonly SslStream _session;
    private readonly TlsReader _input;
    private readonly TlsWriter _output;
    private int _disposed;

    /// <param name="below">Is owned from now on.</param>
    /// <param name="session">After its handshake.</param>
    /// <param name="transport">What the session reads and writes.</param>
    /// <param name="isServerTrusted">Of a client's end: what it found out about the server's certificate. Null: this is the server's end.</param>
    internal TlsConnection(IConnection below, SslStream session, TransportStream transport, bool? isServerTrusted = null)
    {
        _below = below;
        _session = session;
        _input = new TlsReader(session, transport);
        _output = new TlsWriter(session);
        Session = Describe(session, isServerTrusted);
    }

    public TlsSession Session { get; }

    public IPEndPoint? Remote => _below.Remote;

    public IPEndPoint? Local => _below.Local;

    public PipeReader Input => _input;

    public PipeWriter Output => _output;

    public bool HasReceived => _input.HasUnread || _below.HasReceived;

    public void ExpectLittle() => _below.ExpectLittle();

    public void ExpectBody() => _below.ExpectBody();

    /// <summary>Also true when what waits is a record of the session itself, without octets for the reader.</summary>
    public bool HasInput() => _input.HasUnread || _below.HasInput();

    public async ValueTask CloseAsync(bool peerIsDone = false)
    {
        try
        {
            using CancellationTokenSource limit = new(CloseLimit);
            await Output.FlushAsync(limit.Token);
            await _session.ShutdownAsync().WaitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            // The peer does not read.
            _below.Abort();
        }
        catch (Exception e) when (e is IOException or SocketException or InvalidOperationException)
        {
            // It is gone.
        }

        // After its last word the peer still sends the end of its session, which must not find the connection closed: it is waited for.
        await _below.CloseAsync();
        await DisposeAsync();
    }

    public void Abort() => _below.Abort();

    /// <summary>
    /// What authentication can be bound to. The runtime gives no keying material, so that there is no tls-exporter; nor does it tell whether the extended master secret was
    /// agreed on, without which tls-unique is not of one connection alone (RFC 7627 §1).
    /// </summary>
    public ChannelBindings ReadBindings() =>
        _session.LocalCertificate is X509Certificate2 own ? new ChannelBindings(EndPointBinding.Of(own)) : ChannelBindings.None;

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        await _below.DisposeAsync();
        await _session.DisposeAsync();
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }

    private static TlsSession Describe(SslStream session, bool? isServerTrusted)
    {
#pragma warning disable CA5397, CA5398, SYSLIB0039 // Names what was negotiated; what may be is decided elsewhere.
        string protocol = session.SslProtocol switch
        {
            System.Security.Authentication.SslProtocols.Tls13 => "TLSv1.3",
            System.Security.Authentication.SslProtocols.Tls12 => "TLSv1.2",
            var other => other.ToString(),
        };
#pragma warning restore CA5397, CA5398, SYSLIB0039
        string cipher = session.NegotiatedCipherSuite.ToString();
        using X509Certificate2? certificate = session.RemoteCertificate as X509Certificate2;
        if (isServerTrusted is { } trusted)
        {
            return new TlsSession(protocol, cipher, null) { IsServerTrusted = trusted };
        }

        CertificateFingerprint? fingerprint = certificate is null ? null : new CertificateFingerprint(
            Convert.ToHexStringLower(SHA256.HashData(certificate.RawData)),
            Convert.ToHexStringLower(SHA256.HashData(certificate.PublicKey.ExportSubjectPublicKeyInfo())));
        return new TlsSession(protocol, cipher, fingerprint) { CertificateData = certificate?.RawData };
    }
}
