using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Server;

/// <summary>The kernel's policy for the server's threads, and which processors they keep to. Alone: a server of the idle policy starts only while others let it.</summary>
[Collection(AloneCollection.Name)]
public class SchedulingTests
{
    private const int Normal = 0;
    private const int Batch = 3;
    private const int Idle = 5;

    /// <summary>What the server says where the kernel does not let it.</summary>
    private const string Refusal = "scheduled as they were started";

    /// <summary>Looks at the threads while there is load, where none of them is to be seen on one processor.</summary>
    private const int FewestLooks = 10;

    /// <summary>Messages that came meanwhile.</summary>
    private const int FewestMessages = 500;

    private static readonly (string Sent, string Reply)[] Dialogue =
    [
        ("HELO load.test\r\n", "250"), ("MAIL FROM:<a@load.test>\r\n", "250"), ("RCPT TO:<b@sink.test>\r\n", "250"), ("DATA\r\n", "354"), ("Subject: load\r\n\r\nload\r\n.\r\n", "250"),
    ];

    private static readonly string[] Own = ["hpmta-log-commi", "hpmta-net-0", ".NET TP Worker"];

    [Fact]
    public async Task Threads_take_turns_unless_the_policy_is_to_be_inherited()
    {
        int ours = PoliciesOf("self").Values.First()[0];
        await using MtaProcess mta = await MtaProcess.StartAsync("");
        bool refused = mta.Log.Contains(Refusal, StringComparison.Ordinal);
        int expected = ours == Normal && !refused ? Batch : ours;
        Dictionary<string, int[]> policies = PoliciesOf(mta.Id.ToString(CultureInfo.InvariantCulture));
        Assert.All(Own, name => Assert.Contains(name, policies.Keys));
        Assert.All(policies, thread => Assert.All(thread.Value, policy => Assert.Equal(expected, policy)));

        Assert.Equal(0, await mta.TerminateAsync());
        await File.WriteAllTextAsync(mta.ConfigFile, "scheduling = \"inherit\"\n" + await File.ReadAllTextAsync(mta.ConfigFile));
        await mta.StartAgainAsync();
        Assert.All(PoliciesOf(mta.Id.ToString(CultureInfo.InvariantCulture)), thread => Assert.All(thread.Value, policy => Assert.Equal(ours, policy)));
    }

    [Fact]
    public async Task A_policy_that_it_was_started_with_is_kept()
    {
        await using MtaProcess mta = await MtaProcess.StartAsync("");
        Assert.Equal(0, await mta.TerminateAsync());
        await mta.StartAgainAsync(Peer.Require("chrt"), "--idle", "0");
        Assert.All(PoliciesOf(mta.Id.ToString(CultureInfo.InvariantCulture)), static thread => Assert.All(thread.Value, static policy => Assert.Equal(Idle, policy)));
    }

    /// <summary>Two processors: the threads that serve sockets keep to one each while they are busy, and the one that commits follows the second; all others may use both. One: there is nothing to keep to.</summary>
    [Theory]
    [InlineData("batch", 2)]
    [InlineData("batch", 1)]
    [InlineData("inherit", 2)]
    public async Task Of_two_processors_the_busiest_threads_keep_to_one_each_under_load(string scheduling, int processors)
    {
        string[] ours = ProcessorsOf("self").Values.SelectMany(static lists => lists).SelectMany(Expand).Distinct().Take(processors).ToArray();
        await using MtaProcess mta = await MtaProcess.StartAsync("""
            [[route]]
            domains = ["*"]
            to = "discard"
            """);
        Assert.Equal(0, await mta.TerminateAsync());
        await File.WriteAllTextAsync(mta.ConfigFile, $"scheduling = \"{scheduling}\"\n" + await File.ReadAllTextAsync(mta.ConfigFile));
        await mta.StartAgainAsync(Peer.Require("taskset"), "-c", string.Join(',', ours));

        bool placed = scheduling == "batch" && ours.Length == 2 && Environment.ProcessorCount >= 2;
        Dictionary<string, string[]> resting = ProcessorsOf(mta.Id.ToString(CultureInfo.InvariantCulture));
        Assert.Equal(placed, resting.ContainsKey("hpmta-net-1"));
        Assert.Contains("hpmta-log-commi", resting.Keys);

        Dictionary<string, HashSet<string>> seen = await SeenUnderLoadAsync(mta, placed);
        string both = string.Join(',', ours);
        foreach ((string name, HashSet<string> lists) in seen)
        {
            string? own = !placed ? null : name switch
            {
                "hpmta-net-0" => ours[0],
                "hpmta-net-1" or "hpmta-log-commi" => ours[1],
                _ => null,
            };
            Assert.All(lists, list => Assert.True(list == both || list == own, $"{name}: {list}"));
        }
    }

