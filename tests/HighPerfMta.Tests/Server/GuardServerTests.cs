using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Server.Hosting;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Tests.Server;

/// <summary>The guard of a whole server, on loopback.</summary>
public class GuardServerTests
{
    private static readonly IPAddress Client = IPAddress.Parse("127.0.0.9");

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_list_is_reloaded_when_asked_and_a_broken_one_changes_nothing()
    {
        await using ServerBench bench = ServerBench.Prepare("""
            [guard]
            deny_files = ["deny.txt"]
            """);
        using RecordingLoggers loggers = new(LogLevel.Information);
        bench.Loggers = loggers;
        string file = Path.Combine(Path.GetDirectoryName(bench.ConfigFile)!, "deny.txt");
        await File.WriteAllTextAsync(file, "# nobody yet\n", Cancellation);
        await bench.StartHostAsync();
        Assert.StartsWith("220 ", await HearAsync(bench));
        await File.WriteAllTextAsync(file, "127.0.0.8/31\n", Cancellation);
        Assert.True(bench.Host.ReloadFiles());
        Assert.Equal("554 5.7.1 Access denied", await HearAsync(bench));
        await File.WriteAllTextAsync(file, "127.0.0.9/31\n", Cancellation);
        Assert.True(bench.Host.ReloadFiles());
        Assert.True(bench.Host.ReloadFiles());
        Assert.Equal("554 5.7.1 Access denied", await HearAsync(bench));
        Assert.Contains($"{file}:1: \"127.0.0.9/31\" has more bits than its prefix; write 127.0.0.8/31", Assert.Single(loggers.Warnings), StringComparison.Ordinal);
        await File.WriteAllTextAsync(file, "", Cancellation);
        Assert.True(bench.Host.ReloadFiles());
        Assert.StartsWith("220 ", await HearAsync(bench));
        using HttpClient http = new() { BaseAddress = new Uri($"http://{bench.Host.Http}") };
        string metrics = await http.GetStringAsync("/metrics", Cancellation);
        Assert.Contains("hpmta_smtp_limited_total{limit=\"denied\"} 2\n", metrics, StringComparison.Ordinal);
        Assert.Contains("hpmta_smtp_list_networks{list=\"deny\"} 0\n", metrics, StringComparison.Ordinal);
        Assert.Contains("hpmta_smtp_list_reloads_total{result=\"refused\"} 1\n", metrics, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_list_that_became_bad_before_the_start_is_one_line_with_its_place()
    {
        await using ServerBench bench = ServerBench.Prepare("""
            [guard]
            deny_files = ["deny.txt"]
            """);
        string file = Path.Combine(Path.GetDirectoryName(bench.ConfigFile)!, "deny.txt");
        await File.WriteAllTextAsync(file, "", Cancellation);
        (HighPerfMta.Server.Configuration.ServerConfiguration configuration, _) = HighPerfMta.Server.Configuration.ConfigurationLoader.Load(bench.ConfigFile);
        await File.WriteAllTextAsync(file, "\nnonsense\n", Cancellation);
        StartFailedException failed = await Assert.ThrowsAsync<StartFailedException>(() => MtaHost.StartAsync(configuration, bench.Loggers, TimeProvider.System));
        Assert.StartsWith($"{file}:2: \"nonsense\" is no network", failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Beyond_its_connections_a_server_tells_so_and_goes_on()
    {
        await using ServerBench bench = await ServerBench.StartAsync("""
            [limits]
            connections = 2

            [[route]]
            domains = ["*"]
            to = "discard"
            """);
        List<NetworkStream> open = [];
        for (int i = 0; i < 2; i++)
        {
            open.Add(await ConnectAsync(bench));
            Assert.StartsWith("220", await new SmtpTestClient(open[i]).ReadReplyAsync());
        }

        string[] heard = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => HearAsync(bench)));
        Assert.All(heard, static line => Assert.StartsWith("421 4.3.2 Too many connections", line));
        SmtpTestClient client = new(open[0]);
        foreach ((string command, string reply) in ((string, string)[])[("HELO c.example", "250"), ("MAIL FROM:<a@b.example>", "250"), ("RCPT TO:<c@d.example>", "250"), ("DATA", "354"), ("x\r\n.", "250 2.0.0")])
        {
            Assert.StartsWith(reply, await client.CommandAsync(command));
        }

        foreach (NetworkStream stream in open)
        {
            await stream.DisposeAsync();
        }

        // The places are free as soon as the ends of the streams have been seen.
        string again = "";
        for (int i = 0; i < 600 && !again.StartsWith("220", StringComparison.Ordinal); i++)
        {
            again = await HearAsync(bench);
        }

        Assert.StartsWith("220", again);
    }

    private static async Task<NetworkStream> ConnectAsync(ServerBench bench)
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Bind(new IPEndPoint(Client, 0));
        await socket.ConnectAsync(IPAddress.Loopback, bench.Port, Cancellation);
        return new NetworkStream(socket, ownsSocket: true);
    }

    /// <summary>The first line.</summary>
    private static async Task<string> HearAsync(ServerBench bench)
    {
        await using NetworkStream stream = await ConnectAsync(bench);
        using StreamReader reader = new(stream, Encoding.ASCII);
        return await reader.ReadLineAsync(Cancellation).AsTask().WaitAsync(TimeSpan.FromSeconds(60), Cancellation) ?? "";
    }
}
