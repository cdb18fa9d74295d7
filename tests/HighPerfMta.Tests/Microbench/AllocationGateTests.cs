using System.Diagnostics;

namespace HighPerfMta.Tests.Microbench;

public class AllocationGateTests
{
    /// <summary>In a process of its own: other tests allocate at the same time in this one.</summary>
    [Fact]
    public async Task No_benchmark_allocates_more_than_its_line_in_allocations_json()
    {
        var output = AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar);
        var configuration = Path.GetFileName(Path.GetDirectoryName(output)!);
        var bench = Path.GetFullPath(Path.Combine(
            output, "../../../../../bench/HighPerfMta.Microbench/bin", configuration, Path.GetFileName(output), "HighPerfMta.Microbench.dll"));
        var start = new ProcessStartInfo("dotnet") { ArgumentList = { bench, "--gate" }, RedirectStandardOutput = true };
        using var process = Process.Start(start)!;
        using var timeout = new CancellationTokenSource(TimeSpan.FromMinutes(5));

        var report = await process.StandardOutput.ReadToEndAsync(timeout.Token);
        await process.WaitForExitAsync(timeout.Token);

        Assert.True(process.ExitCode == 0, report);
    }
}
