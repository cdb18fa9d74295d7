using System.Diagnostics.Metrics;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net.Tls;

/// <summary>What is done about a server's certificate.</summary>
public enum CertificateCheck
{
    /// <summary>Any is taken.</summary>
    None,

    /// <summary>Any is taken; <see cref="TlsSession.IsServerTrusted"/> tells whether it is good.</summary>
    Noted,

    /// <summary>Without a good one there is no session.</summary>
    Required,
}

/// <summary>The client's side of handshakes. A failure is a value, counted by its cause. Safe for concurrent use.</summary>
public sealed class TlsConnector : IDisposable
{
    private readonly SslProtocols _protocols;
    private readonly X509Certificate2Collection _authorities;
    private readonly X509ChainPolicy _trust;
    private readonly X509ChainPolicy _indifferent = NewPolicy();
    private readonly Meter _meter;
    private readonly Counter<long> _handshakes;
    private readonly Counter<long> _failures;

    /// <param name="protocols">The versions that are spoken.</param>
    /// <param name="trustFile">PEM certificates of the authorities that are trusted; null: the system's.</param>
    /// <param name="meters">Null: a meter of its own.</param>
    /// <exception cref="CertificateException">The file cannot be read, or holds none.</exception>
    public TlsConnector(SslProtocols protocols, string? trustFile = null, IMeterFactory? meters = null)
    {
        _protocols = protocols;
        _trust = NewPolicy();
        _authorities = trustFile is null ? [] : AuthorityFile.Load(trustFile);
        _trust.TrustMode = trustFile is null ? X509ChainTrustMode.System : X509ChainTrustMode.CustomRootTrust;
        _trust.CustomTrustStore.AddRange(_authorities);

        _indifferent.VerificationFlags = X509VerificationFlags.AllFlags;
        _meter = meters?.Create("HighPerfMta.Tls.Delivery") ?? new Meter("HighPerfMta.Tls.Delivery");
        _handshakes = _meter.CreateCounter<long>("hpmta_delivery_tls_handshakes_total", description: "Handshakes with next hops, by protocol and cipher suite");
        _failures = _meter.CreateCounter<long>("hpmta_delivery_tls_failures_total", description: "Connections to next hops that could not be secured, by cause");
    }

    /// <summary>
    /// The handshake. The connection belongs to the new one then; after a failure it is still the caller's. Other than by <see cref="IConnection.Abort"/> it does not end before the peer wants it to.
    /// </summary>
    /// <param name="connection">Nothing is to be read from it.</param>
    /// <param name="host">The server's name, which is asked for and has to be the certificate's, or its address.</param>
    /// <param name="check">What is done about the certificate.</param>
    /// <returns>The session; or why there is none, and what else is known of that.</returns>
    public async ValueTask<(TlsConnection? Connection, TlsFailure Failure, string Detail)> ConnectAsync(IConnection connection, string host, CertificateCheck check)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(host);

        // Whoever called may be a poller, and what follows costs a thousand times what a reply does.
        await Departures.LeaveAsync();
        TransportStream transport = new(connection);
        SslStream? session = new(transport, leaveInnerStreamOpen: true);
        Verdict verdict = new(host, check);
        try
        {
            await session.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                TargetHost = host,
                EnabledSslProtocols = _protocols,
                CertificateChainPolicy = check == CertificateCheck.None ? _indifferent : _trust,
                RemoteCertificateValidationCallback = verdict.Judge,
                AllowRenegotiation = false,
            });
            if (check == CertificateCheck.Required && !verdict.IsTrusted)
            {
                // Nobody was asked about a certificate.
                return (null, TlsFailure.Untrusted, "its certificate was not looked at");
            }

            transport.IsHandshaking = false;
            TlsConnection secured = new(connection, session, transport, verdict.IsTrusted);
            session = null;
            _handshakes.Add(1, new("protocol", secured.Session.Protocol), new("cipher", secured.Session.Cipher));
            return (secured, TlsFailure.None, "");
        }
        catch (Exception e) when (TlsFailures.IsExpected(e))
        {
            return verdict.Refusal is { } refusal ? (null, TlsFailure.Untrusted, refusal) : (null, TlsFailures.Classify(e), TlsFailures.DetailOf(e));
        }
        finally
        {
            if (session is not null)
            {
                await session.DisposeAsync();
            }
        }
    }

    /// <summary>Counts a connection that could not be secured.</summary>
    public void Report(TlsFailure failure) => _failures.Add(1, new KeyValuePair<string, object?>("cause", TlsFailures.CauseOf(failure)));

    public void Dispose()
    {
        _meter.Dispose();
        foreach (X509Certificate2 authority in _authorities)
        {
            authority.Dispose();
        }
    }

    /// <summary>Nothing is fetched for a handshake: neither missing certificates nor lists of revoked ones.</summary>
    private static X509ChainPolicy NewPolicy() => new()
    {
        TrustMode = X509ChainTrustMode.CustomRootTrust,
        RevocationMode = X509RevocationMode.NoCheck,
        DisableCertificateDownloads = true,
    };

    private sealed class Verdict(string host, CertificateCheck check)
    {
        public bool IsTrusted { get; private set; }

        /// <summary>Why the session was refused here; null: it was not.</summary>
        public string? Refusal { get; private set; }

        public bool Judge(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
        {
            IsTrusted = check != CertificateCheck.None && errors == SslPolicyErrors.None;
            bool takes = IsTrusted || check != CertificateCheck.Required;
            Refusal = takes ? null : Explain(chain, errors);
            return takes;
        }

        private string Explain(X509Chain? chain, SslPolicyErrors errors)
        {
            if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNotAvailable))
            {
                return "the server has no certificate";
            }

            return errors.HasFlag(SslPolicyErrors.RemoteCertificateChainErrors)
                ? $"its certificate is not trusted ({string.Join(", ", chain?.ChainStatus.Select(static s => s.Status).Distinct() ?? [])})"
                : $"its certificate is not one for {host}";
        }
    }
}
