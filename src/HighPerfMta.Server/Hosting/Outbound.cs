using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Server.Configuration;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Server.Hosting;

/// <summary>The rooms that bring mail out: DNS, routes, couriers, reports, delivery.</summary>
internal sealed class Outbound : IAsyncDisposable
{
    private readonly DnsResolver _dns;
    private readonly RouteTable _routes;
    private readonly SiteResolver _resolver;
    private readonly DeliveryRoom _delivery;

    public Outbound(
        ServerConfiguration configuration, IMailQueue queue, IIntake intake, IEventLog events, DeadlineWheel wheel, TimeProvider time, ILoggerFactory loggers)
    {
        DeliveryOptions options = configuration.ForDelivery([.. configuration.Listeners.Select(static l => l.Address!)]);
        _dns = new DnsResolver(configuration.Dns, time, loggers.CreateLogger<DnsResolver>());
        _routes = new RouteTable(configuration.ForRouting());
        _resolver = new SiteResolver(_routes, _dns, options);
        SmtpCourierFactory couriers = new(options, new SocketConnector(), _dns, queue, wheel, time, loggers.CreateLogger<SmtpCourierFactory>());
        ReportsRoom reports = new(intake, queue, configuration.Hostname, time, loggers.CreateLogger<ReportsRoom>(), configuration.Retry.Expire, configuration.ReturnSize);
        _delivery = new DeliveryRoom(queue, _resolver, couriers, reports, events, options, configuration.Retry, time, loggers);
    }

    public IDelivery Delivery => _delivery;

    public ControlRoom CreateControl(ServerConfiguration configuration, IMailQueue queue, IEventLog events, TimeProvider time) =>
        new(queue, _delivery, _resolver, _routes, new RelayPolicy(configuration.Relay), _dns, events, configuration.Retry.Expire, time);

    public async ValueTask DisposeAsync()
    {
        await _delivery.DisposeAsync();
        _dns.Dispose();
    }
}
