using System.Diagnostics;
using System.Globalization;
using System.Net;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.FunctionalTests.Delivery;

/// <summary>System calls and flushes are what a relayed message costs the kernel. Their numbers hardly depend on the machine.</summary>
[Collection(AloneCollection.Name)]
public class SystemCallTests
{
    private const int Warming = 6000;
    private const int Messages = 4000;

    /// <summary>The best of so many counts: fewer messages share a flush, and the calls around it, while others want the processors, which can only add to what is counted.</summary>
    private const int Rounds = 3;

    private const double MostCalls = 14;
    private const double MostFlushes = 0.35;

    private static readonly TimeSpan Settle = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task A_relayed_message_of_1_KiB_takes_few_system_calls_and_shares_its_flush()
    {
        string strace = Peer.Require("strace");
        await using SinkServer sink = new(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) });
        sink.Start();
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [[route]]
            domains = ["*"]
            to = "smtp://{sink.LocalEndPoint}"
            """);
        Assert.True(SizeMix.TryParse("1KiB", out SizeMix? small, out _));
        SourceOptions options = new() { Target = new IPEndPoint(IPAddress.Loopback, mta.Port), Sizes = small!, Connections = 20, Pipeline = 1, Count = Warming };
        await RelayAsync(options, sink);

        double all = double.MaxValue, flushes = double.MaxValue;
        for (int round = 1; round <= Rounds; round++)
        {
            Dictionary<string, double> calls = await TraceAsync(strace, mta, options with { Count = Messages, Run = options.Run + (uint)round }, sink);
            all = Math.Min(all, calls.Values.Sum() / Messages);
            flushes = Math.Min(flushes, (calls.GetValueOrDefault("fdatasync") + calls.GetValueOrDefault("fsync")) / Messages);
        }

        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{all:F1} calls and {flushes:F3} flushes a message"));
        Assert.InRange(all, 4, MostCalls);
        Assert.InRange(flushes, 0.01, MostFlushes);
    }

    /// <summary>System calls of the server while it relays: their names and numbers.</summary>
    private static async Task<Dictionary<string, double>> TraceAsync(string strace, MtaProcess mta, SourceOptions options, SinkServer sink)
    {
        string summary = Path.Combine(Path.GetTempPath(), $"hpmta-strace-{Guid.NewGuid():N}");
        try
        {
            using (Process tracer = Process.Start(new ProcessStartInfo(strace, ["-f", "-q", "-c", "-o", summary, "-p", Text(mta.Id)]))!)
            {
                await TracedAsync(mta.Id, tracer);
                await RelayAsync(options, sink);
                await StopAsync(tracer);
            }

            return Read(await File.ReadAllLinesAsync(summary, TestContext.Current.CancellationToken));
        }
        finally
        {
            File.Delete(summary);
        }
    }

    private static async Task RelayAsync(SourceOptions options, SinkServer sink)
    {
        RelayReport report = await new RelayRunner(options, sink).RunAsync(Settle, TestContext.Current.CancellationToken);
        Assert.Equal((options.Count, 0L), (report.Delivered, report.Lost));
    }

    /// <summary>Until every thread of the server is traced.</summary>
    private static Task TracedAsync(int process, Process tracer) => Eventually.TrueAsync(
        () =>
        {
            Assert.False(tracer.HasExited, "strace has ended");
            return Task.FromResult(Directory.EnumerateDirectories($"/proc/{Text(process)}/task").All(static task => IsTraced(Path.Combine(task, "status"))));
        },
        static () => "strace does not attach");

    private static bool IsTraced(string status)
    {
        try
        {
            return File.ReadLines(status).Any(static line => line.StartsWith("TracerPid:", StringComparison.Ordinal) && !line.EndsWith("\t0", StringComparison.Ordinal));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The thread has ended.
            return true;
        }
    }

    private static async Task StopAsync(Process tracer)
    {
        await Peer.RunAsync(Peer.Require("kill"), ["-INT", Text(tracer.Id)]);
        await tracer.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(Patience, TestContext.Current.CancellationToken);
    }

    /// <summary>Lines of "% time, seconds, usecs/call, calls, [errors,] syscall" between two rules.</summary>
    private static Dictionary<string, double> Read(string[] lines)
    {
        Dictionary<string, double> calls = [];
        foreach (string line in lines.SkipWhile(static l => !l.StartsWith("---", StringComparison.Ordinal)).Skip(1).TakeWhile(static l => !l.StartsWith("---", StringComparison.Ordinal)))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            calls[fields[^1]] = double.Parse(fields[3], CultureInfo.InvariantCulture);
        }

        return calls;
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
