using System.Globalization;
using System.Text.RegularExpressions;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Recovery;

/// <summary>The process dies; the next one goes on with what was acknowledged.</summary>
public partial class KillTests
{
    [Fact]
    public async Task What_was_acknowledged_before_a_kill_is_delivered_by_the_next_start_byte_exact()
    {
        int port = Ports.Free();
        await using MtaProcess mta = await MtaProcess.StartAsync(RouteTo(port));
        Dictionary<string, string> sent = [];
        using (MtaClient client = await MtaClient.ConnectAsync(mta))
        {
            for (int i = 0; i < 40; i++)
            {
                string content = Content(i, i % 10 == 9 ? 400_000 : 900);
                await client.SendAsync("sender@example.org", content, $"r{i.ToString(CultureInfo.InvariantCulture)}@example.net");
                sent.Add($"r{i.ToString(CultureInfo.InvariantCulture)}@example.net", content);
            }
        }

        await mta.KillAsync();
        await using CapturingSink sink = new(port: port);
        await mta.StartAgainAsync();
        await mta.CommandAsync(0, "queue", "retry", "--all");
        while (sent.Count > 0)
        {
            CapturedMessage got = await sink.NextAsync();
            Assert.True(sent.Remove(Assert.Single(got.Recipients), out string? content), "delivered twice");
            Assert.Equal(content, got.WithoutFirstReceived);
        }

        await Eventually.TrueAsync(async () => await CountAsync(mta) == 0, () => mta.Log);
    }

    [Fact]
    public async Task A_finished_message_does_not_come_back_and_a_deferred_one_keeps_its_attempts()
    {
        await using CapturingSink sink = new(static line => line.StartsWith("RCPT TO:<busy@", StringComparison.Ordinal) ? "450 4.2.1 come back" : null);
        await using MtaProcess mta = await MtaProcess.StartAsync(RouteTo(sink.Port));
        string id = await MtaClient.SendAsync(mta, "sender@example.org", "Subject: x\r\n\r\ntext\r\n", "busy@example.net", "well@example.net");
        Assert.Equal(["well@example.net"], (await sink.NextAsync()).Recipients);
        string shown = await ShowUntilAsync(mta, id, "come back");
        await mta.KillAsync();
        await mta.StartAgainAsync();
        Assert.Equal(1, await CountAsync(mta));
        Assert.Equal(shown, await ShowUntilAsync(mta, id, "come back"));
        Assert.False(sink.TryNext(out _));
    }

    [Fact]
    public async Task Terminated_while_it_delivers_it_ends_with_0_and_the_next_start_finds_the_rest()
    {
        await using CapturingSink sink = new(static line => line.StartsWith("RCPT TO:<busy@", StringComparison.Ordinal) ? "450 4.2.1 come back" : null);
        await using MtaProcess mta = await MtaProcess.StartAsync(RouteTo(sink.Port));
        string id = await MtaClient.SendAsync(mta, "sender@example.org", "Subject: x\r\n\r\ntext\r\n", "busy@example.net");
        string shown = await ShowUntilAsync(mta, id, "come back");
        Assert.Equal(0, await mta.TerminateAsync());
        await mta.StartAgainAsync();
        Assert.Equal(shown, await ShowUntilAsync(mta, id, "come back"));
    }

    private static string RouteTo(int port) => $"""
        [[route]]
        domains = ["*"]
        to = "smtp://127.0.0.1:{port.ToString(CultureInfo.InvariantCulture)}"
        """;

    private static async Task<string> ShowUntilAsync(MtaProcess mta, string id, string part)
    {
        string shown = "";
        await Eventually.TrueAsync(
            async () => (shown = await mta.CommandAsync(0, "queue", "show", id, "--json")).Contains(part, StringComparison.Ordinal), () => shown + mta.Log);
        return Age().Replace(shown, "");
    }

    [GeneratedRegex("\"age\": [0-9.]+,")]
    private static partial Regex Age();

    private static async Task<int> CountAsync(MtaProcess mta)
    {
        string list = await mta.CommandAsync(0, "queue", "list", "--json");
        return list.Split("\"id\"").Length - 1;
    }

    private static string Content(int number, int size)
    {
        Random random = new(number);
        System.Text.StringBuilder content = new($"Subject: number {number.ToString(CultureInfo.InvariantCulture)}\r\n\r\n");
        while (content.Length < size)
        {
            for (int i = random.Next(0, 90); i > 0; i--)
            {
                content.Append((char)(random.Next(4) == 0 ? random.Next(0x80, 0x100) : random.Next(0x20, 0x7F)));
            }

            content.Append(random.Next(10) == 0 ? "\r\n." : "").Append("\r\n");
        }

        return content.ToString();
    }
}
