using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Pipelines.Sockets.Unofficial;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// A TCP connection as pipes. Reads rent a buffer only when data has arrived (zero-length reads), so an idle connection holds none.
/// A flush means "in the pipe", not "on the wire": <see cref="CloseAsync()"/> is what makes the last reply reach the peer.
/// </summary>
public sealed class PipeSocketConnection : IConnection
{
    /// <summary>How long an orderly close waits for the peer to take what was written and to close its side.</summary>
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(3);

    /// <summary>Octets of late input that an orderly close throws away before it stops being orderly.</summary>
    private const long DrainLimit = 1 << 20;

    // At most this much of the peer's input, and of our output, waits in memory.
    private static readonly PipeOptions ReceiveOptions = new(
        pauseWriterThreshold: 64 << 10, resumeWriterThreshold: 32 << 10, minimumSegmentSize: 16 << 10, useSynchronizationContext: false);

    private static readonly PipeOptions SendOptions = new(
        pauseWriterThreshold: 64 << 10, resumeWriterThreshold: 32 << 10, minimumSegmentSize: 4 << 10, useSynchronizationContext: false);

    private readonly SocketConnection _pipes;
    private int _disposed;

    private PipeSocketConnection(Socket socket)
    {
        Remote = socket.RemoteEndPoint as IPEndPoint;
        Local = socket.LocalEndPoint as IPEndPoint;
        _pipes = SocketConnection.Create(socket, SendOptions, ReceiveOptions, SocketConnectionOptions.ZeroLengthReads);
    }

    public IPEndPoint? Remote { get; }

    public IPEndPoint? Local { get; }

    public PipeReader Input => _pipes.Input;

    public PipeWriter Output => _pipes.Output;

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

    public ValueTask CloseAsync() => CloseAsync(CloseLimit);

    /// <summary>As <see cref="CloseAsync()"/> with another limit, for connections that hold a place which others wait for.</summary>
    public async ValueTask CloseAsync(TimeSpan closeLimit)
    {
        // Completing the output lets the send loop write what is left and then shut the send side down. The peer's end of stream is the proof
        // that it saw ours; closing before, with input unread, would reset the connection and could destroy the last reply on its way.
        try
        {
            await Output.CompleteAsync();
            using CancellationTokenSource limit = new(closeLimit);
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
            _pipes.Socket.LingerState = new LingerOption(enable: true, seconds: 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Closed already.
        }

        _pipes.Dispose();
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        _pipes.Dispose();

        // Both loops of the connection wait on their pipes too: completing our ends lets them finish and give their buffers back.
        await Output.CompleteAsync();
        await Input.CompleteAsync();
    }
}
