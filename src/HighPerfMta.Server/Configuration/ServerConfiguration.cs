using System.Net;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Dns;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Server.Configuration;

/// <summary>How logs look.</summary>
internal enum LogFormat
{
    /// <summary>Text on a terminal, JSON otherwise.</summary>
    Auto, Text, Json,
}

/// <summary>How the kernel schedules the server's threads.</summary>
internal enum Scheduling
{
    /// <summary>Without taking the processor from others when they wake.</summary>
    Batch,

    /// <summary>As the process was started.</summary>
    Inherit,
}

/// <summary>The <c>[admin]</c> table.</summary>
internal sealed record AdminOptions
{
    /// <summary>Where the web page, health and metrics are; null: nowhere.</summary>
    public IPEndPoint? Http { get; init; } = new(IPAddress.Loopback, 8025);

    /// <summary>The admin socket; empty: <c>admin.sock</c> in the data directory.</summary>
    public string Socket { get; init; } = "";
}

/// <summary>The <c>[log]</c> table.</summary>
internal sealed record LogOptions
{
    public LogLevel Level { get; init; } = LogLevel.Information;

    public LogFormat Format { get; init; } = LogFormat.Auto;
}

/// <summary>One <c>[[listener]]</c> as it is read.</summary>
internal sealed class ListenerDraft
{
    public Place Place { get; init; }

    public IPEndPoint? Address { get; set; }

    public ListenerProfile Profile { get; set; } = ListenerProfile.Relay;

    /// <summary>Null until <see cref="ServerConfiguration.Complete"/>: nobody wrote it.</summary>
    public TlsMode? Tls { get; set; }

    public ClientCertificates ClientCertificates { get; set; }

    public IReadOnlyList<IPNetwork> ProxyProtocol { get; set; } = [];

    public IReadOnlyList<IPNetwork> Xclient { get; set; } = [];

    /// <summary>Null until <see cref="ServerConfiguration.Complete"/>: nobody wrote it.</summary>
    public bool? Guard { get; set; }

    public TimeSpan GreetDelay { get; set; }

    /// <summary>Null until <see cref="ServerConfiguration.Complete"/>: nobody wrote it.</summary>
    public AuthMode? Auth { get; set; }

    public bool Vrfy { get; set; } = true;

    public IReadOnlyList<SmtpExtensions> Extensions { get; set; } = [.. ExtensionLines.Names.Select(static n => n.Extension).Where(static e => ExtensionLines.Usual.HasFlag(e))];
}

/// <summary>One <c>[[route]]</c> as it is read.</summary>
internal sealed class RouteDraft
{
    public Place Place { get; init; }

    public IReadOnlyList<string> Domains { get; set; } = [];

    public NextHop? To { get; set; }

    public TlsLevel? Tls { get; set; }
}

/// <summary>Everything that can be configured, with the defaults that are in force without a file.</summary>
internal sealed class ServerConfiguration
{
    /// <summary>Name of the admin socket in the data directory.</summary>
    public const string SocketName = "admin.sock";

    public IReadOnlyList<string> Include { get; set; } = [];

    public string Hostname { get; set; } = DefaultHostname();

    public string DataDirectory { get; set; } = Path.GetFullPath("hpmta-data");

    public Scheduling Scheduling { get; set; } = Scheduling.Batch;

    public List<ListenerDraft> Listeners { get; } = [];

    public TlsOptions Tls { get; set; } = new();

    public RelayOptions Relay { get; set; } = new();

    public LimitOptions Limits { get; set; } = new();

    public GuardOptions Guard { get; set; } = new();

    public AuthOptions Auth { get; set; } = new();

    public List<AuthBackendDraft> AuthBackends { get; } = [];

    public SubmissionOptions Submission { get; set; } = new();

    public HeaderOptions Header { get; set; } = new();

    public List<SubmissionSenderDraft> SubmissionSenders { get; } = [];

    public QueueOptions Queue { get; set; } = new() { DataDirectory = "" };

    public PressureOptions Pressure { get; set; } = new();

    public RetryOptions Retry { get; set; } = new();

    public List<RouteDraft> Routes { get; } = [];

