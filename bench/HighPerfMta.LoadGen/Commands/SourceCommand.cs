using System.CommandLine;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload source HOST:PORT</c>: exit 0 when every message got an answer, 1 when some failed.</summary>
internal static class SourceCommand
{
    public static Command Create()
    {
        var target = new Argument<string>("HOST:PORT") { Description = "the server to load" };
        var source = new SourceArguments();
        var json = Arguments.Json();
        var command = new Command("source", "send messages and measure how fast a server accepts them") { target };
        source.AddTo(command);
        command.Options.Add(json);
        command.SetAction(async (arguments, cancellation) =>
            source.Read(arguments, arguments.GetValue(target)!, out var error) is { } options
                ? await RunAsync(options, arguments.GetValue(json), cancellation)
                : Output.Usage(error));
        return command;
    }

    private static async Task<int> RunAsync(SourceOptions options, string? json, CancellationToken cancellation)
    {
        var runner = new SourceRunner(options);
        var report = await Output.WithProgressAsync(
            runner.RunAsync(cancellation), () => $"{runner.Accepted} accepted, {runner.Refused} refused, {runner.Failed} failed");
        await Output.WriteAsync(json, report, text => Write(text, report));
        return report.Failed == 0 ? Output.Done : Output.Failed;
    }

    internal static void Write(TextWriter text, SourceReport report)
    {
        text.WriteLine(FormattableString.Invariant(
            $"{report.Accepted} accepted of {report.Attempted} in {report.Seconds} s = {report.AcceptedPerSecond}/s, {report.Refused} refused, {report.Failed} failed, {report.Connections} connections"));
        text.WriteLine("accepted " + Output.Of(report.LatencyMs));
        if (report.OwnDelayMs is not null)
        {
            text.WriteLine("held up by this source " + Output.Of(report.OwnDelayMs));
        }

        if (report.FirstRefusal is { } refusal)
        {
            text.WriteLine("first refusal: " + Clean(refusal));
        }

        if (report.FirstFailure is { } failure)
        {
            text.WriteLine("first failure: " + Clean(failure));
        }
    }

    private static string Clean(string remote) => string.Concat(remote.Select(c => char.IsControl(c) ? '?' : c));
}
