using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Microbench.Dns;

/// <summary>
/// A name server of one answer, over UDP on loopback: whatever is asked has two MX records. It answers in the buffer that the query came in and allocates nothing, so that what a lookup is seen
/// to allocate is the resolver's.
/// </summary>
internal sealed class MxResponder : IAsyncDisposable
{
    private const int HeaderOctets = 12;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    /// <summary>Owner: the name of the question (RFC 1035, 4.1.4). MX, IN, one hour, 8 octets: a preference and an exchange in the domain of the question.</summary>
    private static readonly byte[] Answers =
    [
        0xC0, HeaderOctets, 0, 15, 0, 1, 0, 0, 0x0E, 0x10, 0, 8, 0, 10, 3, (byte)'m', (byte)'x', (byte)'1', 0xC0, HeaderOctets,
        0xC0, HeaderOctets, 0, 15, 0, 1, 0, 0, 0x0E, 0x10, 0, 8, 0, 20, 3, (byte)'m', (byte)'x', (byte)'2', 0xC0, HeaderOctets,
    ];

    private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _loop;

    public MxResponder()
    {
        _socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        Endpoint = (IPEndPoint)_socket.LocalEndPoint!;
        _loop = AnswerAsync();
    }

    public IPEndPoint Endpoint { get; }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _loop.WaitAsync(Limit);
        _socket.Dispose();
        _stop.Dispose();
    }

    private async Task AnswerAsync()
    {
        byte[] buffer = new byte[1500];
        SocketAddress from = new(AddressFamily.InterNetwork);
        try
        {
            while (true)
            {
                int received = await _socket.ReceiveFromAsync(buffer, SocketFlags.None, from, _stop.Token);
                int length = MakeAnswer(buffer, received);
                await _socket.SendToAsync(buffer.AsMemory(0, length), SocketFlags.None, from, _stop.Token);
            }
        }
        catch (OperationCanceledException)
        {
            // The benchmark is over.
        }
    }

    /// <summary>Turns a query of one question into its answer; what follows the question (EDNS) is dropped.</summary>
    private static int MakeAnswer(Span<byte> message, int received)
    {
        int end = HeaderOctets;
        while (message[end] != 0)
        {
            end += message[end] + 1;
        }

        end += 5;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(end, received);
        message[2] = 0x81;
        message[3] = 0x80;
        ReadOnlySpan<byte> counts = [0, 1, 0, 2, 0, 0, 0, 0];
        counts.CopyTo(message[4..]);
        Answers.CopyTo(message[end..]);
        return end + Answers.Length;
    }
}
