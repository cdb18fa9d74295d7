using System.Diagnostics;

namespace HighPerfMta.FunctionalTests.Support;

/// <summary>Programs of others that tests talk to. Absent: the test says so and skips, unless HPMTA_REQUIRE_PEERS is set (as in CI), then it fails.</summary>
internal static class Peer
{
    public static string Require(string program)
    {
        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Concat(["/usr/sbin", "/usr/bin", "/usr/lib/postfix/sbin", .. Versions("/usr/lib/postgresql")]))
        {
            string path = Path.Combine(folder, program);
            if (folder.Length > 0 && File.Exists(path))
            {
                return path;
            }
        }

        RequireThat(false, $"{program} is not installed");
        return program;
    }

    /// <summary>As <see cref="Require"/>, for what is no program.</summary>
    public static void RequireThat(bool isThere, string message)
    {
        Assert.SkipUnless(isThere || Environment.GetEnvironmentVariable("HPMTA_REQUIRE_PEERS") is "1", message);
        Assert.True(isThere, message);
    }

    /// <summary>Debian has the programs of each version of PostgreSQL in a folder of its own.</summary>
    private static IEnumerable<string> Versions(string folder) =>
        Directory.Exists(folder) ? Directory.EnumerateDirectories(folder).OrderDescending(StringComparer.Ordinal).Select(static v => Path.Combine(v, "bin")) : [];

    /// <summary>Runs a program to its end; its output is the failure message when the exit code is not the one expected.</summary>
    public static async Task<string> RunAsync(string program, IEnumerable<string> arguments, string input = "", int expectedExit = 0)
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(60));
        using Process process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        try
        {
            await process.StandardInput.WriteAsync(input);
            process.StandardInput.Close();
            Task<string> output = process.StandardOutput.ReadToEndAsync(limit.Token);
            Task<string> errors = process.StandardError.ReadToEndAsync(limit.Token);
            await process.WaitForExitAsync(limit.Token);
            string all = await output + await errors;
            Assert.True(process.ExitCode == expectedExit, $"{program} exited with {process.ExitCode}:\n{all}");
            return all;
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }
}
