using System.CommandLine;
using System.Net;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload slow HOST:PORT</c>: exit 0 when all sessions were held to the end, 1 otherwise.</summary>
internal static class SlowCommand
{
    public static Command Create()
    {
        var target = new Argument<string>("HOST:PORT") { Description = "the server, on this machine" };
        var sessions = Arguments.Number("--sessions", "sessions at once", 1000, 1, 60_000);
        var mix = new Option<SlowMix>("--mix")
        {
            Description = "what they do: idle waits after EHLO, command and data send a command or a message octet by octet (default idle:1,command:1,data:1)",
            DefaultValueFactory = _ => new SlowMix(1, 1, 1),
            CustomParser = result =>
            {
                if (SlowMix.TryParse(result.Tokens[0].Value, out var parsed))
                {
                    return parsed;
                }

                result.AddError($"--mix: '{result.Tokens[0].Value}' is no mix; write such as idle:1,command:2,data:1");
                return default;
            },
        };
        var every = Arguments.Duration("--every", "time between two octets of a session (default 5s)");
        var duration = Arguments.Duration("--duration", "hold them so long (default 60s)");
        var ramp = Arguments.Duration("--ramp", "open them over this time (default 5s)");
        var to = new Option<string>("--to") { Description = "forward-path", DefaultValueFactory = _ => "slow@sink.invalid" };
        var ready = new Option<string>("--ready") { Description = "make FILE when all are there" };
        var json = Arguments.Json();
        var command = new Command("slow", "hold sessions that send an octet every few seconds, or none") { target, sessions, mix, every, duration, ramp, to, ready, json };
        command.SetAction(async (arguments, cancellation) =>
        {
            if (!Arguments.TryParseEndPoint(arguments.GetValue(target)!, out var endPoint) || !IPAddress.IsLoopback(endPoint.Address))
            {
                return Output.Usage($"'{arguments.GetValue(target)}' is no HOST:PORT of this machine");
            }

            var defaults = new SlowOptions { Target = endPoint };
            var runner = new SlowRunner(defaults with
            {
                Sessions = arguments.GetValue(sessions),
                Mix = arguments.GetValue(mix),
                Every = arguments.GetValue(every) ?? defaults.Every,
                Duration = arguments.GetValue(duration) ?? defaults.Duration,
                Ramp = arguments.GetValue(ramp) ?? defaults.Ramp,
                To = arguments.GetValue(to)!,
                ReadyFile = arguments.GetValue(ready),
            });
            var report = await Output.WithProgressAsync(runner.RunAsync(cancellation), () => $"{runner.Open} sessions");
            await Output.WriteAsync(arguments.GetValue(json), report, text => Write(text, report));
            return report.LeftAtEnd == report.Wanted ? Output.Done : Output.Failed;
        });
        return command;
    }

    private static void Write(TextWriter text, SlowReport report)
    {
        text.WriteLine(FormattableString.Invariant($"{report.Held} of {report.Wanted} held, {report.LeftAtEnd} to the end, {report.Octets} octets"));
        foreach (var (ending, count) in report.EndedWith)
        {
            text.WriteLine(FormattableString.Invariant($"{count} ended with {ending}"));
        }
    }
}
