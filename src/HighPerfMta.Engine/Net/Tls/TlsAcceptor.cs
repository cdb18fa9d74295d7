using System.Buffers;
using System.Diagnostics.Metrics;
using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using HighPerfMta.Queue.Async;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>The server's side of handshakes. A failure is a value, counted by its cause, and one line in the log.</summary>
public sealed partial class TlsAcceptor : IDisposable
{
    /// <summary>The first octet of a handshake record (RFC 8446 §5.1).</summary>
    private const byte Handshake = 22;

    private readonly CertificateStore _certificates;
    private readonly ILogger _logger;
    private readonly Meter _meter;
    private readonly Counter<long> _handshakes;
    private readonly Counter<long> _failures;
    private readonly HandshakeGate _gate;

    /// <param name="options">What a handshake may take.</param>
    /// <param name="certificates">Not disposed of here.</param>
    /// <param name="logger">Failures.</param>
    /// <param name="meters">Null: a meter of its own.</param>
    public TlsAcceptor(TlsOptions options, CertificateStore certificates, ILogger logger, IMeterFactory? meters = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        HandshakeTimeout = options.HandshakeTimeout;
        _gate = new HandshakeGate(options.Handshakes > 0 ? options.Handshakes : Environment.ProcessorCount, options.HandshakesWaiting);
        _certificates = certificates;
        _logger = logger;
        _meter = meters?.Create("HighPerfMta.Tls") ?? new Meter("HighPerfMta.Tls");
        _handshakes = _meter.CreateCounter<long>("hpmta_tls_handshakes_total", description: "Handshakes with clients, by protocol and cipher suite");
        _failures = _meter.CreateCounter<long>("hpmta_tls_handshake_failures_total", description: "Handshakes with clients that failed, by cause");
        _meter.CreateObservableGauge("hpmta_tls_handshakes_waiting", () => _gate.Waiting, description: "Handshakes that wait for their turn to be computed");
    }

    /// <summary>A handshake has to be over within this time; whoever calls aborts the connection then.</summary>
    public TimeSpan HandshakeTimeout { get; }

    internal HandshakeGate Gate => _gate;

    /// <summary>A handshake that begins now would be given up.</summary>
    public bool IsFull => _gate.IsFull;

    /// <summary>What came first is the beginning of a handshake. Of something else a client of SMTP makes nothing.</summary>
    public static bool IsHandshake(byte first) => first == Handshake;

    /// <summary>
    /// The handshake. The connection belongs to the new one then; after a failure it is still the caller's. Other than by <see cref="IConnection.Abort"/> it does not end
    /// before the peer wants it to.
    /// </summary>
    /// <param name="connection">Where the client's first octet is still unread.</param>
    /// <param name="askForCertificate">The client is asked for a certificate.</param>
    /// <param name="isKnown">The client does not wait for its turn.</param>
    public async ValueTask<(TlsConnection? Connection, TlsFailure Failure, string Detail)> AcceptAsync(IConnection connection, bool askForCertificate, bool isKnown = false)
    {
        ArgumentNullException.ThrowIfNull(connection);
        SslStream? session = null;
        HandshakeTurn turn = new(_gate);
        try
        {
            if (await SniffAsync(connection.Input) is { } failure)
            {
                return (null, failure, "");
            }

            // Whoever called may be a poller or an accept loop, and what follows costs a thousand times what a command does.
            await Departures.LeaveAsync();
            if (!isKnown && !await turn.TakeAsync())
            {
                return (null, TlsFailure.Busy, "");
            }

            TransportStream transport = new(connection, turn);
            session = new SslStream(transport, leaveInnerStreamOpen: true);
            await session.AuthenticateAsServerAsync(
                (_, hello, _, _) => new ValueTask<SslServerAuthenticationOptions>(_certificates.Select(hello.ServerName, askForCertificate)), null);
            transport.IsHandshaking = false;
            TlsConnection secured = new(connection, session, transport);
            session = null;
            _handshakes.Add(1, new("protocol", secured.Session.Protocol), new("cipher", secured.Session.Cipher));
            return (secured, TlsFailure.None, "");
        }
        catch (Exception e) when (TlsFailures.IsExpected(e))
        {
            return (null, TlsFailures.Classify(e), TlsFailures.DetailOf(e));
        }
        finally
        {
            turn.End();
            if (session is not null)
            {
                await session.DisposeAsync();
            }
        }
    }

    /// <summary>The name of a failure, as it is counted.</summary>
    public static string CauseOf(TlsFailure failure) => TlsFailures.CauseOf(failure);

    /// <summary>Counts a failure.</summary>
    /// <param name="failure">What it was.</param>
    /// <param name="client">Whose.</param>
    /// <param name="detail">What else is known; may be empty.</param>
    /// <param name="tells">It is also told in the log.</param>
    public void Report(TlsFailure failure, IPEndPoint? client, string detail, bool tells)
    {
        _failures.Add(1, new KeyValuePair<string, object?>("cause", TlsFailures.CauseOf(failure)));
        if (tells)
        {
            Failed(_logger, client, Explain(failure), detail.Length == 0 ? "" : $" ({detail})");
        }
    }

    public void Dispose() => _meter.Dispose();

    /// <summary>
    /// Looks at the first record and leaves it where it is. Null: a handshake begins. A client that sends its half has no turn yet, which others wait for.
    /// </summary>
    private static async ValueTask<TlsFailure?> SniffAsync(PipeReader input)
    {
        while (true)
        {
            ReadResult result = await input.ReadAsync();
            ReadOnlySequence<byte> octets = result.Buffer;
            bool isPlain = !octets.IsEmpty && !IsHandshake(octets.FirstSpan[0]);
            bool isTooLong = !isPlain && TransportStream.IsTooLong(octets);
            bool isWhole = isPlain || isTooLong || result.IsCompleted || TransportStream.HoldsRecord(octets);
            input.AdvanceTo(octets.Start, isWhole ? octets.Start : octets.End);
            if (isPlain || isTooLong)
            {
                return isPlain ? TlsFailure.Plaintext : TlsFailure.Protocol;
            }

            if (isWhole)
            {
                return octets.IsEmpty ? TlsFailure.Closed : null;
            }
        }
    }

    private static string Explain(TlsFailure failure) => failure switch
    {
        TlsFailure.Plaintext => "the client does not begin a handshake; it may speak SMTP in plain text to a port for TLS",
        TlsFailure.Closed => "the client closed the connection in the handshake",
        TlsFailure.Timeout => "the handshake took too long; a client that waits for a greeting in plain text is on the wrong port",
        TlsFailure.Version => "the client speaks no version of TLS that is allowed here (tls.minimum)",
        TlsFailure.Cipher => "the client has no cipher suite, or no kind of certificate, in common with this server",
        TlsFailure.Busy => "too many other handshakes wait for a processor (tls.handshakes_waiting)",
        TlsFailure.Alert => "the client refused; it may not trust the certificate",
        _ => "what the client sent makes no handshake",
    };

    [LoggerMessage(1, LogLevel.Information, "no TLS with {Client}: {Reason}{Detail}")]
    private static partial void Failed(ILogger logger, IPEndPoint? client, string reason, string detail);
}
