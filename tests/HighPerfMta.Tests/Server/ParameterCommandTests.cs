using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace HighPerfMta.Tests.Server;

/// <summary>The commands show what a sender asked for.</summary>
public sealed class ParameterCommandTests : IAsyncLifetime
{
    private ServerBench _bench = null!;

    public async ValueTask InitializeAsync() => _bench = await ServerBench.StartAsync("""
        [[route]]
        domains = ["*"]
        to = "hold"
        """);

    public ValueTask DisposeAsync() => _bench.DisposeAsync();

    [Fact]
    public async Task Show_and_trace_have_the_parameters_of_DSN()
    {
        string id = await SendAsync("RET=HDRS ENVID=QQ314159", "<you@held.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old@held.example", "<them@held.example>");
        JsonNode shown = JsonNode.Parse(await Good("queue", "show", id, "--json"))!;
        Assert.Equal(("HDRS", "QQ314159"), (shown["ret"]!.ToString(), shown["envid"]!.ToString()));
        JsonObject[] recipients = [.. ((JsonArray)shown["recipients"]!).OfType<JsonObject>()];
        Assert.Equal(("SUCCESS,DELAY", "rfc822;old@held.example"), (recipients[0]["notify"]!.ToString(), recipients[0]["orcpt"]!.ToString()));
        Assert.Null(recipients[1]["notify"]);

        string text = await Good("queue", "show", id);
        Assert.Contains("envid:         QQ314159", text, StringComparison.Ordinal);
        Assert.Contains("notify:        SUCCESS,DELAY", text, StringComparison.Ordinal);
        JsonObject accepted = ((JsonArray)JsonNode.Parse(await Good("trace", id, "--json"))!).OfType<JsonObject>().First(static e => e["notify"] is not null);
        Assert.Equal(("accepted", "HDRS", "QQ314159", "rfc822;old@held.example"), (accepted["event"]!.ToString(), accepted["ret"]!.ToString(), accepted["envid"]!.ToString(), accepted["orcpt"]!.ToString()));
        Assert.Contains("\tRET=HDRS ENVID=QQ314159 NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old@held.example\t", await Good("trace", id), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_message_without_them_has_no_such_fields()
    {
        string id = await SendAsync("SIZE=10", "<you@held.example>");
        JsonNode shown = JsonNode.Parse(await Good("queue", "show", id, "--json"))!;
        Assert.False(shown.AsObject().ContainsKey("ret"));
        Assert.DoesNotContain("notify", await Good("queue", "show", id), StringComparison.Ordinal);
    }

    private async Task<string> Good(params string[] arguments)
    {
        (int exit, string output, string err) = await _bench.RunAsync(arguments);
        Assert.True(exit == 0, $"exit {exit}: {err}");
        return output;
    }

    private async Task<string> SendAsync(string parameters, params string[] recipients)
    {
        using TcpClient client = new();
        await client.ConnectAsync(IPAddress.Loopback, _bench.Port);
        await using NetworkStream stream = client.GetStream();
        using StreamReader reader = new(stream, Encoding.Latin1);
        string rcpts = string.Concat(recipients.Select(static r => $"RCPT TO:{r}\r\n"));
        await stream.WriteAsync(Encoding.Latin1.GetBytes($"EHLO client.test\r\nMAIL FROM:<me@example.org> {parameters}\r\n{rcpts}DATA\r\nSubject: hello\r\n\r\ntext\r\n.\r\nQUIT\r\n"));
        string all = await reader.ReadToEndAsync();
        const string mark = "queued as ";
        return all.Substring(all.IndexOf(mark, StringComparison.Ordinal) + mark.Length, 13);
    }
}
