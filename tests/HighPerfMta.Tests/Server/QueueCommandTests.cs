using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace HighPerfMta.Tests.Server;

/// <summary>The queue commands against a server in this process, over its real admin socket.</summary>
public sealed class QueueCommandTests : IAsyncLifetime
{
    private ServerBench _bench = null!;

    public async ValueTask InitializeAsync() => _bench = await ServerBench.StartAsync("""
        [[route]]
        domains = ["*"]
        to = "hold"
        """);

    public ValueTask DisposeAsync() => _bench.DisposeAsync();

    [Fact]
    public async Task Mail_is_listed_counted_shown_and_dropped()
    {
        string id = await SendAsync("me@example.org", "you@held.example", "them@other.example");
        await HeldAsync(2);

        JsonArray list = (JsonArray)JsonNode.Parse((await Good("queue", "list", "--json")).Out)!;
        Assert.Equal(id, Assert.Single(list)!["id"]!.ToString());
        Assert.Equal(2, ((JsonArray)list[0]!["recipients"]!).Count);

        string[] lines = (await Good("queue", "list")).Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.StartsWith("id\tage\tsize\tsender\trecipient\tstate", lines[0], StringComparison.Ordinal);
        Assert.Equal(3, lines.Length);
        Assert.Contains("\tme@example.org\tyou@held.example\theld\t", lines[1], StringComparison.Ordinal);

        Assert.Equal("domain\tmessages\trecipients\tbytes", (await Good("queue", "count", "--by", "domain")).Out.Split('\n')[0]);
        JsonNode count = JsonNode.Parse((await Good("queue", "count", "--domain", "held.example", "--json")).Out)!;
        Assert.Equal((1, 1), (count["messages"]!.GetValue<int>(), count["recipients"]!.GetValue<int>()));

        string shown = (await Good("queue", "show", id)).Out;
        Assert.Contains("recipient:     you@held.example", shown, StringComparison.Ordinal);
        Assert.Contains("state:         held", shown, StringComparison.Ordinal);
        Assert.Equal("me@example.org", JsonNode.Parse((await Good("queue", "show", id, "--json")).Out)!["sender"]!.ToString());

        Assert.Equal("drop: 1 messages, 1 recipients would be touched\n", (await Good("queue", "drop", "--recipient", "you@held.example", "--dry-run")).Out);
        Assert.Equal("drop: 1 messages, 1 recipients\n", (await Good("queue", "drop", "--recipient", "you@held.example")).Out);
        Assert.Equal(["delivered", "held"], ["delivered", .. Recipients(JsonNode.Parse((await Good("queue", "list", "--json")).Out)!)]);
        await Good("queue", "drop", "--id", id);
        Assert.Equal("[\n]\n", (await Good("queue", "list", "--json")).Out);
        Assert.Equal(1, (await _bench.RunAsync("queue", "drop", "--id", id)).Exit);
    }

