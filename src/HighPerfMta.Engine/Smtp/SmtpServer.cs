using System.Buffers;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Proxy;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp;

/// <summary>
/// Reception: listeners, the gate before them, and the sessions. Memory is bounded by the number of connections, each with bounded buffers.
/// </summary>
public sealed class SmtpServer : IAsyncDisposable
{
    /// <summary>How long dropped sessions may take to notice.</summary>
    private static readonly TimeSpan DropLimit = TimeSpan.FromSeconds(5);

    /// <summary>How long a client that was turned away may keep its place by not closing.</summary>
    private static readonly TimeSpan RefusalCloseLimit = TimeSpan.FromMilliseconds(500);

    private static readonly string[] ProxyCauses = [.. Enum.GetNames<ProxyFailure>().Select(static n => n.ToLowerInvariant())];

    private readonly SmtpContext _context;
    private readonly ConnectionGate _gate;
    private readonly ILogger _logger;
    private readonly Lock _lock = new();
    private readonly HashSet<SmtpSession> _sessions = [];
    private readonly HashSet<IConnection> _opening = [];
    private readonly List<SocketListener> _listeners = [];
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _stopping;

    /// <summary>Who starts the queue for a domain (ETRN); null: it is refused. Before <see cref="Start"/>.</summary>
    public QueueStarter? QueueStarter
    {
        get => _context.QueueStarter;
        set => _context.QueueStarter = value;
    }

    public SmtpServer(
        SmtpServerOptions options, IIntake intake, IEventLog events, DeadlineWheel wheel, TimeProvider time, ILoggerFactory loggers, IMeterFactory? meters = null,
        TlsAcceptor? tls = null, AuthenticationRoom? auth = null)
        : this(options, intake, events, wheel, time, loggers, DescriptorLimit.Current(), meters, tls, auth)
    {
    }

    internal SmtpServer(
        SmtpServerOptions options, IIntake intake, IEventLog events, DeadlineWheel wheel, TimeProvider time, ILoggerFactory loggers, int descriptors, IMeterFactory? meters = null,
        TlsAcceptor? tls = null, AuthenticationRoom? auth = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (tls is null && options.Listeners.Any(static l => l.Tls is TlsMode.Required or TlsMode.Implicit))
        {
            throw new ArgumentException("a listener needs TLS, and there is no certificate", nameof(tls));
        }

        _logger = loggers.CreateLogger<SmtpServer>();
        _context = new SmtpContext(options, intake, events, wheel, time, _logger, new SmtpMetrics(meters), tls, auth);
        int configured = options.Limits.Connections;
        int effective = Math.Min(configured, DescriptorLimit.ConnectionsBelow(descriptors));
        if (effective < configured)
        {
            SmtpLog.ConnectionsCapped(_logger, configured, descriptors, effective);
        }

        _gate = new ConnectionGate(effective, options.Limits.ConnectionsPerIp, options.Guard.NetworkConnections);
    }

    /// <summary>The bound addresses in the order of <see cref="SmtpServerOptions.Listeners"/>, real ports included; empty before <see cref="Start"/>.</summary>
    public IReadOnlyList<IPEndPoint> Endpoints => [.. _listeners.Select(static l => l.Endpoint)];

    /// <summary>Sessions open now.</summary>
    public int SessionCount
    {
        get
        {
            lock (_lock)
            {
                return _sessions.Count;
            }
        }
    }

    internal ConnectionGate Gate => _gate;

    /// <summary>Reads the files of <c>guard.allow_files</c> and <c>guard.deny_files</c> now. False: there are none.</summary>
    public bool ReloadLists() => _context.Guard.ReloadLists();

