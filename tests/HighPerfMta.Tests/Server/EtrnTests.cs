using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace HighPerfMta.Tests.Server;

/// <summary>ETRN over the whole server: what waits for its next attempt is tried at once.</summary>
public sealed class EtrnTests : IAsyncLifetime
{
    private readonly TcpListener _dead = new(IPAddress.Loopback, 0);
    private ServerBench _bench = null!;

    public async ValueTask InitializeAsync()
    {
        // A port where nobody listens.
        _dead.Start();
        int port = ((IPEndPoint)_dead.LocalEndpoint).Port;
        _dead.Stop();
        _bench = await ServerBench.StartAsync($"""
            [[route]]
            domains = ["*"]
            to = "smtp://127.0.0.1:{port.ToString(System.Globalization.CultureInfo.InvariantCulture)}"

            [retry]
            schedule = ["1h"]
            """);
    }

    public async ValueTask DisposeAsync()
    {
        await _bench.DisposeAsync();
        _dead.Dispose();
    }

    [Fact]
    public async Task What_waits_for_the_domain_is_tried_again_and_nothing_else()
    {
        string mine = await SendAsync("you@mine.example");
        string other = await SendAsync("you@other.example");
        await AttemptedAsync(mine, 1);
        await AttemptedAsync(other, 1);
        Assert.Contains("250 2.0.0 OK, queuing", await TalkAsync("EHLO client.test\r\nETRN mine.example\r\nQUIT\r\n"), StringComparison.Ordinal);
        await AttemptedAsync(mine, 2);
        Assert.Equal(1, await AttemptsAsync(other));
    }

    private async Task<int> AttemptsAsync(string id)
    {
        (int exit, string output, string err) = await _bench.RunAsync("queue", "show", id, "--json");
        Assert.True(exit == 0, err);
        return ((JsonArray)JsonNode.Parse(output)!["recipients"]!)[0]!["attempts"]!.GetValue<int>();
    }

    private async Task AttemptedAsync(string id, int attempts)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(60));
        using PeriodicTimer poll = new(TimeSpan.FromMilliseconds(20));
        while (await AttemptsAsync(id) < attempts)
        {
            await poll.WaitForNextTickAsync(limit.Token);
        }
    }

    private async Task<string> SendAsync(string recipient)
    {
        string all = await TalkAsync($"EHLO client.test\r\nMAIL FROM:<me@example.org>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nSubject: hello\r\n\r\ntext\r\n.\r\nQUIT\r\n");
        const string mark = "queued as ";
        return all.Substring(all.IndexOf(mark, StringComparison.Ordinal) + mark.Length, 13);
    }

    private async Task<string> TalkAsync(string octets)
    {
        using TcpClient client = new();
        await client.ConnectAsync(IPAddress.Loopback, _bench.Port);
        await using NetworkStream stream = client.GetStream();
        using StreamReader reader = new(stream, Encoding.Latin1);
        await stream.WriteAsync(Encoding.Latin1.GetBytes(octets));
        return await reader.ReadToEndAsync();
    }
}
