using System.Net;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Trials;

/// <summary>Octets of resident memory before, at the highest while one huge message passes, and what it raised the process by.</summary>
internal sealed record MemoryReport(long MessageSize, long BeforeBytes, long PeakBytes, long GrowthBytes, double Seconds, bool Arrived);

/// <summary>Sends one huge message through a server that has relayed small ones, and watches its resident memory.</summary>
internal static class MemoryTrial
{
    private const int WarmUpMessages = 2000;

    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    public static async Task<MemoryReport> RunAsync(string program, string directory, string size, string extra, CancellationToken cancellation)
    {
        if (!SizeMix.TryParse(size, out var huge, out var error) || !SizeMix.TryParse("1KiB", out var small, out _))
        {
            throw new ArgumentException(error, nameof(size));
        }

        await using var sink = new SinkServer(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) });
        sink.Start();
        using var server = new ServerUnderTest(program, directory, sink.LocalEndPoint, "[limits]\nmessage_size = \"8GiB\"\n" + extra);
        server.Start();
        if (!await server.WaitUntilAcceptingAsync(TimeSpan.FromSeconds(60)))
        {
            throw new InvalidOperationException($"the server does not accept connections; see {server.LogFile}");
        }

        var options = new SourceOptions { Target = server.Address, Connections = 4, Sizes = small!, Count = WarmUpMessages, Timeout = Limit };
        await new RelayRunner(options, sink).RunAsync(TimeSpan.FromSeconds(10), cancellation);
        var before = server.Memory("VmRSS");
        var peak = before;
        using var sampling = new CancellationTokenSource();
        var sampler = Task.Run(
            async () =>
            {
                while (!sampling.IsCancellationRequested)
                {
                    peak = Math.Max(peak, server.Memory("VmRSS"));
                    await Task.WhenAny(Task.Delay(20, sampling.Token));
                }
            },
            CancellationToken.None);
        var report = await new RelayRunner(options with { Connections = 1, Sizes = huge!, Count = 1, Run = options.Run + 1 }, sink)
            .RunAsync(TimeSpan.FromMinutes(2), cancellation);
        await sampling.CancelAsync();
        await sampler;
        return new MemoryReport(huge!.For(0).Size, before, peak, peak - before, report.Seconds, report.Delivered == 1);
    }
}