    /// <summary>On which processors the threads were seen while mail came as fast as it was taken; if they are to keep to some, until each was seen there.</summary>
    private static async Task<Dictionary<string, HashSet<string>>> SeenUnderLoadAsync(MtaProcess mta, bool placed)
    {
        using CancellationTokenSource enough = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        int sent = 0;
        Task[] load = [.. Enumerable.Range(0, 8).Select(_ => SendAsync(mta.Port, () => Interlocked.Increment(ref sent), enough.Token))];
        Dictionary<string, HashSet<string>> seen = [];
        string[] expected = placed ? ["hpmta-net-0", "hpmta-net-1", "hpmta-log-commi"] : [];
        int looks = 0;
        try
        {
            await Eventually.TrueAsync(
                () =>
                {
                    foreach ((string name, string[] lists) in ProcessorsOf(mta.Id.ToString(CultureInfo.InvariantCulture)))
                    {
                        seen.TryAdd(name, []);
                        seen[name].UnionWith(lists.Select(static list => string.Join(',', Expand(list))));
                    }

                    return Task.FromResult(++looks >= FewestLooks && Volatile.Read(ref sent) >= FewestMessages && expected.All(name => seen[name].Any(static list => !list.Contains(','))));
                },
                () => $"{sent} messages, and not all threads kept to a processor: " + string.Join("; ", seen.Select(static s => $"{s.Key} {string.Join(' ', s.Value)}")));
        }
        finally
        {
            await enough.CancelAsync();
        }

        await Task.WhenAll(load);
        return seen;
    }

    private static async Task SendAsync(int port, Action sent, CancellationToken enough)
    {
        using TcpClient client = new() { NoDelay = true };
        await client.ConnectAsync(IPAddress.Loopback, port, CancellationToken.None);
        using StreamReader replies = new(client.GetStream(), Encoding.ASCII);
        await ExpectAsync(replies, "220");
        while (!enough.IsCancellationRequested)
        {
            foreach ((string command, string reply) in Dialogue)
            {
                await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(command), CancellationToken.None);
                await ExpectAsync(replies, reply);
            }

            sent();
        }
    }

    private static async Task ExpectAsync(StreamReader replies, string code)
    {
        string? line = await replies.ReadLineAsync();
        Assert.True(line?.StartsWith(code, StringComparison.Ordinal), line ?? "the connection ended");
    }

    /// <summary>The numbers of a list such as 0-2,5.</summary>
    private static IEnumerable<string> Expand(string list)
    {
        foreach (string range in list.Split(','))
        {
            int[] ends = [.. range.Split('-').Select(static end => int.Parse(end, CultureInfo.InvariantCulture))];
            for (int i = ends[0]; i <= ends[^1]; i++)
            {
                yield return i.ToString(CultureInfo.InvariantCulture);
            }
        }
    }

    /// <summary>Policies of a process's threads by their name (proc(5): field 41 of stat).</summary>
    private static Dictionary<string, int[]> PoliciesOf(string process) =>
        ThreadsOf(process, "stat", static text => int.Parse(text[(text.LastIndexOf(')') + 2)..].Split(' ')[41 - 3], CultureInfo.InvariantCulture));

    /// <summary>The processors that a process's threads may use, by their name.</summary>
    private static Dictionary<string, string[]> ProcessorsOf(string process)
    {
        const string key = "Cpus_allowed_list:";
        return ThreadsOf(process, "status", static text => text.Split('\n').Single(static line => line.StartsWith(key, StringComparison.Ordinal))[key.Length..].Trim());
    }

    private static Dictionary<string, T[]> ThreadsOf<T>(string process, string file, Func<string, T> parse)
    {
        List<(string Name, T Value)> found = [];
        foreach (string task in Directory.EnumerateDirectories($"/proc/{process}/task"))
        {
            try
            {
                string name = File.ReadAllText(Path.Combine(task, "comm")).TrimEnd();
                found.Add((name, parse(File.ReadAllText(Path.Combine(task, file)))));
            }
            catch (IOException)
            {
                // The thread has ended.
            }
        }

        return found.GroupBy(static t => t.Name).ToDictionary(static g => g.Key, static g => g.Select(static t => t.Value).ToArray());
    }
}
