using System.CommandLine;
using HighPerfMta.LoadGen.Trials;

namespace HighPerfMta.LoadGen.Commands;

/// <summary><c>hpload crash</c> and <c>hpload memory</c>: trials that start hpmta themselves; exit 1 when it does not keep its word.</summary>
internal static class TrialCommands
{
    public static Command CreateCrash()
    {
        var program = Program();
        var rounds = Arguments.Number("--rounds", "kills", 50, 1, 100_000);
        var seed = Arguments.Number("--seed", "seed of the moments; 0: a new one", 0, 0, int.MaxValue);
        var connections = Arguments.Number("--connections", "connections of the source", 16, 1, 1000);
        var mix = Arguments.Sizes("--mix", "sizes of the messages");
        var deferred = Arguments.Number("--deferred", "percent of the recipients that the next hop defers up to 30 times before it takes them", 10, 0, 100);
        var extra = Extra();
        var keep = new Option<string>("--directory") { Description = "keep configuration, data and log here (default: a temporary one)" };
        var json = Arguments.Json();
        var command = new Command("crash", "kill -9 a loaded hpmta at random moments; every acknowledged message must arrive byte-exact")
        {
            program, rounds, seed, connections, mix, deferred, extra, keep, json,
        };
        command.SetAction(async (arguments, cancellation) =>
        {
            var chosen = arguments.GetValue(seed) is > 0 and var given ? given : Random.Shared.Next(1, int.MaxValue);
            await Console.Error.WriteLineAsync($"hpload: seed {chosen}");
            return await InDirectoryAsync(arguments.GetValue(keep), async directory =>
            {
                var options = new CrashOptions(
                    arguments.GetValue(program)!, directory, arguments.GetValue(rounds), chosen, arguments.GetValue(connections), arguments.GetValue(mix)!,
                    arguments.GetValue(deferred) / 100.0, arguments.GetValue(extra) ?? "");
                var report = await new CrashTrial(options, Console.Error.WriteLine).RunAsync(cancellation);
                await Output.WriteAsync(arguments.GetValue(json), report, text => Write(text, report));
                return report.Passed;
            });
        });
        return command;
    }

    public static Command CreateMemory()
    {
        var program = Program();
        var size = new Option<string>("--size") { Description = "size of the huge message", DefaultValueFactory = _ => "1GiB" };
        var limit = Arguments.Number("--limit-mib", "growth of resident memory that is allowed", 32, 1, 1 << 20);
        var extra = Extra();
        var json = Arguments.Json();
        var command = new Command("memory", "send one huge message through hpmta and watch its resident memory") { program, size, limit, extra, json };
        command.SetAction((arguments, cancellation) => InDirectoryAsync(null, async directory =>
        {
            var report = await MemoryTrial.RunAsync(
                arguments.GetValue(program)!, directory, arguments.GetValue(size)!, arguments.GetValue(extra) ?? "", cancellation);
            await Output.WriteAsync(arguments.GetValue(json), report, text => text.WriteLine(FormattableString.Invariant(
                $"{report.MessageSize >> 20} MiB message in {report.Seconds} s, {(report.Arrived ? "arrived" : "NOT arrived")}: resident {report.BeforeBytes >> 20} MiB before, {report.PeakBytes >> 20} MiB at most, growth {report.GrowthBytes / 1048576d:F1} MiB")));
            return report.Arrived && report.GrowthBytes <= arguments.GetValue(limit) * 1048576L;
        }));
        return command;
    }

    private static Option<string> Program() => new("--hpmta") { Description = "the server: an executable or hpmta.dll", Required = true };

    private static Option<string> Extra() => new("--toml") { Description = "more configuration, put after the generated one" };

    private static async Task<int> InDirectoryAsync(string? wanted, Func<string, Task<bool>> trial)
    {
        var directory = wanted is null ? Directory.CreateTempSubdirectory("hpload-").FullName : Path.GetFullPath(wanted);
        try
        {
            var passed = await trial(directory);
            if (wanted is null && passed)
            {
                Directory.Delete(directory, recursive: true);
            }
            else if (!passed)
            {
                await Console.Error.WriteLineAsync($"hpload: failed; data and log are in {directory}");
            }

            return passed ? Output.Done : Output.Failed;
        }
        catch (InvalidOperationException e)
        {
            await Console.Error.WriteLineAsync("hpload: " + e.Message);
            return Output.Failed;
        }
    }

    private static void Write(TextWriter text, CrashReport report)
    {
        text.WriteLine(FormattableString.Invariant($"{report.Rounds} rounds in {report.Seconds} s, seed {report.Seed}"));
        text.WriteLine(FormattableString.Invariant($"acknowledged {report.Acknowledged}, arrived {report.Arrived}, lost {report.Lost}, changed {report.Changed}"));
        text.WriteLine(FormattableString.Invariant(
            $"duplicates {report.Duplicates} (worst kill {report.DuplicatesOfWorstKill}, with no kill to excuse them {report.Unexcused}), arrived without an acknowledgement {report.Unconfirmed}"));
        text.WriteLine(FormattableString.Invariant($"messages that compaction moved {report.Moved}, checkpoints {report.Checkpoints}"));
        text.WriteLine(report.Passed ? "PASSED" : "FAILED");
    }
}
