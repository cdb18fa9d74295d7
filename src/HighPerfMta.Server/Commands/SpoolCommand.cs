using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Control;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Queue.Offline;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta spool verify|export|stats</c>: work on the data directory of a stopped server. Nothing in it is ever written.</summary>
internal static class SpoolCommand
{
    private static readonly string[] FindingHeads = ["severity", "about", "file", "offset", "address", "end", "record", "message", "what"];

    public static Command Create(Target target, Output output) => new("spool", "verify, export and measure the data directory of a stopped server, without writing to it")
    {
        CreateVerify(target, output), new SpoolExport(target, output).Create(), CreateStatistics(target, output),
    };

    /// <exception cref="CommandFailedException">A server may have changed what was read.</exception>
    public static void RefuseIfUsed(OfflineDirectory directory)
    {
        if (directory.WasUsedMeanwhile)
        {
            throw new CommandFailedException($"a server was started on {directory.Root} meanwhile: what was read may be wrong; stop it and run this again");
        }
    }

    private static Command CreateVerify(Target target, Output output)
    {
        Option<bool> json = new("--json") { Description = "write JSON" };
        Command command = new("verify", "read every record and tell what is damaged, and which messages it hits; exit 1 if anything is") { json };
        command.SetAction(async (parsed, cancellation) =>
        {
            ServerConfiguration configuration = target.Load(parsed, output);
            using OfflineDirectory directory = OfflineDirectory.Open(configuration.DataDirectory);
            SpoolReport report = await SpoolVerifier.RunAsync(directory, TimeProvider.System, cancellation);
            RefuseIfUsed(directory);
            if (parsed.GetValue(json))
            {
                output.Json(ToJson(directory, report));
            }
            else
            {
                Write(report, output);
            }

            return report.Damage == 0 ? ExitCodes.Done : ExitCodes.Failed;
        });
        return command;
    }

    private static void Write(SpoolReport report, Output output)
    {
        if (report.Findings.Count > 0)
        {
            output.Table(FindingHeads, report.Findings.Select(RowOf));
            output.Out.WriteLine();
        }

        if (report.Damage + report.Notes > report.Findings.Count)
        {
            output.Error($"only {report.Findings.Count} findings are shown");
        }

        output.Fields(
        [
            ("log", report.Sizes is { } sizes ? $"address {sizes.Begin} to {sizes.Tail}, {sizes.Segments} segments" : null),
            ("records", string.Join(", ", report.Records.ByType().Select(static t => $"{t.Records} {t.Type}"))),
            ("queue", report.Sizes is null ? null : $"{report.Messages} messages, {report.Jobs} jobs"),
            ("notes", report.Notes.ToString(CultureInfo.InvariantCulture)),
            ("damage", report.Damage.ToString(CultureInfo.InvariantCulture)),
            ("messages hit", string.Join(' ', report.Hit)),
        ]);
    }

    private static string[] RowOf(SpoolFinding finding) =>
    [
        finding.Severity.ToString().ToLowerInvariant(), finding.Subject.ToString().ToLowerInvariant(), Path.GetFileName(finding.File) ?? "", Shown(finding.Offset), Shown(finding.Address), Shown(finding.End),
        finding.Type?.ToString() ?? "", finding.Message?.ToString() ?? "", finding.Text,
    ];

    private static string Shown(long? number) => number?.ToString(CultureInfo.InvariantCulture) ?? "";

    private static JsonObject ToJson(OfflineDirectory directory, SpoolReport report) => new()
    {
        ["data_dir"] = directory.Root,
        ["damage"] = report.Damage,
        ["notes"] = report.Notes,
        ["messages"] = report.Messages,
        ["jobs"] = report.Jobs,
        ["begin"] = report.Sizes?.Begin,
        ["tail"] = report.Sizes?.Tail,
        ["segments"] = report.Sizes?.Segments,
        ["records"] = new JsonArray([.. report.Records.ByType().Select(static t => new JsonObject { ["type"] = t.Type.ToString(), ["records"] = t.Records, ["bytes"] = t.Bytes })]),
        ["messages_hit"] = new JsonArray([.. report.Hit.Select(static id => (JsonNode)id.ToString())]),
        ["findings"] = new JsonArray([.. report.Findings.Select(static f => new JsonObject
        {
            ["severity"] = f.Severity.ToString().ToLowerInvariant(),
            ["about"] = f.Subject.ToString().ToLowerInvariant(),
            ["file"] = f.File,
            ["offset"] = f.Offset,
            ["address"] = f.Address,
            ["end"] = f.End,
            ["record"] = f.Type?.ToString(),
            ["message"] = f.Message?.ToString(),
            ["what"] = f.Text,
        })]),
    };

    private static Command CreateStatistics(Target target, Output output)
    {
        Option<bool> json = new("--json") { Description = "write JSON" };
        Option<int> top = new("--top") { Description = "domains and sites that are told", HelpName = "N", DefaultValueFactory = static _ => 20 };
        top.Validators.Add(static result =>
        {
            if (result.Tokens.Count > 0 && (!int.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) || number < 1))
            {
                result.AddError($"--top: \"{result.Tokens[0].Value}\" is not allowed; write a number from 1");
            }
        });
        Command command = new("stats", "measure the log and what is queued: records by type, messages by state, age and size, the largest domains and sites") { json, top };
        command.SetAction(async (parsed, cancellation) =>
        {
            ServerConfiguration configuration = target.Load(parsed, output);
            using OfflineDirectory directory = OfflineDirectory.Open(configuration.DataDirectory);
            await using SpoolQueue queue = await SpoolQueue.OpenAsync(
                directory, OfflineSource.Log, new RouteTable(configuration.ForRouting()), configuration.Retry.Expire, TimeProvider.System, cancellation);
            JsonObject told = await queue.StatisticsAsync(parsed.GetValue(top), cancellation);
            RefuseIfUsed(directory);
            AddCheckpointAge(told, directory);
            if (queue.Damage.Count > 0)
            {
                output.Error($"the log is damaged in {queue.Damage.Count} places, and what was there is not counted; see hpmta spool verify");
            }

            if (parsed.GetValue(json))
            {
                output.Json(told);
            }
            else
            {
                SpoolTables.Write(told, output);
            }

            return ExitCodes.Done;
        });
        return command;
    }

    private static void AddCheckpointAge(JsonObject told, OfflineDirectory directory)
    {
        string path = Path.Combine(directory.Folder, "checkpoint");
        TimeSpan age = TimeProvider.System.GetUtcNow() - File.GetLastWriteTimeUtc(path);
        told["checkpoint"]!["age"] = File.Exists(path) ? Math.Round(age.TotalSeconds, 3) : null;
    }
}
