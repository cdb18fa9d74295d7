using System.IO.Pipelines;
using System.Net;

namespace HighPerfMta.Engine.Net;

/// <summary>One end of a byte stream: a TCP connection, or an in-memory pair in tests. Its pipes are owned by the session that holds it.</summary>
public interface IConnection : IDuplexPipe, IAsyncDisposable
{
    /// <summary>The peer; null when the transport has no addresses.</summary>
    IPEndPoint? Remote { get; }

    IPEndPoint? Local { get; }

    /// <summary>Something has come that was not read. The transport is not asked: more may wait there.</summary>
    bool HasReceived { get; }

    /// <summary>What comes next is a command or a reply: the wait for it shall hold no more memory than one of those needs.</summary>
    void ExpectLittle();

    /// <summary>What comes next is a message: as large as the one before, if there was one, which may be received in as large pieces.</summary>
    void ExpectBody();

    /// <summary>Whether there is something to read, or the stream has ended. Only while nobody reads.</summary>
    bool HasInput();

    /// <summary>
    /// Orderly close: everything flushed reaches the socket, then the send side is shut down, input is drained briefly, and the socket closed.
    /// Bounded by a few seconds. After it only DisposeAsync may be called.
    /// </summary>
    /// <param name="peerIsDone">The peer has said its last word (QUIT): when nothing more has come after it, its end of the stream is not waited for.</param>
    ValueTask CloseAsync(bool peerIsDone = false);

    /// <summary>Drops the connection at once; pending reads and flushes end with an exception or as completed. Safe from any thread, repeatedly.</summary>
    void Abort();
}

/// <summary>Opens outbound connections. A failure is a <see cref="System.Net.Sockets.SocketException"/> or an OperationCanceledException of the token.</summary>
public interface IConnector
{
    ValueTask<IConnection> ConnectAsync(IPEndPoint remote, CancellationToken cancellation);
}
