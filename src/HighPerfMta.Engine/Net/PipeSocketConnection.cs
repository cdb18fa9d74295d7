using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// A TCP connection as the two ends of pipes: whoever reads receives, whoever flushes sends, on its own thread and without a copy in between.
/// <see cref="CloseAsync()"/> is what makes the last reply reach the peer.
/// </summary>
public sealed class PipeSocketConnection : IConnection
{
    /// <summary>How long an orderly close waits for the peer to take what was written and to close its side.</summary>
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(3);

    /// <summary>Octets of late input that an orderly close throws away before it stops being orderly.</summary>
    private const long DrainLimit = 1 << 20;

    private readonly Socket _socket;
    private readonly SocketReader _input;
    private readonly SocketWriter _output;
    private int _disposed;

    private PipeSocketConnection(Socket socket)
    {
        Remote = socket.RemoteEndPoint as IPEndPoint;
        Local = socket.LocalEndPoint as IPEndPoint;
        _socket = socket;
        _input = new SocketReader(socket);
        _output = new SocketWriter(socket);
    }

    public IPEndPoint? Remote { get; }

    public IPEndPoint? Local { get; }

    public PipeReader Input => _input;

    public PipeWriter Output => _output;

    /// <summary>Takes over a connected socket; the connection owns it from here on.</summary>
    /// <exception cref="SocketException">The peer has gone already; the socket is closed.</exception>
    public static PipeSocketConnection Create(Socket socket)
    {
        ArgumentNullException.ThrowIfNull(socket);
        try
        {
            socket.NoDelay = true;
            return new PipeSocketConnection(socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public bool HasReceived => _input.HasUnread;

    public void ExpectLittle() => _input.ExpectLittle();

    public bool HasInput()
    {
        try
        {
            return _input.HasUnread || _socket.Poll(0, SelectMode.SelectRead);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return true;
        }
    }

    public ValueTask CloseAsync() => CloseAsync(CloseLimit);

    /// <summary>As <see cref="CloseAsync()"/> with another limit, for connections that hold a place which others wait for.</summary>
    public async ValueTask CloseAsync(TimeSpan closeLimit)
    {
        // The peer's end of stream is the proof that it saw ours; closing before, with input unread, would reset the connection and could destroy the
        // last reply on its way.
        try
        {
            using CancellationTokenSource limit = new(closeLimit);
            await Output.FlushAsync(limit.Token);
            _socket.Shutdown(SocketShutdown.Send);
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
            // A reset frees what a stuck peer left in the kernel's send buffer.
            _socket.LingerState = new LingerOption(enable: true, seconds: 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Closed already.
        }

        _socket.Dispose();
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        _socket.Dispose();
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }
}
