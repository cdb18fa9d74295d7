using System.IO.Pipelines;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Engine.Net;

/// <summary>Sends to a socket, on the thread of whoever flushes. A <see cref="SocketException"/> tells that the connection broke.</summary>
/// <param name="socket">Where the octets go.</param>
/// <param name="signals">Of the socket.</param>
/// <param name="watchOutput">Called once, when the peer is first slower than we: from then on the signals tell when there is room again.</param>
internal sealed class SocketWriter(TcpSocket socket, SocketSignals signals, Action watchOutput) : BufferedWriter
{
    private bool _watched;

    protected override ValueTask<FlushResult> SendAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation)
    {
        int sent = TrySend(octets.Span);
        if (sent < octets.Length)
        {
            return SendRestAsync(octets[sent..], cancellation);
        }

        Release();
        return default;
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<FlushResult> SendRestAsync(ReadOnlyMemory<byte> octets, CancellationToken cancellation)
    {
        if (!_watched)
        {
            _watched = true;
            watchOutput();
        }

        CancellationTokenRegistration registration = cancellation.UnsafeRegister(static signal => ((SocketSignal)signal!).Set(inline: false), signals.Writable);
        try
        {
            while (!octets.IsEmpty)
            {
                await signals.Writable.WaitAsync();
                cancellation.ThrowIfCancellationRequested();
                octets = octets[TrySend(octets.Span)..];
            }
        }
        finally
        {
            await registration.DisposeAsync();
        }

        Release();
        return default;
    }

    /// <summary>Sends what the kernel takes of the octets; how many that were.</summary>
    private int TrySend(ReadOnlySpan<byte> octets)
    {
        int sent = 0;
        try
        {
            while (sent < octets.Length && socket.Send(octets[sent..]) is >= 0 and int count)
            {
                sent += count;
            }
        }
        catch (ObjectDisposedException)
        {
            throw new SocketException((int)SocketError.OperationAborted);
        }

        return sent;
    }
}
