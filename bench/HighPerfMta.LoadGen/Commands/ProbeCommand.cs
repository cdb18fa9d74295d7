using System.CommandLine;
using System.Net;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload probe HOST:PORT</c>: exit 0 when the message was taken within the time limit.</summary>
internal static class ProbeCommand
{
    public static Command Create()
    {
        var target = new Argument<string>("HOST:PORT") { Description = "the server, on this machine" };
        var from = new Option<string>("--from") { Description = "reverse-path", DefaultValueFactory = _ => "probe@load.invalid" };
        var to = new Option<string>("--to") { Description = "forward-path", DefaultValueFactory = _ => "probe@sink.invalid" };
        var limit = Arguments.Duration("--timeout", "give up after this time (default 60s)");
        var json = Arguments.Json();
        var command = new Command("probe", "connect every few milliseconds until a starting server takes one message, and tell when that was") { target, from, to, limit, json };
        command.SetAction(async (arguments, cancellation) =>
        {
            if (!Arguments.TryParseEndPoint(arguments.GetValue(target)!, out var endPoint) || !IPAddress.IsLoopback(endPoint.Address))
            {
                return Output.Usage($"'{arguments.GetValue(target)}' is no HOST:PORT of this machine");
            }

            var probe = new Probe(endPoint, arguments.GetValue(from)!, arguments.GetValue(to)!);
            var report = await probe.RunAsync(arguments.GetValue(limit) ?? TimeSpan.FromSeconds(60), cancellation);
            await Output.WriteAsync(arguments.GetValue(json), report, text => text.WriteLine(FormattableString.Invariant(
                $"greeted at {report.GreetedAt}, accepted at {report.AcceptedAt} (seconds since 1970), {report.Tries} tries")));
            return report.AcceptedAt is null ? Output.Failed : Output.Done;
        });
        return command;
    }
}
