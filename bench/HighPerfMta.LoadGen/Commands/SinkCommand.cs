using System.CommandLine;
using System.Net.Sockets;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload sink LISTEN</c>: takes mail until its bound or a signal, then says what came.</summary>
internal static class SinkCommand
{
    public static Command Create()
    {
        var listen = new Argument<string>("LISTEN") { Description = "HOST:PORT to listen on" };
        var sink = new SinkArguments();
        var count = new Option<long>("--count") { Description = "end after so many messages" };
        var duration = Arguments.Duration("--duration", "end after this time");
        var record = new Option<string>("--record") { Description = "write a line 'id size sha256' per message to FILE" };
        var json = Arguments.Json();
        var command = new Command("sink", "take mail, count it, find duplicates, and measure latency end to end")
        {
            listen, count, duration, record, json,
        };
        sink.AddTo(command);
        command.SetAction(async (arguments, cancellation) =>
        {
            if (sink.Read(arguments, arguments.GetValue(listen)!, out var error) is not { } options)
            {
                return Output.Usage(error);
            }

            options = options with { Count = arguments.GetValue(count), Duration = arguments.GetValue(duration) };
            return await RunAsync(options, arguments.GetValue(record), arguments.GetValue(json), cancellation);
        });
        return command;
    }

    private static async Task<int> RunAsync(SinkOptions options, string? record, string? json, CancellationToken cancellation)
    {
        await using var file = record is null ? null : new StreamWriter(record);
        if (file is not null)
        {
            options = options with { Received = message => Write(file, message) };
        }

        SinkReport report;
        try
        {
            await using var server = new SinkServer(options);
            server.Start();
            await Console.Error.WriteLineAsync($"hpload: sink on {server.LocalEndPoint}");
            report = await Output.WithProgressAsync(
                WaitAsync(server, cancellation), () => $"{server.Delivered} received, {server.Duplicates} duplicates");
        }
        catch (SocketException e)
        {
            await Console.Error.WriteLineAsync($"hpload: cannot listen on {options.Listen}: {e.Message}");
            return Output.Failed;
        }

        await Output.WriteAsync(json, report, text => Write(text, report));
        return Output.Done;
    }

    private static async Task<SinkReport> WaitAsync(SinkServer server, CancellationToken cancellation)
    {
        await server.WaitForEndAsync(cancellation);
        return server.Report();
    }

    private static void Write(StreamWriter file, ReceivedMessage message)
    {
        lock (file)
        {
            file.WriteLine(FormattableString.Invariant(
                $"{message.Mark?.Id ?? "-"} {message.Size} {(message.Mark is null ? "-" : Convert.ToHexStringLower(message.Sha256))}"));
        }
    }

    private static void Write(TextWriter text, SinkReport report)
    {
        text.WriteLine(FormattableString.Invariant(
            $"{report.Delivered} received in {report.Seconds} s = {report.DeliveredPerSecond}/s, {report.Duplicates} duplicates, {report.Unmarked} without a mark, {report.Rejected} refusals, {report.Deferred} deferrals, {report.Connections} connections"));
        text.WriteLine("end to end " + Output.Of(report.LatencyMs));
    }
}
