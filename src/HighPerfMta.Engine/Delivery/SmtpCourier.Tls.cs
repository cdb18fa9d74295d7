using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>TLS with the peer: by STARTTLS (RFC 3207) or from the first octet on (RFC 8314 §3.3).</summary>
internal sealed partial class SmtpCourier
{
    /// <summary>The session under which commands go; null: they go in plain text.</summary>
    private TlsSession? _tls;

    /// <summary>The peer has answered something under the session.</summary>
    private bool _heardOverTls;

    /// <summary>What the connection was to be before a handshake failed that could be done without.</summary>
    private TlsLevel _level;

    /// <summary>
    /// A message that may go over TLS only goes to a peer whose certificate is good, whose name nobody on the way could have changed, and which promises the same (RFC 8689 §4.2.1). Names from
    /// MX records are not such: nobody has verified who they are from. What may be better the next time is no reason to return the message: else whoever disturbs a handshake could have it returned.
    /// </summary>
    private DeliveryOutcome? RequireTlsRefusal => !site.IsConfigured() || _level == TlsLevel.Off ? CourierOutcomes.NeedsRequireTls(_peer)
        : _tls is null ? CourierOutcomes.WaitsForTls(isUntrusted: false, _peer)
        : !_tls.IsServerTrusted ? CourierOutcomes.WaitsForTls(isUntrusted: true, _peer)
        : _peerCan.RequireTls ? null
        : CourierOutcomes.NeedsRequireTls(_peer);

    /// <summary>Where the route names several hosts, what one of them cannot promise another may (RFC 8689 §4.2.1).</summary>
    private bool ChoosesHost(Envelope envelope) => envelope.Parameters is { RequireTls: true } && site.Hosts.Count > 1 && site.IsConfigured();

    private TlsLevel LevelOf(DeliveryTarget target)
    {
        TlsLevel level = target.Tls ?? _options.Tls;
        return target.IsImplicitTls && level < TlsLevel.Required ? TlsLevel.Required : level;
    }

    /// <summary>STARTTLS where it is wanted and possible. Null: the session is as it has to be, perhaps with TLS, when EHLO is due again.</summary>
    private async ValueTask<DeliveryOutcome?> StartTlsAsync(DeliveryTarget target, TlsLevel level)
    {
        if (!_peerCan.StartTls)
        {
            return level == TlsLevel.Opportunistic ? null : NoTls(TlsFailure.Plaintext, "the server does not offer it");
        }

        _link!.Write("STARTTLS\r\n"u8);
        LinkStatus status = await FlushAsync(DeliveryStage.Tls, _options.CommandTimeout);
        status = status == LinkStatus.Ok ? await ReadAsync(DeliveryStage.Tls, _options.CommandTimeout) : status;
        if (status != LinkStatus.Ok)
        {
            services.Tls.Report(status == LinkStatus.TimedOut ? TlsFailure.Timeout : TlsFailure.Closed);
            return CourierOutcomes.FromLink(status, DeliveryStage.Tls, _options.CommandTimeout, _peer);
        }

        PeerReply reply = _link.Reply;
        if (reply.Code != 220)
        {
            // The session goes on after this (RFC 3207 §4), unless it is over.
            DeliveryOutcome refused = NoTls(TlsFailure.Plaintext, $"the server refuses it: {reply.Code} {reply.Text}");
            if (level != TlsLevel.Opportunistic || reply.Code == 421)
            {
                return refused;
            }

            services.Logger.GoesInPlainText(_peer, refused.Text);
            return null;
        }

        // What is there already came in plain text, from anybody: it must not be taken for what the server says under TLS.
        return _link.HasReceived ? NoTls(TlsFailure.Plaintext, "the server sent more in plain text behind its reply to STARTTLS") : await SecureAsync(target, level);
    }

    /// <summary>The handshake. Null: from here on everything goes through TLS, and nothing is known of the peer (RFC 3207 §4.2).</summary>
    private async ValueTask<DeliveryOutcome?> SecureAsync(DeliveryTarget target, TlsLevel level)
    {
        SmtpLink plain = _link!;
        _stage = DeliveryStage.Tls;
        CertificateCheck check = level == TlsLevel.Verified ? CertificateCheck.Required : site.IsConfigured() ? CertificateCheck.Noted : CertificateCheck.None;
        using CancellationTokenSource late = new(_options.ConnectTimeout, services.Time);
        using CancellationTokenRegistration abort = late.Token.UnsafeRegister(static link => ((SmtpLink)link!).Abort(), plain);
        (TlsConnection? secured, TlsFailure failure, string detail) = await services.Tls.ConnectAsync(plain.Connection, target.HostName, check);
        if (secured is null)
        {
            return late.IsCancellationRequested
                ? NoTls(TlsFailure.Timeout, $"no handshake within {_options.ConnectTimeout.TotalSeconds:0} s")
                : NoTls(failure, Explain(failure, detail));
        }

        _link = new SmtpLink(secured, services.Wheel, services.Time);
        _tls = secured.Session;
        _heardOverTls = false;
        _peerCan = PeerCapabilities.None;
        return null;
    }

    /// <param name="failure">Counted as this.</param>
    /// <param name="reason">For whoever reads why the mail waits.</param>
    private DeliveryOutcome NoTls(TlsFailure failure, string reason)
    {
        services.Tls.Report(failure);
        return CourierOutcomes.NoTls(failure == TlsFailure.Untrusted, reason, _peer);
    }

    private static string Explain(TlsFailure failure, string detail) => failure switch
    {
        TlsFailure.Closed => "the server closed the connection in the handshake",
        TlsFailure.Version => "the server speaks no version of TLS that is allowed here (delivery.tls_minimum)",
        TlsFailure.Untrusted => detail,
        TlsFailure.Alert => $"the server refused the handshake ({detail})",
        _ => detail.Length == 0 ? "what the server sent makes no handshake" : $"what the server sent makes no handshake ({detail})",
    };

    /// <summary>What is told of an outcome over TLS.</summary>
    private DeliveryOutcome Stamp(DeliveryOutcome outcome) => _tls is null ? outcome : outcome with { Tls = _tls.Description };
}