    [Fact]
    public async Task The_header_of_a_queued_message_is_shown_without_control_characters()
    {
        string id = await SendAsync("me@example.org", "you@held.example");
        string header = (await Good("queue", "show", id, "--headers")).Out;
        Assert.Contains("Subject: hello\\u001B[2J\n", header, StringComparison.Ordinal);
        Assert.StartsWith("Received: from client.test", header, StringComparison.Ordinal);
        Assert.DoesNotContain("text", header, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_released_does_not_meet_the_hold_route_again()
    {
        string id = await SendAsync("me@example.org", "you@held.example");
        await HeldAsync(1);
        Assert.Equal("release: 1 messages, 1 recipients\n", (await Good("queue", "release", "--state", "held")).Out);
        await UntilAsync(async () => (await Good("queue", "show", id, "--json")).Out.Contains("\"state\": \"pending\"", StringComparison.Ordinal));
        Assert.Equal("hold: 1 messages, 1 recipients\n", (await Good("queue", "hold", "--id", id)).Out);
    }

    [Fact]
    public async Task Acting_on_everything_has_to_be_said()
    {
        (int exit, _, string err) = await _bench.RunAsync("queue", "drop");
        Assert.Equal(2, exit);
        Assert.Contains("--all", err, StringComparison.Ordinal);
        Assert.Equal("drop: 0 messages, 0 recipients\n", (await Good("queue", "drop", "--all")).Out);
    }

    [Theory]
    [InlineData("queue list --state lost", "state: \"lost\" is not one of")]
    [InlineData("queue list --reason (", "reason:")]
    [InlineData("queue count --by colour", "by: \"colour\" is not one of")]
    [InlineData("queue list --older soon", "\"soon\" is no duration")]
    [InlineData("queue drop --id nonsense", "\"nonsense\" is no queue id")]
    [InlineData("queue show nonsense", "\"nonsense\" is no queue id")]
    [InlineData("queue lsit", "lsit")]
    [InlineData("queue show", "ID")]
    [InlineData("route nonsense", "address:")]
    public async Task Bad_usage_is_exit_2_with_one_cause(string command, string cause)
    {
        (int exit, string output, string err) = await _bench.RunAsync(command.Split(' '));
        Assert.Equal(2, exit);
        Assert.Contains(cause, err, StringComparison.Ordinal);
        Assert.Empty(output);
    }

    [Fact]
    public async Task A_message_that_is_not_queued_is_exit_1()
    {
        (int exit, _, string err) = await _bench.RunAsync("queue", "show", "0000000000001");
        Assert.Equal(1, exit);
        Assert.Contains("hpmta trace", err, StringComparison.Ordinal);
        Assert.Equal(1, (await _bench.RunAsync("trace", "0000000000001")).Exit);
    }

    [Fact]
    public async Task The_life_of_a_message_is_told_after_it_left()
    {
        string id = await SendAsync("me@example.org", "you@held.example");
        await HeldAsync(1);
        await Good("queue", "drop", "--id", id);
        string[] kinds = [.. ((JsonArray)JsonNode.Parse((await Good("trace", id, "--json")).Out)!).Select(static e => e!["event"]!.ToString())];
        Assert.Equal(["accepted", "held", "dropped"], kinds);
        Assert.Contains("\taccepted\tyou@held.example\t", (await Good("trace", id)).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_route_is_explained()
    {
        string told = (await Good("route", "x@held.example")).Out;
        Assert.Contains("route:         hold", told, StringComparison.Ordinal);
        Assert.Contains("verdict:       held", told, StringComparison.Ordinal);
    }

    private async Task<(int Exit, string Out, string Err)> Good(params string[] arguments)
    {
        (int Exit, string Out, string Err) result = await _bench.RunAsync(arguments);
        Assert.True(result.Exit == 0, $"exit {result.Exit}: {result.Err}");
        return result;
    }

    private static IEnumerable<string> Recipients(JsonNode list) => ((JsonArray)list).SelectMany(static m => (JsonArray)m!["recipients"]!).Select(static r => r!["state"]!.ToString());

    private Task HeldAsync(int recipients) => UntilAsync(async () => Recipients(JsonNode.Parse((await Good("queue", "list", "--json")).Out)!).Count(static s => s == "held") == recipients);

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(60));
        using PeriodicTimer poll = new(TimeSpan.FromMilliseconds(20));
        while (!await condition())
        {
            await poll.WaitForNextTickAsync(limit.Token);
        }
    }

    private async Task<string> SendAsync(string sender, params string[] recipients)
    {
        using TcpClient client = new();
        await client.ConnectAsync(IPAddress.Loopback, _bench.Port);
        await using NetworkStream stream = client.GetStream();
        using StreamReader reader = new(stream, Encoding.Latin1);
        string rcpts = string.Concat(recipients.Select(static r => $"RCPT TO:<{r}>\r\n"));
        await stream.WriteAsync(Encoding.Latin1.GetBytes($"EHLO client.test\r\nMAIL FROM:<{sender}>\r\n{rcpts}DATA\r\nSubject: hello\u001B[2J\r\n\r\ntext\r\n.\r\nQUIT\r\n"));
        string all = await reader.ReadToEndAsync();
        const string mark = "queued as ";
        return all.Substring(all.IndexOf(mark, StringComparison.Ordinal) + mark.Length, 13);
    }
}
