using System.Globalization;
using HighPerfMta.FunctionalTests.Support;

namespace HighPerfMta.FunctionalTests.Server;

/// <summary>The kernel's policy for the server's threads. Alone: a server of the idle policy starts only while others let it.</summary>
[Collection(AloneCollection.Name)]
public class SchedulingTests
{
    private const int Normal = 0;
    private const int Batch = 3;
    private const int Idle = 5;

    /// <summary>What the server says where the kernel does not let it.</summary>
    private const string Refusal = "scheduled as they were started";

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

    /// <summary>Policies of a process's threads by their name (proc(5): field 41 of stat).</summary>
    private static Dictionary<string, int[]> PoliciesOf(string process)
    {
        List<(string Name, int Policy)> found = [];
        foreach (string task in Directory.EnumerateDirectories($"/proc/{process}/task"))
        {
            string text;
            try
            {
                text = File.ReadAllText(Path.Combine(task, "stat"));
            }
            catch (IOException)
            {
                // The thread has ended.
                continue;
            }

            int end = text.LastIndexOf(')');
            string[] fields = text[(end + 2)..].Split(' ');
            found.Add((text[(text.IndexOf('(', StringComparison.Ordinal) + 1)..end], int.Parse(fields[41 - 3], CultureInfo.InvariantCulture)));
        }

        return found.GroupBy(static t => t.Name).ToDictionary(static g => g.Key, static g => g.Select(static t => t.Policy).ToArray());
    }
}
