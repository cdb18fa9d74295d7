using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>A real DNS server (unbound) on loopback with a test zone of local data.</summary>
internal sealed class UnboundInstance : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly Process _process;

    private UnboundInstance(TempFolder folder, Process process, int port)
    {
        _folder = folder;
        _process = process;
        Port = port;
    }

    public int Port { get; }

    /// <param name="records">Records in zone file form, below "test.".</param>
    public static async Task<UnboundInstance> StartAsync(params string[] records)
    {
        string unbound = Peer.Require("unbound");
        TempFolder folder = new();
        int port = Ports.Free();
        string data = string.Join('\n', records.Select(static r => $"  local-data: '{r}'"));
        await File.WriteAllTextAsync(folder.File("unbound.conf"), $"""
            server:
              interface: 127.0.0.1
              port: {port.ToString(CultureInfo.InvariantCulture)}
              access-control: 127.0.0.0/8 allow
              do-daemonize: no
              chroot: ""
              username: ""
              directory: "{folder.Path}"
              pidfile: ""
              use-syslog: no
              num-threads: 1
              module-config: "iterator"
              do-not-query-localhost: no
              local-zone: "test." static
              local-zone: "broken.test." transparent
            {data}
            forward-zone:
              name: "broken.test."
              forward-addr: 127.0.0.1@1
            """);
        Process process = Process.Start(unbound, ["-d", "-c", folder.File("unbound.conf")]);
        UnboundInstance instance = new(folder, process, port);
        await Eventually.TrueAsync(() => instance.AnswersAsync(), () => "unbound does not listen");
        return instance;
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
        _folder.Dispose();
    }

    private async Task<bool> AnswersAsync()
    {
        Assert.False(_process.HasExited, "unbound ended at once");
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
