using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.TestKit;

/// <summary>Two ends of a TCP connection over the loopback.</summary>
public static class SocketPair
{
    /// <summary>Connects; whoever asks disposes both.</summary>
    public static async Task<(Socket Client, Socket Server)> ConnectAsync(CancellationToken cancellation)
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        Socket client = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await client.ConnectAsync(listener.LocalEndPoint!, cancellation);
        return (client, await listener.AcceptAsync(cancellation));
    }
}
