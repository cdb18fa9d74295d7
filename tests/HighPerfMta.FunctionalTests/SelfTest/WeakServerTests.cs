using System.Globalization;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.Server.SelfTest;

namespace HighPerfMta.FunctionalTests.SelfTest;

/// <summary>Each check finds what it is for, and finds nothing in a server that does that right.</summary>
public class WeakServerTests
{
    public static TheoryData<string> Checks => [.. Suite.All.Select(static c => c.Id)];

    [Theory]
    [MemberData(nameof(Checks))]
    public async Task Every_check_can_fail(string check)
    {
        await using WeakServer server = new(check);
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await RunAsync(server, check);
        (string verdict, string evidence) = Assert.Single(verdicts).Value;
        Assert.True(verdict is "weak" or "fail", $"{verdict}: {evidence}");
    }

    [Fact]
    public async Task A_server_without_weakness_passes_everything()
    {
        await using WeakServer server = new("none");
        Dictionary<string, (string Verdict, string Evidence)> verdicts = await RunAsync(server, null);
        Assert.Empty(verdicts.Where(static v => v.Value.Verdict != "pass").Select(static v => $"{v.Key} {v.Value.Verdict}: {v.Value.Evidence}"));
        Assert.Equal(Suite.All.Count, verdicts.Count);
    }

    private static Task<Dictionary<string, (string Verdict, string Evidence)>> RunAsync(WeakServer server, string? only)
    {
        server.NextHop = Ports.Free();
        string sink = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{server.NextHop}");
        string[] options = ["--to", "user@home.test", "--from", "a@example.com", "--timeout", "2s", "--outsider", "--sink", sink];
        return SelfTestRun.VerdictsAsync(server.Port, only is null ? options : [.. options, "--only", only]);
    }
}
