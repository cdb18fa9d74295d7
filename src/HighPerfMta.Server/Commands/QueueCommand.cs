using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta queue list|count|show|retry|hold|release|drop|bounce|route</c>.</summary>
internal static class QueueCommand
{
    /// <summary>Messages in a table on a terminal; a pipe gets them all.</summary>
    private const int TableLimit = 1000;

    private static readonly string[] ListHeads = ["id", "age", "size", "sender", "recipient", "state", "attempts", "due", "last reply"];

    public static Command Create(Target target, Output output)
    {
        Command command = new("queue", "see and steer what is queued")
        {
            CreateList(target, output), CreateCount(target, output), CreateShow(target, output),
            CreateAction("retry", "try again now what waits for its next attempt", target, output),
            CreateAction("hold", "keep from being delivered until released", target, output),
            CreateAction("release", "let held mail go on", target, output),
            CreateAction("drop", "remove without telling the sender", target, output),
            CreateAction("bounce", "return to the sender, with a report", target, output),
            CreateRoute(target, output),
        };
        return command;
    }

    private static Command CreateList(Target target, Output output)
    {
        FilterOptions filter = new();
        Option<bool> json = new("--json") { Description = "write a JSON array, one message a line" };
        Command command = new("list", "list messages, one line for each recipient that is not done") { json };
        AddAll(command, filter);
        command.SetAction(async (parsed, cancellation) =>
        {
            using ControlClient client = new(target.Load(parsed, output));
            FilterBody body = WithAll(filter.Read(parsed));
            if (parsed.GetValue(json))
            {
                await WriteJsonAsync(client.ListAsync(body, () => TellLoading(output), cancellation), output);
                return ExitCodes.Done;
            }

            bool cut = output.IsTerminal && body.Limit is null;
            List<string[]> rows = [];
            int messages = 0;
            await foreach (JsonObject message in client.ListAsync(cut ? body with { Limit = TableLimit + 1 } : body, () => TellLoading(output), cancellation))
            {
                if (cut && ++messages > TableLimit)
                {
                    output.Error($"only {TableLimit} messages are shown; give --limit, or a filter");
                    break;
                }

                rows.AddRange(RowsOf(message));
            }

            output.Table(ListHeads, rows);
            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateCount(Target target, Output output)
    {
        FilterOptions filter = new();
        Option<string?> by = new("--by") { Description = "group by domain, site, state or reason", HelpName = "KEY" };
        Option<bool> json = new("--json") { Description = "write JSON" };
        Command command = new("count", "count messages, recipients and bytes") { by, json };
        AddAll(command, filter);
        command.SetAction(async (parsed, cancellation) =>
        {
            using ControlClient client = new(target.Load(parsed, output));
            string? group = parsed.GetValue(by);
            JsonObject totals = await client.PostAsync(ControlApi.CountPath, new CountBody(WithAll(filter.Read(parsed)), group), ControlJson.Default.CountBody, cancellation);
            TellIncomplete(totals, output);
            if (parsed.GetValue(json))
            {
                output.Json(totals);
                return ExitCodes.Done;
            }

            IEnumerable<JsonObject> rows = ((JsonArray?)totals["groups"])?.OfType<JsonObject>() ?? [];
            output.Table(
                [group ?? "", "messages", "recipients", "bytes"],
                [.. rows.Select(r => CountRow(Shown(r[group!]), r)), CountRow("total", totals)]);
            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateShow(Target target, Output output)
    {
        Argument<string> id = new("ID") { Description = "the queue id" };
        Option<bool> json = new("--json") { Description = "write JSON" };
        Option<bool> headers = new("--headers") { Description = "write the message's header" };
        Option<bool> raw = new("--raw") { Description = "write the whole message, octet for octet" };
        Command command = new("show", "show a message: envelope, state of each recipient, and every attempt with its reply") { id, json, headers, raw };
        command.SetAction(async (parsed, cancellation) =>
        {
            ServerConfiguration configuration = target.Load(parsed, output);
            using ControlClient client = new(configuration);
            string wanted = parsed.GetRequiredValue(id);
            if (parsed.GetValue(raw))
            {
                await using Stream stdout = Console.OpenStandardOutput();
                await client.CopyRawAsync(wanted, stdout, cancellation);
                return ExitCodes.Done;
            }

            if (parsed.GetValue(headers))
            {
                await using HeaderOnly header = new(output);
                await client.CopyRawAsync(wanted, header, cancellation);
                return ExitCodes.Done;
            }

            JsonObject message = await client.GetAsync(ControlClient.MessagePath(wanted), cancellation);
            List<JsonObject> events = await TraceCommand.EventsAsync(configuration, client, wanted, cancellation);
            FinishedRecipients.Complete(message, events);
            message["events"] = new JsonArray([.. events]);
            if (parsed.GetValue(json))
            {
                output.Json(message);
            }
            else
            {
                Write(message, output);
            }

            return ExitCodes.Done;
        });
        return command;
    }

    private static Command CreateRoute(Target target, Output output)
    {
        Option<string> to = new("--to") { Description = "the next hop as routes have it: mx, smtp://HOST:PORT, smtps://HOST:PORT, discard, hold or reject; ?tls=LEVEL behind the first three", HelpName = "NEXTHOP", Required = true };
        Command command = CreateAction("route", "send to another next hop, now and at every retry", target, output, to);
        return command;
    }

    private static Command CreateAction(string name, string description, Target target, Output output, Option<string>? to = null)
    {
        FilterOptions filter = new();
        Option<bool> all = new("--all") { Description = "everything in the queue" };
        Option<bool> dryRun = new("--dry-run") { Description = "only count" };
        Option<bool> json = new("--json") { Description = "write JSON" };
        Command command = new(name, description) { all, dryRun, json };
        if (to is not null)
        {
            command.Add(to);
        }

        AddAll(command, filter);
        command.SetAction(async (parsed, cancellation) =>
        {
            FilterBody body = filter.Read(parsed) with { All = parsed.GetValue(all) };
            if (FilterOptions.IsEmpty(body) && !body.All)
            {
                throw new CommandFailedException($"this would {name} the whole queue; give a filter, or --all if that is meant", ExitCodes.Usage);
            }

            using ControlClient client = new(target.Load(parsed, output));
            ActBody act = new(name, body, parsed.GetValue(dryRun), to is null ? null : parsed.GetValue(to));
            JsonObject result = await client.PostAsync(ControlApi.ActPath, act, ControlJson.Default.ActBody, cancellation);
            TellIncomplete(result, output);
            if (parsed.GetValue(json))
            {
                output.Json(result);
            }
            else
            {
                output.Line($"{name}: {Shown(result["messages"])} messages, {Shown(result["recipients"])} recipients{(act.DryRun ? " would be touched" : "")}");
            }

            return body.Ids.Count > 0 && result["messages"]?.GetValue<int>() == 0 ? ExitCodes.Failed : ExitCodes.Done;
        });
        return command;
    }

    private static void TellLoading(Output output) => output.Error("the queue of before the start is still being read; this is not all of it");

    private static void TellIncomplete(JsonObject answer, Output output)
    {
        if (answer["loading"] is not null)
        {
            TellLoading(output);
        }

        if (answer["unreadable"] is { } unreadable)
        {
            output.Error($"{Shown(unreadable)} jobs are left out: their records cannot be read, and the filter asks what only those say");
        }
    }

    private static void AddAll(Command command, FilterOptions filter)
    {
        foreach (Option option in filter.All)
        {
            command.Add(option);
        }
    }

    private static FilterBody WithAll(FilterBody filter) => FilterOptions.IsEmpty(filter) ? filter with { All = true } : filter;

    private static async Task WriteJsonAsync(IAsyncEnumerable<JsonObject> messages, Output output)
    {
        await output.Out.WriteAsync('[');
        string between = "\n";
        await foreach (JsonObject message in messages)
        {
            await output.Out.WriteAsync(between + message.ToJsonString());
            between = ",\n";
        }

        await output.Out.WriteLineAsync("\n]");
    }

    private static IEnumerable<string[]> RowsOf(JsonObject message) => ((JsonArray)message["recipients"]!).OfType<JsonObject>().Select(recipient => (string[])
    [
        Shown(message["id"]), Age(message), Units.FormatSizeShort(message["size"]!.GetValue<long>()), SenderOf(message), AddressOf(recipient),
        Shown(recipient["state"]), Shown(recipient["attempts"]), DueIn(recipient), ReplyOf(message, recipient),
    ]);

    // Without its record a job knows how many recipients it has, and their domain if they are all in one.
    private static string AddressOf(JsonObject recipient) =>
        recipient["address"]?.ToString() ?? $"({Shown(recipient["count"])} unknown{(recipient["domain"] is { } domain ? $" at {domain}" : "")})";

    private static string ReplyOf(JsonObject message, JsonObject recipient) =>
        recipient["address"] is null ? $"record unreadable: {Shown(message["unreadable"])}" : Shown(recipient["reply"]);

    private static string[] CountRow(string name, JsonObject sums) => [name, Shown(sums["messages"]), Shown(sums["recipients"]), Shown(sums["bytes"])];

    private static void Write(JsonObject message, Output output)
    {
        output.Fields(
        [
            ("id", Shown(message["id"])), ("sender", SenderOf(message)), ("received", Shown(message["received"])), ("age", Age(message)),
            ("size", Shown(message["size"])), ("client", Shown(message["client"])), ("helo", Shown(message["helo"])), ("body", Shown(message["body"])), .. EnvelopeWords.OfMessage(message), ("unreadable", Shown(message["unreadable"])),
        ]);
        foreach (JsonObject recipient in ((JsonArray)message["recipients"]!).OfType<JsonObject>())
        {
            output.Out.WriteLine();
            output.Fields(
            [
                ("recipient", AddressOf(recipient)), ("state", Shown(recipient["state"])), ("attempts", Shown(recipient["attempts"])), ("due", Shown(recipient["due"])),
                ("site", Shown(recipient["site"])), ("last reply", Shown(recipient["reply"])), ("stage", Shown(recipient["stage"])), ("peer", Shown(recipient["peer"])),
                .. EnvelopeWords.OfRecipient(recipient),
            ]);
        }

        WriteEvents(message, output);
    }

    private static void WriteEvents(JsonObject message, Output output)
    {
        if (message["events"] is JsonArray { Count: > 0 } events)
        {
            output.Out.WriteLine();
            output.Table(TraceCommand.Heads, events.OfType<JsonObject>().Select(TraceCommand.RowOf));
        }
    }

    private static string SenderOf(JsonObject message) => Shown(message["sender"]) is { Length: > 0 } sender ? sender : "<>";

    private static string Age(JsonObject message) => Units.FormatShort(TimeSpan.FromSeconds(message["age"]!.GetValue<double>()));

    private static string DueIn(JsonObject recipient)
    {
        if (!DateTimeOffset.TryParse(Shown(recipient["due"]), CultureInfo.InvariantCulture, out DateTimeOffset due))
        {
            return "";
        }

        TimeSpan wait = due - TimeProvider.System.GetUtcNow();
        return wait <= TimeSpan.Zero ? "now" : "in " + Units.FormatShort(wait);
    }

    private static string Shown(JsonNode? value) => value?.ToString() ?? "";
}