    /// <summary>Binds every listener, then begins to accept on all of them.</summary>
    /// <exception cref="SocketException">An address cannot be bound; its <see cref="Exception.Data"/> holds it as "address". Nothing is left listening.</exception>
    public void Start()
    {
        foreach (ListenerOptions listener in _context.Options.Listeners)
        {
            try
            {
                _listeners.Add(new SocketListener(listener.Address, _gate, connection => Accept(connection, listener), _context.Time, _logger));
            }
            catch (SocketException e)
            {
                e.Data["address"] = listener.Address.ToString();
                foreach (SocketListener bound in _listeners)
                {
                    bound.Close();
                }

                throw;
            }
        }

        for (int i = 0; i < _listeners.Count; i++)
        {
            SmtpLog.Listening(_logger, _listeners[i].Endpoint, _context.Options.Listeners[i].Profile, _context.Options.Listeners[i].Tls);
            _listeners[i].Start();
        }
    }

    /// <summary>
    /// Stops accepting, ends idle sessions with 421 4.3.2 and lets transactions under way finish. When <paramref name="limit"/> is cancelled the
    /// rest is dropped; a message without its 250 stays the client's.
    /// </summary>
    public async Task StopAsync(CancellationToken limit)
    {
        await CloseListenersAsync();
        foreach (SmtpSession session in BeginStop())
        {
            session.RequestStop();
        }

        try
        {
            await _ended.Task.WaitAsync(limit);
            return;
        }
        catch (OperationCanceledException)
        {
            // The limit is up.
        }

        SmtpSession[] left = Snapshot();
        SmtpLog.SessionsDropped(_logger, left.Length);
        foreach (SmtpSession session in left)
        {
            session.Abort();
        }

        // A session that waits for its commit ends with it; nothing can be done for one that does not.
        await Task.WhenAny(_ended.Task, Task.Delay(DropLimit, CancellationToken.None));
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync(new CancellationToken(canceled: true));
        _context.Guard.Dispose();
        _context.Metrics.Dispose();
        _gate.Dispose();
    }

    /// <summary>Serves one connection to its end, outside of listeners and gate.</summary>
    internal Task<SessionEnd> ServeAsync(IConnection connection, ListenerProfile profile) =>
        ServeAsync(connection, new ListenerOptions(new IPEndPoint(IPAddress.Any, 0), profile));

    /// <summary>As the other one, for a listener with all that it says.</summary>
    internal async Task<SessionEnd> ServeAsync(IConnection connection, ListenerOptions listener, ProxyHeader? origin = null)
    {
        SmtpSession session = new(_context, connection, listener, origin);
        bool stopping;
        lock (_lock)
        {
            stopping = _stopping;
            if (!stopping)
            {
                _sessions.Add(session);
            }
        }

        if (stopping)
        {
            WriteFirst(connection, listener, Replies.ShuttingDown);
            await connection.CloseAsync();
            return SessionEnd.Stopped;
        }

        _context.Metrics.Open.Add(1);
        SessionEnd end = await session.RunAsync();
        _context.Metrics.Open.Add(-1);
        lock (_lock)
        {
            _sessions.Remove(session);
            if (_stopping && _sessions.Count == 0)
            {
                _ended.TrySetResult();
            }
        }

        return end;
    }

    /// <summary>On the accept loop, which goes on when the session first waits: for its client's first command.</summary>
    private void Accept(PipeSocketConnection connection, ListenerOptions listener) => _ = RunAsync(connection, listener);

