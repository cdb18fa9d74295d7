using System.Globalization;
using System.Text.Json.Nodes;
using HighPerfMta.Server.Commands;

namespace HighPerfMta.FunctionalTests.SelfTest;

/// <summary>Runs <c>hpmta selftest</c> in this process.</summary>
internal static class SelfTestRun
{
    public static async Task<(int Exit, string Out, string Err)> CommandAsync(params string[] arguments)
    {
        StringWriter output = new() { NewLine = "\n" }, errors = new() { NewLine = "\n" };
        int exit = await CommandLine.RunAsync(["selftest", .. arguments], new Output(output, errors, IsTerminal: false), TestContext.Current.CancellationToken);
        return (exit, output.ToString(), errors.ToString());
    }

    /// <summary>The verdicts by check, with their evidence, of a server on loopback.</summary>
    public static async Task<Dictionary<string, (string Verdict, string Evidence)>> VerdictsAsync(int port, params string[] arguments)
    {
        (int exit, string output, string errors) = await CommandAsync([string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{port}"), "--json", .. arguments]);
        Assert.True(exit is 0 or 1, errors);
        JsonArray checks = (JsonArray)JsonNode.Parse(output)!["checks"]!;
        Dictionary<string, (string Verdict, string Evidence)> verdicts = checks.ToDictionary(static c => c!["id"]!.ToString(), static c => (c!["verdict"]!.ToString(), c["evidence"]!.ToString()));
        Assert.Equal(verdicts.Values.Any(static v => v.Verdict is not ("pass" or "not applicable")) ? 1 : 0, exit);
        return verdicts;
    }

    /// <summary>The checks that found something, one a line.</summary>
    public static string[] Findings(this Dictionary<string, (string Verdict, string Evidence)> verdicts, params string[] expected) =>
        [.. verdicts.Where(v => v.Value.Verdict is not ("pass" or "not applicable") && !expected.Contains($"{v.Key} {v.Value.Verdict}")).Select(static v => $"{v.Key} {v.Value.Verdict}: {v.Value.Evidence}")];
}
