using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;
using Pipelines.Sockets.Unofficial;

namespace HighPerfMta.Microbench.Net;

/// <summary>
/// A client and a server over loopback: the client is a bare socket that blocks, the server a loop over a transport that answers what comes with the same octets.
/// A wait ends after <see cref="Limit"/> with an exception.
/// </summary>
internal sealed class EchoPair : IAsyncDisposable
{
    /// <summary>Octets of a command and of its reply.</summary>
    public const int Octets = 64;

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    // What a server would give the package: no buffer while nothing comes, nothing of a synchronization context, no more than 64 KiB in memory either way.
    private static readonly PipeOptions ReceiveOptions = new(
        pauseWriterThreshold: 64 << 10, resumeWriterThreshold: 32 << 10, minimumSegmentSize: 16 << 10, useSynchronizationContext: false);

    private static readonly PipeOptions SendOptions = new(
        pauseWriterThreshold: 64 << 10, resumeWriterThreshold: 32 << 10, minimumSegmentSize: 4 << 10, useSynchronizationContext: false);

    private readonly byte[] _octets = new byte[Octets];
    private readonly Socket _client;
    private readonly Socket _server;
    private Task _echo = Task.CompletedTask;

    private EchoPair(Socket client, Socket server)
    {
        _client = client;
        _server = server;
    }

    /// <summary>The transport of the server: <see cref="PipeSocketConnection"/>.</summary>
    public static IDuplexPipe Own(Socket socket) => PipeSocketConnection.Create(socket);

    /// <summary>The yardstick: pipes with loops between them and the socket.</summary>
    public static IDuplexPipe Pipes(Socket socket) => SocketConnection.Create(socket, SendOptions, ReceiveOptions, SocketConnectionOptions.ZeroLengthReads);

    /// <summary>A socket that listens at a free port of loopback, for <see cref="OpenAsync"/>.</summary>
    public static Socket Listen()
    {
        Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        return listener;
    }

    /// <summary>Two connected sockets; nobody serves yet.</summary>
    public static async Task<EchoPair> OpenAsync(Socket listener)
    {
        int milliseconds = (int)Limit.TotalMilliseconds;
        Socket client = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
        {
            NoDelay = true,
            SendTimeout = milliseconds,
            ReceiveTimeout = milliseconds,

            // Closed with a reset: thousands of connections leave nothing in the kernel.
            LingerState = new LingerOption(enable: true, seconds: 0),
        };
        try
        {
            // Not ConnectAsync: a socket that was once used so has no calls that block any more, and would take its turns on other threads.
#pragma warning disable CA1849, VSTHRD103
            client.Connect(listener.LocalEndPoint!);
#pragma warning restore CA1849, VSTHRD103
            using CancellationTokenSource limit = new(Limit);
            return new EchoPair(client, await listener.AcceptAsync(limit.Token));
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    /// <summary>Serves the connection through a transport, which owns the server's socket from here on.</summary>
    public void Serve(Func<Socket, IDuplexPipe> transport)
    {
        _server.NoDelay = true;
        _echo = EchoAsync(transport(_server));
    }

    /// <summary>A command to the server and its reply.</summary>
    /// <exception cref="SocketException">The server does not answer.</exception>
    public void Exchange()
    {
        _client.Send(_octets);
        for (int received = 0; received < Octets;)
        {
            int count = _client.Receive(_octets.AsSpan(received));
            received += count > 0 ? count : throw new IOException("The server closed the connection.");
        }
    }

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _echo.WaitAsync(Limit);
        _server.Dispose();
    }

    private static async Task EchoAsync(IDuplexPipe transport)
    {
        try
        {
            while (true)
            {
                ReadResult result = await transport.Input.ReadAsync();
                if (result.IsCompleted)
                {
                    break;
                }

                foreach (ReadOnlyMemory<byte> piece in result.Buffer)
                {
                    transport.Output.Write(piece.Span);
                }

                transport.Input.AdvanceTo(result.Buffer.End);
                await transport.Output.FlushAsync();
            }
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            // The client's reset is the end; an exchange that it breaks fails at the client.
        }

        await CloseAsync(transport);
    }

    private static async ValueTask CloseAsync(IDuplexPipe transport)
    {
        if (transport is IAsyncDisposable connection)
        {
            await connection.DisposeAsync();
            return;
        }

        await transport.Output.CompleteAsync();
        await transport.Input.CompleteAsync();
        ((IDisposable)transport).Dispose();
    }
}
