using System.Net;
using System.Net.Sockets;
using HighPerfMta.Queue.Async;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// One listening socket and its accept loop. The loop waits at the gate before it accepts, and outlives every accept error:
/// a listener that stops accepting while the process lives would be an outage that nobody sees.
/// </summary>
public sealed partial class SocketListener : IAsyncDisposable
{
    private const int Backlog = 4096;

    /// <summary>Connections taken in a row on a poller's thread; then the pool goes on, and the poller's sockets have their turn.</summary>
    private const int MostInline = 64;

    private static readonly TimeSpan ErrorPause = TimeSpan.FromMilliseconds(75);

    /// <summary>Takes the next connection; as <see cref="TcpSocket.TryAccept"/>.</summary>
    internal delegate TcpSocket? Acceptor(Socket listener, SocketAddress peer, out IPEndPoint? remote);

    /// <summary>Accept errors that are told; out of descriptors there is one at every pause.</summary>
    private static readonly TimeSpan ErrorLineInterval = TimeSpan.FromMinutes(1);

    private readonly Socket _socket;
    private readonly Acceptor _accept;
    private readonly ConnectionGate _gate;
    private readonly Action<PipeSocketConnection> _accepted;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly CancellationTokenSource _stop = new();
    private readonly SocketPoller _poller = SocketPoller.Next();
    private readonly SocketSignals _signals = new();
    private readonly SocketAddress _peer = TcpSocket.NewPeer();
    private Task _loop = Task.CompletedTask;
    private int _inline;
    private int _disposed;
    private int _errors;
    private long _toldAt;

    /// <summary>Binds and listens; connections queue up until <see cref="Start"/>.</summary>
    /// <param name="address">Where to listen; port 0 takes a free one. IPv6 listens for IPv6 alone.</param>
    /// <param name="gate">Where a place is taken before accept. Whoever gets the connection gives the place back.</param>
    /// <param name="accepted">Takes over an accepted connection and its place; must not block or throw.</param>
    /// <param name="time">For the pause after an error.</param>
    /// <param name="logger">Accept errors.</param>
    /// <exception cref="SocketException">The address cannot be bound.</exception>
    public SocketListener(IPEndPoint address, ConnectionGate gate, Action<PipeSocketConnection> accepted, TimeProvider time, ILogger logger)
        : this(address, gate, accepted, time, logger, TcpSocket.TryAccept)
    {
    }

    /// <inheritdoc cref="SocketListener(IPEndPoint, ConnectionGate, Action{PipeSocketConnection}, TimeProvider, ILogger)"/>
    internal SocketListener(IPEndPoint address, ConnectionGate gate, Action<PipeSocketConnection> accepted, TimeProvider time, ILogger logger, Acceptor accept)
    {
        ArgumentNullException.ThrowIfNull(address);
        _accept = accept;
        _gate = gate;
        _accepted = accepted;
        _time = time;
        _logger = logger;
        _socket = Bind(address);
        Endpoint = (IPEndPoint)_socket.LocalEndPoint!;
    }

    /// <summary>The bound address with its real port.</summary>
    public IPEndPoint Endpoint { get; }

    public void Start()
    {
        _poller.Add(_signals, _socket.SafeHandle, output: false);
        _loop = Task.Run(AcceptLoopAsync);
    }

    /// <summary>Stops accepting at once; connections still in the backlog are reset by the kernel.</summary>
    public void Close()
    {
        _stop.Cancel();
        _socket.Dispose();
        _signals.SetAll();
    }

    /// <summary>As <see cref="Close"/>, and returns when the accept loop has ended.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        Close();
        await _loop;
        _poller.Remove(_signals);
        _stop.Dispose();
    }

    /// <summary>A listening socket that does not block; what it accepts sends at once.</summary>
    internal static Socket Bind(IPEndPoint address)
    {
        Socket socket = new(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            if (address.AddressFamily == AddressFamily.InterNetworkV6)
            {
                socket.DualMode = false;
            }

            if (OperatingSystem.IsLinux())
            {
                // SO_REUSEADDR alone: the portable option also sets SO_REUSEPORT, with which a second server could bind the port unnoticed.
                const int solSocket = 1;
                const int soReuseAddress = 2;
                Span<byte> on = stackalloc byte[sizeof(int)];
                BitConverter.TryWriteBytes(on, 1);
                socket.SetRawSocketOption(solSocket, soReuseAddress, on);
            }

            socket.NoDelay = true;
            socket.Bind(address);
            socket.Listen(Backlog);
            socket.Blocking = false;
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async Task AcceptLoopAsync()
    {
        CancellationToken stop = _stop.Token;
        while (!stop.IsCancellationRequested)
        {
            bool placed = false;
            try
            {
                await _gate.EnterAsync(stop);
                placed = true;
                PipeSocketConnection connection = await AcceptAsync(stop);
                placed = false;
                _accepted(connection);
            }
            catch (Exception) when (stop.IsCancellationRequested)
            {
                if (placed)
                {
                    _gate.Leave(null);
                }

                return;
            }
            catch (Exception e)
            {
                if (placed)
                {
                    _gate.Leave(null);
                }

                Tell(e);
                await PauseAsync(stop);
            }
        }
    }

    private async ValueTask<PipeSocketConnection> AcceptAsync(CancellationToken stop)
    {
        while (true)
        {
            stop.ThrowIfCancellationRequested();
            if (SocketPoller.IsCurrent && ++_inline > MostInline)
            {
                _inline = 0;
                await Departures.LeaveAsync();
            }

            if (_accept(_socket, _peer, out IPEndPoint? remote) is { } socket)
            {
                return PipeSocketConnection.Create(socket, remote);
            }

            _inline = 0;
            await _signals.Readable.WaitAsync();
        }
    }

    private void Tell(Exception error)
    {
        if (_errors++ == 0 || _time.GetElapsedTime(_toldAt) >= ErrorLineInterval)
        {
            _toldAt = _time.GetTimestamp();
            AcceptFailed(_logger, error, Endpoint, _errors);
        }
    }

    private async Task PauseAsync(CancellationToken stop)
    {
        try
        {
            await Task.Delay(ErrorPause, _time, stop);
        }
        catch (OperationCanceledException)
        {
            // The loop sees it.
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "accept on {Endpoint} failed; going on ({Count} times so far)")]
    private static partial void AcceptFailed(ILogger logger, Exception exception, IPEndPoint endpoint, int count);
}
