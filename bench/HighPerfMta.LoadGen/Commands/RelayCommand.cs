using System.CommandLine;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload relay --mta HOST:PORT --sink LISTEN</c>: exit 0 when all that was accepted arrived, 1 otherwise.</summary>
internal static class RelayCommand
{
    /// <summary>The last replies need so long to be read: closed at once, they would be lost, and their messages deferred.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(300);

    public static Command Create()
    {
        var mta = new Option<string>("--mta") { Description = "HOST:PORT of the server whose next hop is the sink", Required = true };
        var listen = new Option<string>("--sink") { Description = "HOST:PORT the sink listens on", Required = true };
        var expect = new Option<long>("--expect") { Description = "fail unless so many messages arrive" };
        var settle = Arguments.Duration("--settle", "wait so long for the next arrival before what is missing counts as lost (default 30s)");
        var source = new SourceArguments();
        var sink = new SinkArguments("--sink-");
        var json = Arguments.Json();
        var command = new Command("relay", "a source and a sink around a server: rate and latency end to end, what got lost, what came twice")
        {
            mta, listen, expect, settle, json,
        };
        source.AddTo(command);
        sink.AddTo(command);
        command.SetAction(async (arguments, cancellation) =>
        {
            if (source.Read(arguments, arguments.GetValue(mta)!, out var error) is not { } sourceOptions
                || sink.Read(arguments, arguments.GetValue(listen)!, out error) is not { } sinkOptions)
            {
                return Output.Usage(error);
            }

            await using var server = new SinkServer(sinkOptions);
            server.Start();
            var runner = new RelayRunner(sourceOptions, server);
            var report = await Output.WithProgressAsync(
                runner.RunAsync(arguments.GetValue(settle) ?? TimeSpan.FromSeconds(30), cancellation),
                () => $"{runner.Source.Accepted} accepted, {server.Delivered} delivered");
            await Task.Delay(Grace, CancellationToken.None);
            await Output.WriteAsync(arguments.GetValue(json), report, text => Write(text, report));
            return report.Lost == 0 && report.MissingRecipients == 0 && report.Delivered >= arguments.GetValue(expect) ? Output.Done : Output.Failed;
        });
        return command;
    }

    private static void Write(TextWriter text, RelayReport report)
    {
        SourceCommand.Write(text, report.Source);
        text.WriteLine(FormattableString.Invariant(
            $"{report.Delivered} delivered in {report.Seconds} s = {report.DeliveredPerSecond}/s, {report.Lost} lost, {report.MissingRecipients} recipients missing, {report.Duplicates} duplicates, {report.Unconfirmed} unconfirmed"));
        text.WriteLine("end to end " + Output.Of(report.EndToEndMs));
    }
}