    public DeliveryOptions Delivery { get; set; } = new() { Hostname = "" };

    public DnsOptions Dns { get; set; } = new();

    public AdminOptions Admin { get; set; } = new();

    public LogOptions Log { get; set; } = new();

    /// <summary>Octets of the largest message that a report returns whole.</summary>
    public long ReturnSize { get; set; } = ReportsRoom.DefaultReturnSize;

    public EventLogOptions Events { get; set; } = new() { Folder = "" };

    /// <summary>Where the admin socket is.</summary>
    public string SocketPath => Admin.Socket.Length > 0 ? Admin.Socket : Path.Combine(DataDirectory, SocketName);

    /// <summary>The users file of a backend; the one of <c>hpmta user</c> when there is none.</summary>
    public string UsersFileOf(AuthBackendDraft? backend) =>
        backend is not null && backend.Text("path").Length > 0 ? backend.PathOf("path") : Path.Combine(DataDirectory, "users");

    public SmtpServerOptions ForReception() => new()
    {
        Hostname = Hostname,
        Listeners =
        [
            .. Listeners.Select(l => new ListenerOptions(l.Address!, l.Profile)
            {
                Tls = l.Tls ?? TlsMode.Off,
                ClientCertificates = l.ClientCertificates,
                ProxyProtocol = l.ProxyProtocol,
                Xclient = l.Xclient,
                Auth = l.Auth ?? AuthMode.Off,
                Guard = l.Guard ?? false,
                GreetDelay = l.GreetDelay,
                Vrfy = l.Vrfy,
                Extensions = ExtensionSettings.Combine(l.Extensions),
            }),
        ],
        Relay = Relay,
        Limits = Limits,
        Guard = Guard,
        Submission = Submission with { FutureRelease = TimeSpan.FromTicks(Math.Min(Submission.FutureRelease.Ticks, Retry.Expire.Ticks / 2)), Rules = [.. SubmissionSenders.Select(static s => new SenderRule([.. s.Users.Select(NameOf)], s.Addresses))] },
        Header = Header,
        Routes = new RouteTable(ForRouting()),
    };

    public QueueOptions ForQueue() => Queue with { DataDirectory = DataDirectory };

    public PressureOptions ForPressure() => Pressure with { DiskLowWater = Queue.DiskLowWater };

    public EventLogOptions ForEvents() => Events with { Folder = Path.Combine(DataDirectory, "events") };

    public IReadOnlyList<Route> ForRouting() => [.. Routes.Select(static r => new Route(r.Domains, r.Tls is { } level ? r.To!.WithTls(level) : r.To!))];

    /// <param name="own">Where this server listens, real ports included.</param>
    public DeliveryOptions ForDelivery(IReadOnlyList<IPEndPoint> own) => Delivery with { Hostname = Hostname, OwnEndpoints = own };

    /// <summary>
    /// Fills in what nobody wrote: the listener of a server without any, STARTTLS where there is a certificate for it, required for those who hand in mail, AUTH where
    /// others than servers come, and the guard where anyone comes.
    /// </summary>
    /// <param name="knowsListeners">Somebody wrote of listeners, rightly or not.</param>
    public void Complete(bool knowsListeners = false)
    {
        if (Listeners.Count == 0 && !knowsListeners)
        {
            Listeners.Add(new ListenerDraft { Address = new IPEndPoint(IPAddress.Loopback, 2525) });
        }

        foreach (ListenerDraft listener in Listeners)
        {
            listener.Tls ??= Tls.Certificates.Count == 0 ? TlsMode.Off : listener.Profile == ListenerProfile.Submission ? TlsMode.Required : TlsMode.StartTls;
            listener.Guard ??= listener.Profile == ListenerProfile.Mx;
            listener.Auth ??= listener.Profile == ListenerProfile.Mx || AuthBackends.Count == 0 ? AuthMode.Off : AuthMode.Tls;
        }
    }

    private static string NameOf(string user) => StoredCredentials.TryName(user, out string name) ? name : user;

    private static string DefaultHostname() => DomainName.TryNormalize(Environment.MachineName, out string name) ? name : "localhost";
}
