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

    /// <summary>The limit of open files falls while the server runs, so that nothing it counts keeps it below.</summary>
    [Fact]
    public async Task Without_descriptors_running_sessions_go_on_and_it_recovers_when_some_are_free()
    {
        const int Spare = 20;
        const string Message = "Subject: x\r\n\r\ntext\r\n";
        await using MtaProcess mta = await MtaProcess.StartAsync(MtaProcess.HoldAll);
        string id = mta.Id.ToString(CultureInfo.InvariantCulture);
        using MtaClient running = await MtaClient.ConnectAsync(mta);
        await running.SendAsync("a@example.org", Message, "b@held.example");
        int limit = Directory.EnumerateFileSystemEntries($"/proc/{id}/fd").Count() + Spare;
        await Peer.RunAsync(Peer.Require("prlimit"), ["--pid", id, string.Create(CultureInfo.InvariantCulture, $"--nofile={limit}:")]);
        List<TcpClient> crowd = [];
        try
        {
            for (int i = 0; i < 3 * Spare; i++)
            {
                TcpClient client = new();
                crowd.Add(client);
                await client.ConnectAsync(IPAddress.Loopback, mta.Port, TestContext.Current.CancellationToken);
            }

            await Eventually.TrueAsync(() => Task.FromResult(mta.Log.Contains($"accept on 127.0.0.1:{mta.Port} failed; going on", StringComparison.Ordinal)), () => mta.Log);
            await running.SendAsync("a@example.org", Message, "c@held.example");
        }
        finally
        {
            crowd.ForEach(static client => client.Dispose());
        }

        // Who waited to be accepted is gone by now, and a new client is served.
        await MtaClient.SendAsync(mta, "a@example.org", Message, "d@held.example");
        await running.SendAsync("a@example.org", Message, "e@held.example");
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