    private async Task RunAsync(PipeSocketConnection connection, ListenerOptions listener)
    {
        IPAddress? admitted = null;
        AdmissionLimits limits = AdmissionLimits.Address;
        try
        {
            _context.Metrics.Connections.Add(1);
            IPAddress client = RelayPolicy.Normalize(connection.Remote!.Address);
            IPAddress? named = client;
            ProxyHeader? origin = null;
            if (RelayPolicy.Holds(listener.ProxyProtocol, client))
            {
                if (await ReadProxyHeaderAsync(connection) is not { } header)
                {
                    return;
                }

                // Its limits are those of the client that it speaks for, whose name it gives or not.
                origin = header;
                client = RelayPolicy.Normalize(header.Source?.Address ?? client);
                named = header.Origin == ProxyOrigin.Unknown ? null : client;
            }

            SmtpReply? refusal = _context.Guard.Admit(named, listener, out limits) ?? RefusalOf(_gate.Admit(client, limits));
            if (refusal is null)
            {
                admitted = client;
                await ServeAsync(connection, listener, origin);
            }
            else
            {
                await RefuseAsync(connection, listener, client, refusal);
            }
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException or InvalidOperationException)
        {
            SmtpLog.ConnectionBroke(_logger, e, null);
            await connection.DisposeAsync();
        }
        catch (Exception e)
        {
            // Nobody awaits this task: a bug must be seen here, and the client must not wait for ever.
            SmtpLog.SessionFailed(_logger, e, null);
            await connection.DisposeAsync();
        }
        finally
        {
            _gate.Leave(admitted, limits);
        }
    }

    private static SmtpReply? RefusalOf(Admission admission) => admission switch
    {
        Admission.TooMany => Replies.TooManyConnections,
        Admission.TooManyFromAddress => Replies.TooManyConnectionsFromAddress,
        Admission.TooManyFromNetwork => GuardReplies.NetworkConnections,
        _ => null,
    };

    /// <summary>Null: there was none that can be used, and the connection is closed. A server that stops does not wait for one.</summary>
    private async Task<ProxyHeader?> ReadProxyHeaderAsync(PipeSocketConnection connection)
    {
        lock (_lock)
        {
            if (_stopping)
            {
                connection.Abort();
            }

            _opening.Add(connection);
        }

        ProxyHeader? header;
        ProxyFailure failure;
        bool stopping;
        try
        {
            (header, failure) = await new ProxyPreface(connection, _context.Wheel, _context.Limits.ProxyTimeout).ReadAsync();
        }
        finally
        {
            lock (_lock)
            {
                _opening.Remove(connection);
                stopping = _stopping;
            }
        }

        if (header is null && stopping)
        {
            await connection.DisposeAsync();
        }
        else if (header is null)
        {
            _context.Metrics.ProxyFailures.Add(1, new KeyValuePair<string, object?>("cause", ProxyCauses[(int)failure]));
            if (_context.Guard.MayTell(connection.Remote?.Address, ProxyCauses[(int)failure]))
            {
                SmtpLog.NoProxyHeader(_logger, connection.Remote, failure);
            }

            await connection.DisposeAsync();
        }

        return header;
    }

    /// <summary>What a client hears that gets no session. One that waits for TLS can read nothing, and a handshake is what there is no room for.</summary>
    private static void WriteFirst(IConnection connection, ListenerOptions listener, SmtpReply reply)
    {
        if (listener.Tls != TlsMode.Implicit)
        {
            connection.Output.Write(reply.Wire.Span);
        }
    }

    private async Task RefuseAsync(PipeSocketConnection connection, ListenerOptions listener, IPAddress client, SmtpReply reply)
    {
        _context.Metrics.Refused.Add(1);
        _context.Guard.TurnedAway(reply, client);
        if (reply == Replies.AccessDenied && _context.Guard.Options.DenyAction == DenyAction.Drop)
        {
            connection.Abort();
            await connection.DisposeAsync();
            return;
        }

        WriteFirst(connection, listener, reply);
        await connection.CloseAsync(RefusalCloseLimit);
    }

    private async ValueTask CloseListenersAsync()
    {
        foreach (SocketListener listener in _listeners)
        {
            await listener.DisposeAsync();
        }
    }

    private SmtpSession[] BeginStop()
    {
        lock (_lock)
        {
            _stopping = true;
            foreach (IConnection connection in _opening)
            {
                connection.Abort();
            }

            if (_sessions.Count == 0)
            {
                _ended.TrySetResult();
            }

            return [.. _sessions];
        }
    }

    private SmtpSession[] Snapshot()
    {
        lock (_lock)
        {
            return [.. _sessions];
        }
    }
}
