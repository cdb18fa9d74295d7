using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.Engine.Net;

/// <summary>Opens TCP connections from the addresses that the operator chose. The caller's token bounds how long an attempt may take.</summary>
/// <param name="source4">Source of connections to IPv4 peers; null: the system chooses.</param>
/// <param name="source6">Source of connections to IPv6 peers; null: the system chooses.</param>
public sealed class SocketConnector(IPAddress? source4 = null, IPAddress? source6 = null) : IConnector
{
    public async ValueTask<IConnection> ConnectAsync(IPEndPoint remote, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(remote);
        TcpSocket socket = TcpSocket.Create(remote.AddressFamily, remote.AddressFamily == AddressFamily.InterNetworkV6 ? source6 : source4);
        return await PipeSocketConnection.ConnectAsync(socket, remote, cancellation);
    }
}
