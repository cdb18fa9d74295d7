using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Server;

/// <summary>The real program: start, signals, a second start, commands from other processes.</summary>
public class ServerProcessTests
{
    [Fact]
    public async Task Term_ends_it_with_0_and_the_next_start_finds_everything()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync(MtaProcess.HoldAll);
        string[] ids = [await SendAsync(mta, "a@held.example"), await SendAsync(mta, "b@held.example", "c@held.example")];
        await Eventually.TrueAsync(async () => (await ListAsync(mta)).Count(static r => r.State == "held") == 3, () => mta.Log);
        (string Id, string Address, string State)[] before = await ListAsync(mta);
        Assert.Equal(0, await mta.TerminateAsync());
        Assert.All(mta.Log.Split('\n', StringSplitOptions.RemoveEmptyEntries), static line => Assert.NotNull(JsonNode.Parse(line)!["Message"]));
        Assert.Contains("everything accepted is on stable storage", mta.Log, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(mta.DataDirectory, "admin.sock")));
        await mta.CommandAsync(3, "queue", "list");

        await mta.StartAgainAsync();
        Assert.Equal(before.Order(), (await ListAsync(mta)).Order());
        Assert.Equal(ids.Order(), before.Select(static r => r.Id).Distinct().Order());
    }

    [Fact]
    public async Task After_a_kill_it_starts_again_on_the_same_data_and_socket()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync(MtaProcess.HoldAll);
        string id = await SendAsync(mta, "a@held.example");
        await mta.KillAsync();
        Assert.True(File.Exists(Path.Combine(mta.DataDirectory, "admin.sock")));
        await mta.CommandAsync(3, "queue", "list");
        await mta.StartAgainAsync();
        await Eventually.TrueAsync(async () => (await ListAsync(mta)).SequenceEqual([(id, "a@held.example", "held")]), () => mta.Log);
    }

    [Fact]
    public async Task Mail_is_steered_and_its_life_told()
    {
        await using CapturingSink sink = new();
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [queue]
            memory = "16MiB"
            segment_size = "8MiB"

            [[route]]
            domains = ["held.example"]
            to = "hold"

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{sink.Port.ToString(CultureInfo.InvariantCulture)}"
            """);
        string id = await SendAsync(mta, "a@held.example", "b@sent.example");
        Assert.Equal(["b@sent.example"], (await sink.NextAsync()).Recipients);
        await Eventually.TrueAsync(async () => (await ListAsync(mta)).SequenceEqual([(id, "a@held.example", "held")]), () => mta.Log);
        Assert.Contains("state:         delivered", await mta.CommandAsync(0, "queue", "show", id), StringComparison.Ordinal);
        string raw = await mta.CommandAsync(0, "queue", "show", id, "--raw");
        Assert.EndsWith("\r\nSubject: hello\r\n\r\ntext\r\n", raw, StringComparison.Ordinal);
        await mta.CommandAsync(0, "queue", "drop", "--id", id);
        Assert.Empty(await ListAsync(mta));
        string trace = await mta.CommandAsync(0, "trace", id, "--json");
        string[] told = [.. ((JsonArray)JsonNode.Parse(trace)!).Select(static e => $"{e!["event"]} {e["recipient"]}").Order(StringComparer.Ordinal)];
        Assert.Equal(["accepted a@held.example", "accepted b@sent.example", "delivered b@sent.example", "dropped a@held.example", "held a@held.example"], told);
    }

    [Fact]
    public async Task What_is_in_flight_may_finish_when_it_is_told_to_stop()
    {
        TaskCompletionSource inFlight = new(TaskCreationOptions.RunContinuationsAsynchronously);
        using ManualResetEventSlim goOn = new();
        await using CapturingSink sink = new(line =>
        {
            if (line == ".")
            {
                inFlight.TrySetResult();
                goOn.Wait(TimeSpan.FromSeconds(60));
            }

            return null;
        });
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [queue]
            memory = "16MiB"
            segment_size = "8MiB"

            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{sink.Port.ToString(CultureInfo.InvariantCulture)}"
            """);
        await SendAsync(mta, "a@sent.example");
        await inFlight.Task.WaitAsync(TimeSpan.FromSeconds(60));
        Task<int> ending = mta.TerminateAsync();
        await Eventually.TrueAsync(async () => !await MtaProcess.GreetsAsync(mta.Port), () => mta.Log);
        goOn.Set();
        Assert.Equal(0, await ending);

        // Its delivery was recorded: the next start has nothing to send.
        await mta.StartAgainAsync();
        Assert.Empty(await ListAsync(mta));
        Assert.Equal(["a@sent.example"], (await sink.NextAsync()).Recipients);
        Assert.False(sink.TryNext(out _));
    }

    [Fact]
    public async Task A_bad_configuration_is_exit_2_with_every_error()
    {
        using TempFolder folder = new();
        await File.WriteAllTextAsync(folder.File("x.toml"), "hostnme = \"a\"\n[queue]\nsync = 1\n");
        foreach (string[] command in (string[][])[["serve", "--config", folder.File("x.toml")], ["config", "check", folder.File("x.toml")]])
        {
            string all = await Peer.RunAsync("dotnet", [MtaProcess.ProgramPath, .. command], expectedExit: 2);
            Assert.Contains($"{folder.File("x.toml")}:1:1: hostnme: there is no such key; did you mean \"hostname\"?", all, StringComparison.Ordinal);
            Assert.Contains($"{folder.File("x.toml")}:3:8: queue.sync: 1 is not allowed; allowed is true or false", all, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_taken_address_is_exit_1_with_the_cause_and_the_remedy()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync(MtaProcess.HoldAll);
        using TempFolder folder = new();
        await File.WriteAllTextAsync(folder.File("x.toml"), $"""
            data_dir = "data"
            admin.http = ""
            queue.segment_size = "8MiB"
            listener = [ {"{"} address = "127.0.0.1:{mta.Port.ToString(CultureInfo.InvariantCulture)}" {"}"} ]
            """);
        string all = await Peer.RunAsync("dotnet", [MtaProcess.ProgramPath, "serve", "--config", folder.File("x.toml")], expectedExit: 1);
        Assert.Contains($"hpmta: cannot listen on 127.0.0.1:{mta.Port.ToString(CultureInfo.InvariantCulture)}", all, StringComparison.Ordinal);
        Assert.Contains("stop the other program or change the address", all, StringComparison.Ordinal);
    }

    private static async Task<(string Id, string Address, string State)[]> ListAsync(MtaProcess mta)
    {
        string all = await mta.CommandAsync(0, "queue", "list", "--json");
        return
        [
            .. ((JsonArray)JsonNode.Parse(all)!).SelectMany(static m => ((JsonArray)m!["recipients"]!)
                .Select(r => (m["id"]!.ToString(), r!["address"]!.ToString(), r["state"]!.ToString()))),
        ];
    }

    private static async Task<string> SendAsync(MtaProcess mta, params string[] recipients)
    {
        using TcpClient client = new();
        await client.ConnectAsync(IPAddress.Loopback, mta.Port);
        await using NetworkStream stream = client.GetStream();
        using StreamReader reader = new(stream, Encoding.Latin1);
        string rcpts = string.Concat(recipients.Select(static r => $"RCPT TO:<{r}>\r\n"));
        await stream.WriteAsync(Encoding.Latin1.GetBytes($"EHLO client.test\r\nMAIL FROM:<me@example.org>\r\n{rcpts}DATA\r\nSubject: hello\r\n\r\ntext\r\n.\r\nQUIT\r\n"));
        string all = await reader.ReadToEndAsync();
        const string mark = "queued as ";
        return all.Substring(all.IndexOf(mark, StringComparison.Ordinal) + mark.Length, 13);
    }
}
