using System.Text;
using System.Text.Json.Nodes;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Server;

/// <summary>The offline tools on what a real server left.</summary>
public class SpoolTests
{
    [Fact]
    public async Task Held_mail_is_verified_and_exported_and_a_damaged_octet_is_told_with_its_message()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync(MtaProcess.HoldAll);
        string large = "Subject: large\r\n\r\n" + string.Concat(Enumerable.Repeat(".From \u00E9 somewhere\r\n", 30_000));
        string[] contents = ["Subject: first\r\n\r\nFrom me\r\n", large, "Subject: the damaged one\r\n\r\ntext\r\n"];
        List<string> ids = [];
        foreach (string content in contents)
        {
            ids.Add(await MtaClient.SendAsync(mta, "me@example.org", content, "a@held.example", "b@held.example"));
        }

        await Eventually.TrueAsync(async () => (await mta.CommandAsync(0, "queue", "count", "--state", "held", "--json")).Contains("\"recipients\": 6", StringComparison.Ordinal), () => mta.Log);
        using TempFolder folder = new();
        string running = await mta.CommandAsync(1, "spool", "export", "--output", folder.File("none"));
        Assert.Contains("is in use by a running server. Stop that server first", running, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder.File("none")));
        Assert.Equal(0, await mta.TerminateAsync());

        Assert.Contains("\ndamage:        0\n", await mta.CommandAsync(0, "spool", "verify"), StringComparison.Ordinal);
        await mta.CommandAsync(0, "spool", "export", "--output", folder.Path);
        for (int i = 0; i < ids.Count; i++)
        {
            string exported = Encoding.Latin1.GetString(await File.ReadAllBytesAsync(folder.File(ids[i] + ".eml"), TestContext.Current.CancellationToken));
            Assert.StartsWith("Received: from client.example.org ", exported, StringComparison.Ordinal);
            Assert.Contains(ids[i], exported[..^contents[i].Length], StringComparison.Ordinal);
            Assert.Equal(contents[i], exported[^contents[i].Length..]);
            JsonNode envelope = JsonNode.Parse(await File.ReadAllTextAsync(folder.File(ids[i] + ".json"), TestContext.Current.CancellationToken))!;
            Assert.Equal(("me@example.org", "127.0.0.1", "client.example.org"), (envelope["sender"]!.ToString(), envelope["client"]!.ToString(), envelope["helo"]!.ToString()));
            Assert.Equal(["a@held.example held", "b@held.example held"], ((JsonArray)envelope["recipients"]!).Select(static r => $"{r!["address"]} {r["state"]}"));
        }

        string mbox = await mta.CommandAsync(0, "spool", "export", "--format", "mbox", "--output", "-", "--id", ids[0]);
        Assert.Contains("\nSubject: first\n\n>From me\n\n", mbox, StringComparison.Ordinal);
        JsonNode stats = JsonNode.Parse(await mta.CommandAsync(0, "spool", "stats", "--json"))!;
        Assert.Equal(("3", "6"), (stats["queue"]!["messages"]!.ToString(), stats["queue"]!["recipients"]!.ToString()));

        await DamageAsync(Path.Combine(mta.DataDirectory, "log", "seg.0000000000"), "the damaged one");
        string found = await mta.CommandAsync(1, "spool", "verify");
        Assert.Contains($"\tAccepted\t{ids[2]}\tthe record's checksum does not match\n", found, StringComparison.Ordinal);
        Assert.Contains($"messages hit:  {ids[2]}\n", found, StringComparison.Ordinal);
        string left = await mta.CommandAsync(1, "spool", "export", "--output", folder.File("rest"));
        Assert.Contains("2 messages exported, 1 not", left, StringComparison.Ordinal);
        Assert.Contains($"hpmta: {ids[2]}: the record at address ", left, StringComparison.Ordinal);

        await mta.StartAgainAsync();
        Assert.Contains(ids[0], await mta.CommandAsync(0, "queue", "list"), StringComparison.Ordinal);
    }

    private static async Task DamageAsync(string segment, string text)
    {
        byte[] octets = await File.ReadAllBytesAsync(segment, TestContext.Current.CancellationToken);
        int at = octets.AsSpan().IndexOf(Encoding.ASCII.GetBytes(text));
        Assert.True(at > 0);
        octets[at] ^= 1;
        await File.WriteAllBytesAsync(segment, octets, TestContext.Current.CancellationToken);
    }
}
