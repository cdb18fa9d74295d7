using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Queue;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Makes SMTP couriers.</summary>
public sealed class SmtpCourierFactory : ICourierFactory
{
    private readonly CourierServices _services;

    /// <param name="options">The <c>[delivery]</c> table.</param>
    /// <param name="connector">Opens connections.</param>
    /// <param name="dns">Finds the addresses of hosts.</param>
    /// <param name="queue">Where the octets of messages are.</param>
    /// <param name="wheel">Time-outs of replies.</param>
    /// <param name="time">The clock.</param>
    /// <param name="logger">For what operators should know.</param>
    /// <param name="random">Order among equals; null for a source of its own.</param>
    /// <param name="tls">Makes TLS sessions; not disposed of here. Null: one of its own.</param>
    public SmtpCourierFactory(
        DeliveryOptions options, IConnector connector, IDnsResolver dns, IMailQueue queue, DeadlineWheel wheel, TimeProvider time, ILogger logger, Random? random = null, TlsConnector? tls = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        TargetFinder finder = new(dns, new OwnAddresses(options, time), random ?? new Random());
        _services = new CourierServices(options, connector, finder, queue, wheel, time, logger, tls ?? new TlsConnector(options.TlsProtocols, options.TlsTrust));
    }

    public ICourier Create(Site site) => new SmtpCourier(site, _services);
}

/// <summary>What the couriers share.</summary>
internal sealed record CourierServices(
    DeliveryOptions Options, IConnector Connector, TargetFinder Finder, IMailQueue Queue, DeadlineWheel Wheel, TimeProvider Time, ILogger Logger, TlsConnector Tls);

internal static partial class CourierLog
{
    [LoggerMessage(1, LogLevel.Debug, "{Peer} did not take a session: {Reason}")]
    public static partial void TargetFailed(this ILogger logger, string peer, string reason);

    [LoggerMessage(2, LogLevel.Debug, "{Peer} is sent to in plain text: {Reason}")]
    public static partial void GoesInPlainText(this ILogger logger, string peer, string reason);
}
