using System.CommandLine;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Server.Configuration;
using HighPerfMta.Server.Hosting;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta trace ID</c>: needs the event log only, not a running server.</summary>
internal static class TraceCommand
{
    public static string[] Heads { get; } = ["time", "event", "recipient", "site", "attempt", "reply", "user"];

    public static Command Create(Target target, Output output)
    {
        Argument<string> id = new("ID") { Description = "the queue id, from the 250 reply or the Received field" };
        Option<bool> json = new("--json") { Description = "write a JSON array of the events" };
        Command command = new("trace", "tell the life of a message, also after it has left the queue") { id, json };
        command.SetAction(async (parsed, cancellation) =>
        {
            if (!MessageId.TryParse(parsed.GetRequiredValue(id), out MessageId wanted))
            {
                throw new CommandFailedException($"\"{parsed.GetRequiredValue(id)}\" is no queue id; it has {MessageId.TextLength} letters and digits", ExitCodes.Usage);
            }

            ServerConfiguration configuration = target.Load(parsed, output);
            using ControlClient client = new(configuration);
            List<JsonObject> events = await EventsAsync(configuration, client, wanted.ToString(), cancellation);
            if (parsed.GetValue(json))
            {
                output.Json(new JsonArray([.. events]));
            }
            else if (events.Count > 0)
            {
                output.Table(Heads, events.Select(RowOf));
            }

            if (events.Count == 0)
            {
                throw new CommandFailedException($"nothing is known of {wanted} in {configuration.ForEvents().Folder}; old events are removed, see [events] in the configuration");
            }

            return ExitCodes.Done;
        });
        return command;
    }

    /// <summary>The events of a message, those included that a running server has not written yet.</summary>
    public static async Task<List<JsonObject>> EventsAsync(ServerConfiguration configuration, ControlClient client, string id, CancellationToken cancellation)
    {
        List<JsonObject> events = [];
        if (MessageId.TryParse(id, out MessageId wanted))
        {
            await client.FlushEventsAsync(cancellation);
            await foreach (JsonObject found in EventLogReader.FindAsync(configuration.ForEvents().Folder, wanted, cancellation))
            {
                events.Add(found);
            }
        }

        return events;
    }

    public static string[] RowOf(JsonObject e)
    {
        string code = Shown(e, "code");
        string enhanced = Shown(e, "enhanced");
        string text = Shown(e, "reply");
        string reply = string.Join(' ', new[] { code, text.StartsWith(enhanced, StringComparison.Ordinal) ? "" : enhanced, text }.Where(static p => p.Length > 0));
        reply = reply.Length > 0 ? reply : EnvelopeWords.OfEvent(e);
        string recipient = Shown(e, "recipient");
        return
        [
            Shown(e, "time"), Shown(e, "event"), recipient.Length > 0 ? recipient : Shown(e, "sender"), Shown(e, "site"), Shown(e, "attempt"), reply, Shown(e, "user"),
        ];
    }

    private static string Shown(JsonObject e, string name) => e[name]?.ToString() ?? "";
}

/// <summary><c>hpmta route ADDRESS</c>.</summary>
internal static class RouteCommand
{
    public static Command Create(Target target, Output output)
    {
        Argument<string> address = new("ADDRESS") { Description = "a recipient's address" };
        Option<bool> json = new("--json") { Description = "write JSON" };
        Command command = new("route", "tell how an address would be delivered, without sending") { address, json };
        command.SetAction(async (parsed, cancellation) =>
        {
            using ControlClient client = new(target.Load(parsed, output));
            JsonObject answer = await client.GetAsync($"{ControlApi.RoutePath}?address={Uri.EscapeDataString(parsed.GetRequiredValue(address))}", cancellation);
            if (parsed.GetValue(json))
            {
                output.Json(answer);
                return ExitCodes.Done;
            }

            output.Fields(((string[])["address", "domain", "class", "route", "verdict", "reply", "site"]).Select(name => (name, answer[name]?.ToString())));
            if (answer["hosts"] is JsonArray hosts)
            {
                output.Table(["host", "preference", "port", "addresses"], hosts.OfType<JsonObject>().Select(static h => (string[])
                [
                    h["host"]!.ToString(), h["preference"]!.ToString(), h["port"]!.ToString(),
                    h["addresses"] is JsonArray { Count: > 0 } found ? string.Join(' ', found.Select(static a => a!.ToString())) : h["trouble"]?.ToString() ?? "none",
                ]));
            }

            return ExitCodes.Done;
        });
        return command;
    }
}

/// <summary><c>hpmta version</c>.</summary>
internal static class VersionCommand
{
    public static Command Create(Output output)
    {
        Command command = new("version", "tell the version");
        command.SetAction(_ =>
        {
            output.Line($"hpmta {typeof(VersionCommand).Assembly.GetName().Version?.ToString(3)} on {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.OSDescription}");
            return ExitCodes.Done;
        });
        return command;
    }
}
