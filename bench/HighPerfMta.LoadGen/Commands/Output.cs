using System.Text.Json;
using Spectre.Console;

namespace HighPerfMta.LoadGen.Commands;

/// <summary>Results to people and programs: progress only on a terminal, JSON where it was asked for.</summary>
internal static class Output
{
    public const int Done = 0;
    public const int Failed = 1;
    public const int BadUsage = 2;

    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true };
    private static readonly TimeSpan ProgressPeriod = TimeSpan.FromMilliseconds(500);

    public static int Usage(string error)
    {
        Console.Error.WriteLine("hpload: " + error);
        return BadUsage;
    }

    /// <summary>Awaits the work; a line on standard error follows it when that is a terminal.</summary>
    public static async Task<T> WithProgressAsync<T>(Task<T> work, Func<string> line)
    {
        if (Console.IsErrorRedirected)
        {
            return await work;
        }

        var terminal = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        await terminal.Status().StartAsync("starting", async status =>
        {
            while (await Task.WhenAny(work, Task.Delay(ProgressPeriod)) != work)
            {
                status.Status(Markup.Escape(line()));
            }
        });
        return await work;
    }

    public static async Task WriteAsync<T>(string? jsonFile, T result, Action<TextWriter> text)
    {
        if (jsonFile != "-")
        {
            text(Console.Out);
        }

        if (jsonFile is not null)
        {
            var json = JsonSerializer.Serialize(result, Json) + "\n";
            await (jsonFile == "-" ? Console.Out.WriteAsync(json) : File.WriteAllTextAsync(jsonFile, json));
        }
    }

    public static string Of(Load.LatencyFigures? latency) => latency is null ? "no latency" : FormattableString.Invariant(
        $"ms: p50 {latency.P50Ms}, p90 {latency.P90Ms}, p99 {latency.P99Ms}, p99.9 {latency.P999Ms}, max {latency.MaxMs}");
}
