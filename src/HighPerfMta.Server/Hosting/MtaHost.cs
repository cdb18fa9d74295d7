using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Web;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Server.Hosting;

/// <summary>
/// The running server: every room, made in the order in which they depend on each other, and closed in the reverse order. Mail comes first: the queue is
/// opened beside the rest, and the web sides, which take as long to start as all the others, begin when the listeners are up, or when a long replay
/// of the log is worth watching.
/// </summary>
internal sealed partial class MtaHost : IAsyncDisposable
{
    /// <summary>The web sides do not wait longer than this for the listeners.</summary>
    private static readonly TimeSpan LongReplay = TimeSpan.FromSeconds(1);

    private readonly ServerConfiguration _configuration;
    private readonly ILoggerFactory _loggers;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly HostState _state = new();
    private readonly TaskCompletionSource _accepting = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Stack<IAsyncDisposable> _closing = new();
    private SmtpServer? _reception;
    private IDelivery? _delivery;
    private CertificateStore? _certificates;
    private bool _stopped;

    private MtaHost(ServerConfiguration configuration, ILoggerFactory loggers, TimeProvider time)
    {
        _configuration = configuration;
        _loggers = loggers;
        _logger = loggers.CreateLogger("HighPerfMta");
        _time = time;
    }

    /// <summary>Where mail comes in, real ports included.</summary>
    public IReadOnlyList<IPEndPoint> Listeners => _reception?.Endpoints ?? [];

    /// <summary>Where the web side is; null when it is off.</summary>
    public IPEndPoint? Http { get; private set; }

    /// <summary>Starts everything; returns when mail is accepted.</summary>
    /// <exception cref="StartFailedException">The server cannot start; nothing is left running.</exception>
    public static async Task<MtaHost> StartAsync(ServerConfiguration configuration, ILoggerFactory loggers, TimeProvider time)
    {
        MtaHost host = new(configuration, loggers, time);
        try
        {
            await host.StartAsync();
            return host;
        }
        catch (Exception e)
        {
            await host.DisposeAsync();
            throw Explain(e, configuration);
        }
    }

    /// <summary>Looks at the files of certificates and of networks now. True: there are some.</summary>
    public bool ReloadFiles()
    {
        _certificates?.Check();
        return _reception?.ReloadLists() == true || _certificates is not null;
    }

    /// <summary>Stops accepting, lets what is in flight finish within <c>delivery.drain_timeout</c>, makes everything durable and closes.</summary>
    /// <param name="hurry">Cancelled: what is in flight is dropped; it is queued or still the client's.</param>
    public async Task StopAsync(CancellationToken hurry)
    {
        if (_stopped)
        {
            return;
        }

        _stopped = true;
        if (_state.Ready)
        {
            _state.Ready = false;
            ServiceManager.Stopping();
            Stopping(_logger);
        }

        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(hurry);
        limit.CancelAfter(_configuration.Delivery.DrainTimeout);
        Task reception = _reception?.StopAsync(limit.Token) ?? Task.CompletedTask;
        Task delivery = _delivery?.DrainAsync(hurry) ?? Task.CompletedTask;
        await Task.WhenAll(reception, delivery);
    }

    public async ValueTask DisposeAsync()
    {
        _accepting.TrySetCanceled();
        await StopAsync(new CancellationToken(canceled: true));
        while (_closing.TryPop(out IAsyncDisposable? room))
        {
            try
            {
                await room.DisposeAsync();
            }
            catch (Exception e)
            {
                // The rooms below still have to be closed: the queue last, with a commit.
                CloseFailed(_logger, e, room.GetType().Name);
            }
        }
    }

    private async Task StartAsync()
    {
        MakeDataDirectory();
        QueueOptions queueOptions = _configuration.ForQueue();
        if (!queueOptions.Sync)
        {
            NoSync(_logger);
        }

        Task<MailQueue> opening = Own(new OpeningQueue(Task.Run(() => OpenQueueAsync(queueOptions)))).Queue;
        MetricsCollector? metrics = null;
        Task<IPEndPoint>? web = null;
        if (_configuration.Admin.Http is { } address)
        {
            metrics = Own(new MetricsCollector());
            WebSide side = Own(new WebSide(address, _state, metrics));
            side.Claim();
            web = side.StartAsync(Task.WhenAny(_accepting.Task, Task.Delay(LongReplay, _time)).Unwrap());
        }

        EventLogWriter log = Own(new EventLogWriter(_configuration.ForEvents(), _time, _loggers.CreateLogger<EventLogWriter>()));
        MailMeter events = Own(new MailMeter(log, metrics), static m => m.Dispose());
        DeadlineWheel wheel = Own(new DeadlineWheel(_time), static w => w.Dispose());
        MailQueue queue = await opening;
        PressureGauge pressure = Own(new PressureGauge(queue, _configuration.ForPressure(), _time, _loggers.CreateLogger<PressureGauge>(), meters: metrics), static p => p.Dispose());
        IntakeRoom intake = new(queue, events, _time, _loggers.CreateLogger<IntakeRoom>(), pressure);
        Outbound outbound = Own(new Outbound(_configuration, queue, intake, events, wheel, _time, _loggers));
        _delivery = outbound.Delivery;
        AuthenticationRoom? auth = Authentication.Create(_configuration, _time, _loggers, metrics) is { } room ? Own(room) : null;
        _reception = Own(new SmtpServer(_configuration.ForReception(), intake, events, wheel, _time, _loggers, metrics, MakeTls(metrics), auth));
        ControlRoom control = outbound.CreateControl(_configuration, queue, events, _time);
        _state.Control = control;
        _reception.QueueStarter = Own(new QueueStarter(control.StartQueueAsync, _loggers.CreateLogger<QueueStarter>()));
        AdminSocket admin = Own(new AdminSocket(_configuration.SocketPath, control, log));
        await admin.ClaimAsync();
        Own(new ServerMetrics(queue, outbound.Delivery, control.Census, log, metrics));
        queue.Announce = intake.Accepted + (Action<QueuedMessage>)outbound.Delivery.Enqueue;
        queue.Restored = outbound.Delivery.Restore;
        queue.Start();
        _reception.Start();
        _accepting.SetResult();
        await admin.StartAsync();
        Http = web is null ? null : await web;
        _state.Ready = true;
        ServiceManager.Ready();
        Ready(_logger, string.Join(", ", Listeners), Http?.ToString() ?? "off", _configuration.DataDirectory, queue.Count);
    }

