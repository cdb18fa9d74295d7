using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Server.Commands;
using HighPerfMta.Server.Hosting;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Offline;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Server;

/// <summary><c>hpmta spool</c> on a data directory of a stopped server.</summary>
public sealed class SpoolCommandTests : IDisposable
{
    private static readonly DateTimeOffset Later = new(2030, 1, 2, 3, 4, 5, TimeSpan.Zero);

    private readonly string _root = Directory.CreateTempSubdirectory("hpmta-spool-").FullName;
    private readonly StringWriter _out = new(CultureInfo.InvariantCulture);
    private readonly StringWriter _err = new(CultureInfo.InvariantCulture);

    private string Data => Path.Combine(_root, "data");

    private string To => Path.Combine(_root, "out");

    private QueueOptions Options => SpoolBed.Options with { DataDirectory = Data };

    public void Dispose()
    {
        Directory.Delete(_root, recursive: true);
        _out.Dispose();
        _err.Dispose();
    }

    [Fact]
    public async Task Exported_octets_are_those_of_the_message_and_the_envelope_is_beside_them()
    {
        Filled filled = await FillAsync();
        Assert.Equal(ExitCodes.Done, await RunAsync("export", "--output", To));
        Assert.Equal("3 messages exported\n", _out.ToString());
        Assert.Equal(filled.Octets.Keys.SelectMany(static id => (string[])[$"{id}.eml", $"{id}.json"]).Order(), Directory.GetFiles(To).Select(static f => Path.GetFileName(f)).Order());
        foreach ((string id, byte[] octets) in filled.Octets)
        {
            Assert.Equal(octets, await File.ReadAllBytesAsync(Path.Combine(To, id + ".eml"), TestContext.Current.CancellationToken));
        }

        JsonNode envelope = await ReadEnvelopeAsync(filled.Split);
        Assert.Equal("sender@example.org", envelope["sender"]!.ToString());
        Assert.Equal("2026-03-04T05:06:07.000Z", envelope["received"]!.ToString());
        Assert.Equal(("127.0.0.1", "client.example.org", "8bitmime", "false"), (envelope["client"]!.ToString(), envelope["helo"]!.ToString(), envelope["body"]!.ToString(), envelope["smtputf8"]!.ToString()));
        string[] recipients = [.. ((JsonArray)envelope["recipients"]!).Select(static r => $"{r!["address"]} {r["state"]} {r["attempts"]} {r["due"]} {r["reply"]}")];
        Assert.Equal(["a@one.example done   ", "b@two.example pending 2 2030-01-02T03:04:05.000Z 450 4.2.0 later", "c@three.example held 0  "], recipients);
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(To, filled.Split + ".eml")));
        }
    }

    [Theory]
    [InlineData(new[] { "--domain", "two.example" }, new[] { "split" })]
    [InlineData(new[] { "--recipient", "large@example.net" }, new[] { "large" })]
    [InlineData(new[] { "--recipient", "@example.net" }, new[] { "large", "small" })]
    [InlineData(new[] { "--sender", "sender@example.org", "--state", "held" }, new[] { "split" })]
    [InlineData(new[] { "--sender", "<>" }, new string[0])]
    [InlineData(new[] { "--limit", "1", "--domain", "example.net" }, new[] { "small" })]
    [InlineData(new[] { "--reason", "later" }, new[] { "split" })]
    public async Task Filters_select_whole_messages(string[] filter, string[] expected)
    {
        Filled filled = await FillAsync();
        Assert.Equal(ExitCodes.Done, await RunAsync(["export", "-o", To, .. filter]));
        Dictionary<string, string> names = new() { [filled.Split] = "split", [filled.Large] = "large", [filled.Small] = "small" };
        Assert.Equal(expected, Directory.GetFiles(To, "*.eml").Select(f => names[Path.GetFileNameWithoutExtension(f)]).Order());
    }

    [Fact]
    public async Task By_id_and_what_is_not_there_is_exit_1()
    {
        Filled filled = await FillAsync();
        Assert.Equal(ExitCodes.Failed, await RunAsync("export", "-o", To, "--json", "--id", filled.Small, "--id", "0000000000001"));
        Assert.Equal([filled.Small + ".eml", filled.Small + ".json"], Directory.GetFiles(To).Select(static f => Path.GetFileName(f)).Order());
        JsonNode told = JsonNode.Parse(_out.ToString())!;
        Assert.Equal(("1", "0000000000001"), (told["exported"]!.ToString(), told["failed"]![0]!["id"]!.ToString()));
        Assert.Equal(ExitCodes.Usage, await RunAsync("export", "-o", To, "--id", "nothing"));
        Assert.Contains("\"nothing\" is no queue id", _err.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Files_that_exist_stay_unless_forced()
    {
        Filled filled = await FillAsync();
        Directory.CreateDirectory(To);
        string mine = Path.Combine(To, filled.Small + ".eml");
        await File.WriteAllTextAsync(mine, "mine", TestContext.Current.CancellationToken);
        Assert.Equal(ExitCodes.Failed, await RunAsync("export", "-o", To));
        Assert.Contains($"{mine} exists already; give --force", _err.ToString(), StringComparison.Ordinal);
        Assert.Contains("2 messages exported, 1 not", _out.ToString(), StringComparison.Ordinal);
        Assert.Equal("mine", await File.ReadAllTextAsync(mine, TestContext.Current.CancellationToken));
        Assert.Equal(ExitCodes.Done, await RunAsync("export", "-o", To, "--force"));
        Assert.Equal(filled.Octets[filled.Small], await File.ReadAllBytesAsync(mine, TestContext.Current.CancellationToken));

        string mbox = Path.Combine(_root, "mbox");
        await File.WriteAllTextAsync(mbox, "mine", TestContext.Current.CancellationToken);
        Assert.Equal(ExitCodes.Failed, await RunAsync("export", "--format", "mbox", "-o", mbox));
        Assert.Equal("mine", await File.ReadAllTextAsync(mbox, TestContext.Current.CancellationToken));
        Assert.Equal(ExitCodes.Done, await RunAsync("export", "--format", "mbox", "-o", mbox, "--force"));
        Assert.StartsWith("From ", await File.ReadAllTextAsync(mbox, TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_mbox_has_the_envelope_at_the_top_of_each_message_and_gives_the_octets_back()
    {
        Filled filled = await FillAsync();
        string mbox = Path.Combine(_root, "mbox");
        Assert.Equal(ExitCodes.Done, await RunAsync("export", "--format", "mbox", "-o", mbox));
        string all = Encoding.Latin1.GetString(await File.ReadAllBytesAsync(mbox, TestContext.Current.CancellationToken));
        string[] messages = Regex.Split(all, "(?<=\n\n|^)(?=From )").Where(static m => m.Length > 0).ToArray();
        Assert.Equal(3, messages.Length);
        foreach (string message in messages)
        {
            Assert.StartsWith("From sender@example.org Wed Mar  4 05:06:07 2026\nReturn-Path: <sender@example.org>\n", message, StringComparison.Ordinal);
            string id = Regex.Match(message, "^X-Hpmta-Id: (.+)$", RegexOptions.Multiline).Groups[1].Value;
            string original = message[message.IndexOf("Received: by here\n", StringComparison.Ordinal)..^1];
            string back = Regex.Replace(original, "^>(>*From )", "$1", RegexOptions.Multiline).Replace("\n", "\r\n", StringComparison.Ordinal);
            Assert.Equal(Encoding.Latin1.GetString(filled.Octets[id]), back);
        }

        string split = messages.Single(m => m.Contains(filled.Split, StringComparison.Ordinal));
        Assert.Contains("\nDelivered-To: b@two.example\nDelivered-To: c@three.example\n", split, StringComparison.Ordinal);
        Assert.Contains("\nX-Hpmta-Recipient: <b@two.example> state=pending attempts=2 due=2030-01-02T03:04:05.000Z reply=450 4.2.0 later\n", split, StringComparison.Ordinal);
        Assert.Contains("\nX-Hpmta-Client: 127.0.0.1\nX-Hpmta-Helo: client.example.org\nX-Hpmta-Parameters: BODY=8BITMIME\n", split, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("eml")]
    [InlineData("mbox")]
    public async Task What_cannot_be_read_is_told_and_everything_else_is_exported(string format)
    {
        Filled filled = await FillAsync();
        Flip(filled.LargePiece + 100);
        string to = format == "eml" ? To : Path.Combine(_root, "mbox");
        Assert.Equal(ExitCodes.Failed, await RunAsync("export", "--format", format, "-o", to));
        Assert.Matches($"(?m)^hpmta: {filled.Large}: the record at address {filled.LargePiece} .* is damaged: the checksum does not match$", _err.ToString());
        Assert.Equal("2 messages exported, 1 not\n", _out.ToString());
        if (format == "eml")
        {
            Assert.Equal(4, Directory.GetFiles(To).Length);
            Assert.Empty(Directory.GetFiles(To, filled.Large + "*"));
        }
        else
        {
            string all = await File.ReadAllTextAsync(to, TestContext.Current.CancellationToken);
            Assert.DoesNotContain(filled.Large, all, StringComparison.Ordinal);
            Assert.Equal(2, Regex.Count(all, "^X-Hpmta-Id: ", RegexOptions.Multiline));
        }
    }

    [Fact]
    public async Task With_its_state_unreadable_a_message_is_exported_and_its_recipients_are_unknown()
    {
        Filled filled = await FillAsync();
        Flip(filled.SplitState + RecordHeader.Overhead + 2);
        Assert.Equal(ExitCodes.Failed, await RunAsync("export", "-o", To));
        Assert.Contains($"{filled.Split}: the record at address {filled.SplitState}", _err.ToString(), StringComparison.Ordinal);
        Assert.Equal("3 messages exported\n", _out.ToString());
        Assert.Equal(filled.Octets[filled.Split], await File.ReadAllBytesAsync(Path.Combine(To, filled.Split + ".eml"), TestContext.Current.CancellationToken));
        JsonNode envelope = await ReadEnvelopeAsync(filled.Split);
        Assert.Contains("damaged", envelope["unreadable"]!.ToString(), StringComparison.Ordinal);
        string[] recipients = [.. ((JsonArray)envelope["recipients"]!).Where(static r => r!["address"] is not null).Select(static r => $"{r!["address"]} {r["state"]}").Order()];
        Assert.Equal(["a@one.example unknown", "b@two.example unknown", "c@three.example held"], recipients);
    }

    [Fact]
    public async Task Statistics_are_those_of_the_queue()
    {
        Filled filled = await FillAsync();
        Assert.Equal(ExitCodes.Done, await RunAsync("stats", "--json", "--top", "2"));
        JsonNode told = JsonNode.Parse(_out.ToString())!;
        Assert.Equal(("3", "4", "4", "0"), (told["queue"]!["messages"]!.ToString(), told["queue"]!["jobs"]!.ToString(), told["queue"]!["recipients"]!.ToString(), told["queue"]!["unreadable"]!.ToString()));
        long[] sizes = [.. filled.Octets.Values.Select(static o => (long)o.Length)];
        Assert.Equal((sizes.Sum(), sizes.Max()), (told["queue"]!["bytes"]!.GetValue<long>(), told["queue"]!["largest"]!.GetValue<long>()));
        Assert.Equal(["pending 3 3 3", "held 1 1 1"], Rows(told, "states", "state", "messages", "jobs", "recipients"));
        Assert.Equal(["example.net 2 2", "three.example 1 1"], Rows(told, "domains", "domain", "messages", "recipients"));
        Assert.Equal(["mx of example.net 2 2", "mx of three.example 1 1"], Rows(told, "sites", "site", "messages", "recipients"));
        Assert.Equal(["10KiB 2", "100KiB 1", "1MiB 0", "10MiB 0", " 0"], Rows(told, "sizes", "below", "messages"));
        Assert.Equal(3, ((JsonArray)told["ages"]!).Sum(static a => a!["messages"]!.GetValue<int>()));
        string[] records = Rows(told, "records", "type", "records");
        Assert.Contains("Accepted 4", records);
        Assert.Contains("BodyChunk 7", records);
        JsonNode log = told["log"]!;
        Assert.Equal(log["bytes"]!.GetValue<long>(), log["live_bytes"]!.GetValue<long>() + log["dead_bytes"]!.GetValue<long>());
        Assert.Equal(log["bytes"]!.GetValue<long>(), log["tail"]!.GetValue<long>() - log["begin"]!.GetValue<long>());
        Assert.InRange(log["live_bytes"]!.GetValue<long>(), sizes.Sum(), log["bytes"]!.GetValue<long>());
        Assert.Equal((1, 2), (log["segments"]!.GetValue<int>(), log["spare_segments"]!.GetValue<int>()));
        Assert.Equal(log["tail"]!.ToString(), told["checkpoint"]!["address"]!.ToString());
        Assert.InRange(told["checkpoint"]!["age"]!.GetValue<double>(), 0, 3600);

        _out.GetStringBuilder().Clear();
        Assert.Equal(ExitCodes.Done, await RunAsync("stats"));
        Assert.Contains("queue:         3 messages, 4 jobs, 4 recipients\n", _out.ToString(), StringComparison.Ordinal);
        Assert.Contains("\nexample.net\t2\t2\t", _out.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verification_tells_each_finding_and_its_exit_code_whether_there_is_damage()
    {
        Filled filled = await FillAsync();
        Assert.Equal(ExitCodes.Done, await RunAsync("verify"));
        Assert.Contains("\ndamage:        0\n", _out.ToString(), StringComparison.Ordinal);
        Flip(filled.LargePiece + 100);
        _out.GetStringBuilder().Clear();
        Assert.Equal(ExitCodes.Failed, await RunAsync("verify"));
        Assert.Contains($"damage\tchunk\tseg.0000000000\t{filled.LargePiece}\t{filled.LargePiece}\t", _out.ToString(), StringComparison.Ordinal);
        Assert.EndsWith($"messages hit:  {filled.Large}\n", _out.ToString(), StringComparison.Ordinal);
        _out.GetStringBuilder().Clear();
        Assert.Equal(ExitCodes.Failed, await RunAsync("verify", "--json"));
        JsonNode told = JsonNode.Parse(_out.ToString())!;
        Assert.Equal([filled.Large], ((JsonArray)told["messages_hit"]!).Select(static m => m!.ToString()));
        Assert.Equal(["record", "chunk"], ((JsonArray)told["findings"]!).Select(static f => f!["about"]!.ToString()));
        Assert.Equal(Path.Combine(Data, "log", "seg.0000000000"), told["findings"]![0]!["file"]!.ToString());
    }

    [Fact]
    public async Task A_running_server_a_missing_directory_and_bad_usage_are_refused()
    {
        Assert.Equal(ExitCodes.Failed, await RunAsync("verify"));
        Assert.Contains("Name another with --data-dir or --config", _err.ToString(), StringComparison.Ordinal);
        await using (FasterRecordLog log = FasterRecordLog.Open(Options, TimeProvider.System))
        {
            foreach (string[] verb in (string[][])[["verify"], ["stats"], ["export", "-o", To]])
            {
                _err.GetStringBuilder().Clear();
                Assert.Equal(ExitCodes.Failed, await RunAsync(verb));
                Assert.Contains("is in use by a running server. Stop that server first", _err.ToString(), StringComparison.Ordinal);
            }
        }

        Assert.False(Directory.Exists(To));
        foreach (string[] usage in (string[][])[["export"], ["export", "-o", "-"], ["export", "-o", "-", "--format", "mbox", "--json"], ["export", "-o", To, "--format", "zip"], ["stats", "--top", "0"], ["export", "-o", To, "--reason", "("]])
        {
            Assert.Equal(ExitCodes.Usage, await RunAsync(usage));
        }
    }

    private static string[] Rows(JsonNode told, string name, params string[] columns) =>
        [.. ((JsonArray)told[name]!).Select(row => string.Join(' ', columns.Select(c => row![c]?.ToString() ?? "")))];

    private Task<int> RunAsync(params string[] arguments) =>
        CommandLine.RunAsync(["spool", .. arguments, "--data-dir", Data], new Output(_out, _err, false), TestContext.Current.CancellationToken);

    private async Task<JsonNode> ReadEnvelopeAsync(string id) =>
        JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(To, id + ".json"), TestContext.Current.CancellationToken))!;

    private void Flip(long address)
    {
        using FileStream segment = new(Path.Combine(Data, "log", "seg.0000000000"), FileMode.Open);
        segment.Position = address;
        int octet = segment.ReadByte();
        segment.Position = address;
        segment.WriteByte((byte)(octet ^ 0x40));
    }

    private sealed record Filled(string Small, string Large, string Split, long LargePiece, long SplitState, Dictionary<string, byte[]> Octets);

    /// <summary>A small message, one in chunks, one split with one recipient delivered, one deferred and one held; and one that is gone.</summary>
    private async Task<Filled> FillAsync()
    {
        await using MailQueue queue = MailQueue.Open(FasterRecordLog.Open(Options, TimeProvider.System), Options, TimeProvider.System, NullLogger.Instance);
        queue.Start();
        string[] bodies = ["Subject: small\r\n\r\n>From me\r\nFrom you\r\n", "Subject: large\r\n\r\n" + string.Concat(Enumerable.Repeat("From \xE9\r\nline\r\n", 1500)), "Subject: split\r\n\r\n.\r\n"];
        QueuedMessage small = await SpoolBed.AcceptAsync(queue, bodies[0], "small@example.net");
        QueuedMessage large = await SpoolBed.AcceptAsync(queue, bodies[1], "large@example.net");
        QueuedMessage split = await SpoolBed.AcceptAsync(queue, bodies[2], "a@one.example", "b@two.example", "c@three.example");
        QueuedMessage gone = await SpoolBed.AcceptAsync(queue, "gone\r\n");
        QueuedMessage[] parts = await queue.SplitAsync(split, [[0], [1], [2]]);
        await queue.UpdateAsync(parts[0], new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        await queue.UpdateAsync(parts[1], new RecipientUpdate[] { new(1, QueueBench.Deferred(2, Later, "later")) });
        long state = queue.Jobs[parts[1].Slot].State;
        await queue.SteerAsync(new[] { parts[2].Slot }, new Steering(SteeringKind.Hold, default));
        await queue.UpdateDurablyAsync(gone, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        string[] ids = [small.Id.ToString(), large.Id.ToString(), split.Id.ToString()];
        Dictionary<string, byte[]> octets = ids.Zip(bodies).ToDictionary(static p => p.First, static p => Encoding.Latin1.GetBytes("Received: by here\r\n" + p.Second));
        return new Filled(ids[0], ids[1], ids[2], large.Body.Chunks[1].Address, state, octets);
    }
}
