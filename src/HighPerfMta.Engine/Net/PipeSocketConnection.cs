using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// A TCP connection as the two ends of pipes: whoever reads receives, whoever flushes sends, on its own thread and without a copy in between.
/// <see cref="CloseAsync(bool)"/> is what makes the last reply reach the peer.
/// </summary>
public sealed class PipeSocketConnection : IConnection
{
    /// <summary>How long an orderly close waits for the peer to take what was written and to close its side.</summary>
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(3);

    /// <summary>Octets of late input that an orderly close throws away before it stops being orderly.</summary>
    private const long DrainLimit = 1 << 20;

    private readonly TcpSocket _socket;
    private readonly SocketPoller _poller;
    private readonly SocketSignals _signals = new();
    private readonly SocketReader _input;
    private readonly SocketWriter _output;
    private IPEndPoint? _local;
    private int _disposed;

    private PipeSocketConnection(TcpSocket socket, SocketPoller poller, IPEndPoint? remote)
    {
        Remote = remote;
        _socket = socket;
        _poller = poller;
        _input = new SocketReader(socket, _signals);
        _output = new SocketWriter(socket, _signals, WatchOutput);
    }

    public IPEndPoint? Remote { get; }

    public IPEndPoint? Local => _local ??= ReadLocal();

    public PipeReader Input => _input;

    public PipeWriter Output => _output;

    /// <summary>Takes over a connected socket; the connection owns it from here on.</summary>
    /// <exception cref="SocketException">The peer has gone already; the socket is closed.</exception>
    public static PipeSocketConnection Create(Socket socket)
    {
        ArgumentNullException.ThrowIfNull(socket);
        try
        {
            IPEndPoint? remote = socket.RemoteEndPoint as IPEndPoint;
            return Create(TcpSocket.Take(socket), remote);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Takes over a connected socket.</summary>
    internal static PipeSocketConnection Create(TcpSocket socket, IPEndPoint? remote)
    {
        PipeSocketConnection connection = new(socket, SocketPoller.Next(), remote);
        try
        {
            connection._poller.Add(connection._signals, socket, output: false);
            return connection;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Connects a socket; the connection owns it from here on.</summary>
    /// <exception cref="SocketException">There is no connection; the socket is closed.</exception>
    /// <exception cref="OperationCanceledException">The same.</exception>
    internal static async ValueTask<PipeSocketConnection> ConnectAsync(TcpSocket socket, IPEndPoint remote, CancellationToken cancellation)
    {
        PipeSocketConnection connection = new(socket, SocketPoller.Next(), remote);
        try
        {
            cancellation.ThrowIfCancellationRequested();
            bool connected = socket.Connect(remote);
            connection._poller.Add(connection._signals, socket, output: !connected);
            if (!connected)
            {
                await connection.ConnectedAsync(cancellation);
            }

            return connection;
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
    }

    public bool HasReceived => _input.HasUnread;

    public void ExpectLittle() => _input.ExpectLittle();

    public void ExpectBody() => _input.ExpectBody();

    public bool HasInput()
    {
        try
        {
            return _input.HasUnread || _socket.HasInput();
        }
        catch (ObjectDisposedException)
        {
            return true;
        }
    }

    public ValueTask CloseAsync(bool peerIsDone = false)
    {
        // The kernel sends what it has and then the end of the stream, unless there is unread input: then it resets the connection.
        return peerIsDone && _output.UnflushedBytes == 0 && !HasInput() ? DisposeAsync() : CloseAsync(CloseLimit);
    }

    /// <summary>As <see cref="CloseAsync(bool)"/> with another limit, for connections that hold a place which others wait for.</summary>
    public async ValueTask CloseAsync(TimeSpan closeLimit)
    {
        // The peer's end of stream is the proof that it saw ours; closing before, with input unread, would reset the connection and could destroy the
        // last reply on its way.
        try
        {
            using CancellationTokenSource limit = new(closeLimit);
            await Output.FlushAsync(limit.Token);
            _socket.EndOutput();
            long drained = 0;
            while (drained < DrainLimit)
            {
                ReadResult result = await Input.ReadAsync(limit.Token);
                drained += result.Buffer.Length;
                Input.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted)
                {
                    break;
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // The peer did not close in time or is gone; what could be sent was sent.
        }

        await DisposeAsync();
    }

    public void Abort()
    {
        try
        {
            _socket.ResetOnClose();
        }
        catch (ObjectDisposedException)
        {
            // Closed already.
        }

        CloseSocket();
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        CloseSocket();
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }

    private IPEndPoint? ReadLocal()
    {
        try
        {
            return _socket.Local();
        }
        catch (ObjectDisposedException)
        {
            return null;
        }
    }

    private async ValueTask ConnectedAsync(CancellationToken cancellation)
    {
        await using (cancellation.UnsafeRegister(static signal => ((SocketSignal)signal!).Set(inline: false), _signals.Writable))
        {
            await _signals.Writable.WaitAsync();
        }

        cancellation.ThrowIfCancellationRequested();
        _socket.ThrowIfFailed();
    }

    private void WatchOutput() => _poller.WatchOutput(_signals, _socket);

    /// <summary>Whoever waits for the socket sees that it is closed.</summary>
    private void CloseSocket()
    {
        _socket.Dispose();
        _poller.Remove(_signals);
        _signals.SetAll();
    }
}