    /// <summary>Null without a certificate.</summary>
    private TlsAcceptor? MakeTls(MetricsCollector? metrics)
    {
        TlsOptions options = _configuration.Tls;
        if (options.Certificates.Count == 0)
        {
            return null;
        }

        _certificates = Own(new CertificateStore(options, _time, _loggers.CreateLogger<CertificateStore>(), metrics), static c => c.Dispose());
        return Own(new TlsAcceptor(options, _certificates, _loggers.CreateLogger<TlsAcceptor>(), metrics), static t => t.Dispose());
    }

    private async Task<MailQueue> OpenQueueAsync(QueueOptions options)
    {
        ILogger logger = _loggers.CreateLogger<MailQueue>();
        FasterRecordLog log = FasterRecordLog.Open(options, _time, _loggers.CreateLogger<FasterRecordLog>());
        try
        {
            return MailQueue.Open(log, options, _time, logger);
        }
        catch
        {
            // The queue owns its log only once it is open.
            await log.DisposeAsync();
            throw;
        }
    }

    private void MakeDataDirectory()
    {
        const UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(_configuration.DataDirectory);
        }
        else
        {
            Directory.CreateDirectory(_configuration.DataDirectory, mode);
        }
    }

    private T Own<T>(T room)
        where T : IAsyncDisposable
    {
        _closing.Push(room);
        return room;
    }

    private T Own<T>(T room, Action<T> close)
    {
        _closing.Push(new Closing(() => close(room)));
        return room;
    }

    private static StartFailedException Explain(Exception error, ServerConfiguration configuration) => error switch
    {
        StartFailedException known => known,
        NetworkFileException list => new StartFailedException(list.Message, inner: list),
        CertificateException certificate => new StartFailedException(certificate.Message, inner: certificate),
        LogOpenException log => new StartFailedException(log.Message, inner: log),
        SocketException socket => new StartFailedException(
            $"cannot listen on {socket.Data["address"] ?? "an address"}: {socket.Message}; "
            + (socket.SocketErrorCode == SocketError.AccessDenied
                ? "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
                : "stop the other program or change the address in the configuration"),
            inner: socket),
        UnauthorizedAccessException or IOException => new StartFailedException(
            $"cannot use {configuration.DataDirectory}: {error.Message}; check data_dir, its owner and its free space", inner: error),
        _ => new StartFailedException($"the server cannot start: {error.GetType().Name}: {error.Message}; this is a defect, please report it with the log", inner: error),
    };

    /// <summary>Owned while it is still being opened, so that a start that fails beside it leaves nothing open.</summary>
    private sealed class OpeningQueue(Task<MailQueue> queue) : IAsyncDisposable
    {
        public Task<MailQueue> Queue { get; } = queue;

        public async ValueTask DisposeAsync()
        {
            await ((Task)Queue).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (Queue.IsCompletedSuccessfully)
            {
                await (await Queue).DisposeAsync();
            }
        }
    }

    private sealed class Closing(Action close) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            close();
            return default;
        }
    }

    [LoggerMessage(1, LogLevel.Information, "READY: mail on {Listeners}, web on {Http}, data in {DataDirectory}, {Queued} messages queued")]
    private static partial void Ready(ILogger logger, string listeners, string http, string dataDirectory, int queued);

    [LoggerMessage(2, LogLevel.Information, "stopping: no new mail, what is in flight may finish")]
    private static partial void Stopping(ILogger logger);

    [LoggerMessage(3, LogLevel.Error, "{Room} failed while closing")]
    private static partial void CloseFailed(ILogger logger, Exception error, string room);

    [LoggerMessage(4, LogLevel.Warning, "queue.sync = false: mail is acknowledged before it is on stable storage and WILL BE LOST when power fails")]
    private static partial void NoSync(ILogger logger);
}
