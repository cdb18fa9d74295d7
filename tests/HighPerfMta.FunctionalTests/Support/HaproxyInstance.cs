using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A HAProxy of the test's own, in the foreground: one port on loopback that leads to another one.</summary>
internal sealed class HaproxyInstance : IAsyncDisposable
{
    private readonly TempFolder _folder;
    private readonly Process _process;

    private HaproxyInstance(TempFolder folder, Process process, int port)
    {
        _folder = folder;
        _process = process;
        Port = port;
    }

    public int Port { get; }

    /// <param name="to">Port of 127.0.0.1 where the connections go.</param>
    /// <param name="options">Of the server line, such as send-proxy.</param>
    public static async Task<HaproxyInstance> StartAsync(int to, string options)
    {
        string haproxy = Peer.Require("haproxy");
        TempFolder folder = new();
        int port = Ports.Free();
        await File.WriteAllTextAsync(folder.File("haproxy.cfg"), $"""
            global
              maxconn 100
            defaults
              mode tcp
              timeout connect 5s
              timeout client 60s
              timeout server 60s
            frontend mail
              bind 127.0.0.1:{port.ToString(CultureInfo.InvariantCulture)}
              default_backend mta
            backend mta
              server mta 127.0.0.1:{to.ToString(CultureInfo.InvariantCulture)} {options}

            """);
        Process process = Process.Start(haproxy, ["-db", "-q", "-f", folder.File("haproxy.cfg")]);
        HaproxyInstance instance = new(folder, process, port);
        await Eventually.TrueAsync(instance.ListensAsync, () => "HAProxy does not listen");
        return instance;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
        _folder.Dispose();
    }

    private async Task<bool> ListensAsync()
    {
        Assert.False(_process.HasExited, "HAProxy ended at once");
        try
        {
            using TcpClient client = new();
            await client.ConnectAsync(IPAddress.Loopback, Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
