using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Net;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Net;

public class SocketListenerTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Without_descriptors_clients_wait_and_are_served_when_there_are_some_again()
    {
        const int failures = 100;
        FakeTimeProvider time = new();
        RecordingLoggers log = new();
        using ConnectionGate gate = new(total: 1, perAddress: 10);
        int tries = 0;
        TaskCompletionSource<PipeSocketConnection> accepted = new(TaskCreationOptions.RunContinuationsAsynchronously);
        SocketListener listener = new(new IPEndPoint(IPAddress.Loopback, 0), gate, accepted.SetResult, time, log, (Socket socket, SocketAddress peer, out IPEndPoint? remote) =>
            Interlocked.Increment(ref tries) <= failures ? throw new SocketException((int)SocketError.TooManyOpenSockets) : TcpSocket.TryAccept(socket, peer, out remote));
        listener.Start();
        using Socket client = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(listener.Endpoint, Cancellation);
        await using (PipeSocketConnection connection = await time.PassUntilAsync(accepted.Task, TimeSpan.FromMilliseconds(75)))
        {
            Assert.Equal(client.LocalEndPoint, connection.Remote);
            Assert.True(tries > failures);
        }

        // The place of each failed try was given back; the accepted connection and the next wait each hold one.
        await Waiting.UntilAsync(() => gate.FreePlaces == 1 + ConnectionGate.RefusalPlaces - 2);
        gate.Leave(null);
        await listener.DisposeAsync();
        Assert.Equal(1 + ConnectionGate.RefusalPlaces, gate.FreePlaces);

        // A hundred failures within a few seconds of the clock, or some more of the machine's: not a line for each.
        Assert.InRange(log.Warnings.Count, 1, failures / 10);
        Assert.Contains("accept on 127.0.0.1:", log.Warnings.First(), StringComparison.Ordinal);
    }
}
