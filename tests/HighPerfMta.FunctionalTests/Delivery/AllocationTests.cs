using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;
using HighPerfMta.FunctionalTests.Support;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.FunctionalTests.Delivery;

/// <summary>What the whole server allocates for a relayed message, by its own count: reception, queue, delivery, event log.</summary>
[Collection(AloneCollection.Name)]
public partial class AllocationTests
{
    private const int Warming = 16_000;
    private const int Messages = 6000;
    private const double Allowed = 1024;

    private static readonly TimeSpan Settle = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task A_relayed_message_of_1_KiB_costs_less_than_1024_octets_in_the_whole_server()
    {
        await using SinkServer sink = new(new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) });
        sink.Start();
        int web = Ports.Free();
        await using MtaProcess mta = await MtaProcess.StartAsync($"""
            [[route]]
            domains = ["*"]
            to = "smtp://{sink.LocalEndPoint}"
            """, http: $"127.0.0.1:{web.ToString(CultureInfo.InvariantCulture)}");
        Assert.True(SizeMix.TryParse("1KiB", out SizeMix? small, out _));
        SourceOptions options = new() { Target = new IPEndPoint(IPAddress.Loopback, mta.Port), Sizes = small!, Connections = 20, Pipeline = 1, Count = Messages };

        // Pages of the log (16 MiB), buffers and connections that are made once are not a message's.
        await RelayAsync(options with { Count = Warming, Run = options.Run + 2 }, sink);
        double before = await AllocatedAsync(web);
        await RelayAsync(options with { Run = options.Run + 1 }, sink);
        double each = (await AllocatedAsync(web) - before) / Messages;

        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{each:F0} octets a message"));
        Assert.InRange(each, 100, Allowed);
    }

    private static async Task RelayAsync(SourceOptions options, SinkServer sink)
    {
        RelayReport report = await new RelayRunner(options, sink).RunAsync(Settle, TestContext.Current.CancellationToken);
        Assert.True(report.Delivered == options.Count && report.Lost == 0, report.ToString());
    }

    private static async Task<double> AllocatedAsync(int web)
    {
        using HttpClient client = new();
        string metrics = await client.GetStringAsync(
            new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{web}/metrics")), TestContext.Current.CancellationToken);
        Match line = AllocatedLine().Match(metrics);
        Assert.True(line.Success, metrics);
        return double.Parse(line.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^hpmta_process_allocated_bytes_total (\S+)$", RegexOptions.Multiline)]
    private static partial Regex AllocatedLine();
}
