using System.Net.Sockets;
using System.Text;

namespace HighPerfMta.Server.Hosting;

/// <summary>Tells systemd how the service is (sd_notify(3)); does nothing where nobody asked for it.</summary>
internal static class ServiceManager
{
    public static void Ready() => Notify(Address, "READY=1");

    public static void Stopping() => Notify(Address, "STOPPING=1");

    private static string? Address => Environment.GetEnvironmentVariable("NOTIFY_SOCKET");

    internal static void Notify(string? name, string state)
    {
        if (name is not { Length: > 1 })
        {
            return;
        }

        try
        {
            // A leading @ means a name in Linux's abstract space, which begins with a zero byte.
            string path = name[0] == '@' ? "\0" + name[1..] : name;
            using Socket socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            socket.SendTo(Encoding.UTF8.GetBytes(state), new UnixDomainSocketEndPoint(path));
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            // The manager is told what it can be told; the server does not depend on it.
        }
    }
}
