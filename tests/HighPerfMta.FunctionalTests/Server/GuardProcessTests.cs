using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Server;

/// <summary>The real program while somebody works against it.</summary>
public class GuardProcessTests
{
    private static readonly IPAddress Client = IPAddress.Parse("127.0.0.9");

    [Fact]
    public async Task Sighup_reloads_the_lists()
    {
        using TempFolder folder = new();
        string file = folder.File("deny.txt");
        await File.WriteAllTextAsync(file, "");
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [guard]
            deny_files = ["{file}"]
            reload_interval = "1d"
            """);
        Assert.StartsWith("220 ", await HearAsync(mta));
        await File.WriteAllTextAsync(file, "127.0.0.9 # worked against us\n");
        await HangUpAsync(mta);
        await Eventually.TrueAsync(async () => (await HearAsync(mta)).StartsWith("554 5.7.1", StringComparison.Ordinal), () => mta.Log);
        await File.WriteAllTextAsync(file, "127.0.0.9 and others\n");
        await HangUpAsync(mta);
        await Eventually.TrueAsync(() => Task.FromResult(mta.Log.Contains($"{file}:1: ", StringComparison.Ordinal)), () => mta.Log);
        Assert.StartsWith("554 5.7.1", await HearAsync(mta), StringComparison.Ordinal);
    }

    private static async Task HangUpAsync(MtaProcess mta)
    {
        using Process kill = Process.Start("kill", ["-HUP", mta.Id.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
    }

    private static async Task<string> HearAsync(MtaProcess mta)
    {
        using Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(Client, 0));
        await socket.ConnectAsync(IPAddress.Loopback, mta.Port);
        await using NetworkStream stream = new(socket);
        using StreamReader reader = new(stream, Encoding.ASCII);
        return await reader.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(60)) ?? "";
    }
}
