using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>
/// Ports of 127.0.0.1 for programs that are told where to listen. They are below those that the kernel gives to connections (32768 and up, ip(7)): one of these would be taken by somebody's connection
/// between the choice and the listening, or while a program is down that is to come back on its port. None is given twice.
/// </summary>
internal static class Ports
{
    private const int First = 20_000;
    private const int Count = 12_000;

    private static int _last = Random.Shared.Next(Count);

    /// <summary>A port on which nobody listens.</summary>
    public static int Free()
    {
        for (int tries = 0; tries < Count; tries++)
        {
            int port = First + (int)((uint)Interlocked.Increment(ref _last) % Count);
            using Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.Bind(new IPEndPoint(IPAddress.Loopback, port));
                return port;
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
            {
                // Another program's: the next one.
            }
        }

        throw new InvalidOperationException($"none of the ports {First} to {First + Count - 1} is free");
    }
}
