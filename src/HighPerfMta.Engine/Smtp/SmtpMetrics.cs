using System.Diagnostics.Metrics;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What reception counts.</summary>
internal sealed class SmtpMetrics : IDisposable
{
    /// <summary>The meter's name.</summary>
    public const string MeterName = "HighPerfMta.Smtp";

    private readonly Meter _meter;

    public SmtpMetrics(IMeterFactory? meters = null)
    {
        _meter = meters?.Create(MeterName) ?? new Meter(MeterName);
        Connections = _meter.CreateCounter<long>("hpmta_smtp_connections_total", description: "Inbound connections accepted");
        Refused = _meter.CreateCounter<long>("hpmta_smtp_connections_refused_total", description: "Inbound connections that got no session");
        Open = _meter.CreateUpDownCounter<long>("hpmta_smtp_connections", description: "Inbound sessions open now");
        Accepted = _meter.CreateCounter<long>("hpmta_smtp_messages_accepted_total", description: "Messages answered 250");
        Bytes = _meter.CreateCounter<long>("hpmta_smtp_messages_accepted_bytes_total", "By", "Octets of accepted messages");
        Refusals = _meter.CreateCounter<long>("hpmta_smtp_refusals_total", description: "Commands and messages answered 4xx or 5xx");
        QueuesStarted = _meter.CreateCounter<long>("hpmta_smtp_etrn_total", description: "ETRN commands that started the queue for a domain");
        Injections = _meter.CreateCounter<long>("hpmta_smtp_starttls_injections_total", description: "Sessions ended because plain text followed STARTTLS");
        WrongProtocol = _meter.CreateCounter<long>("hpmta_smtp_handshakes_in_plain_text_total", description: "Clients that began TLS on a listener for plain text");
        ProxyFailures = _meter.CreateCounter<long>("hpmta_smtp_proxy_failures_total", description: "Connections of balancers closed for want of a PROXY header, by cause");
        Limited = _meter.CreateCounter<long>("hpmta_smtp_limited_total", description: "Connections turned away, sessions ended and recipients refused by a limit or a list, by which");
        DelayedReplies = _meter.CreateCounter<long>("hpmta_smtp_delayed_replies_total", description: "Replies to errors that were held back");
        ListReloads = _meter.CreateCounter<long>("hpmta_smtp_list_reloads_total", description: "Changed files of networks, loaded or refused");
    }

    public Counter<long> QueuesStarted { get; }

    public Counter<long> Injections { get; }

    public Counter<long> WrongProtocol { get; }

    public Counter<long> ProxyFailures { get; }

    public Counter<long> Limited { get; }

    public Counter<long> DelayedReplies { get; }

    public Counter<long> ListReloads { get; }

    public Counter<long> Connections { get; }

    public Counter<long> Refused { get; }

    public UpDownCounter<long> Open { get; }

    public Counter<long> Accepted { get; }

    public Counter<long> Bytes { get; }

    public Counter<long> Refusals { get; }

    /// <summary>Gauges of the guard.</summary>
    /// <param name="networks">Networks of the allow and of the deny list.</param>
    /// <param name="tracked">Entries of the tables of rates.</param>
    public void Observe(Func<(int Allow, int Deny)> networks, Func<int> tracked)
    {
        _meter.CreateObservableGauge("hpmta_smtp_list_networks", () => (Measurement<int>[])
            [new(networks().Allow, new KeyValuePair<string, object?>("list", "allow")), new(networks().Deny, new KeyValuePair<string, object?>("list", "deny"))],
            description: "Networks that are allowed and denied");
        _meter.CreateObservableGauge("hpmta_smtp_tracked_clients", tracked, description: "Addresses and networks whose rates are counted");
    }

    public void Dispose() => _meter.Dispose();
}
