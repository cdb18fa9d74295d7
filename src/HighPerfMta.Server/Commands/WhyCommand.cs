using System.CommandLine;
using System.Text.Json.Nodes;
using HighPerfMta.Server.Hosting;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Server.Commands;

/// <summary><c>hpmta why ID|ADDRESS|DOMAIN</c>.</summary>
internal static class WhyCommand
{
    public static Command Create(Target target, Output output)
    {
        Argument<string> subject = new("SUBJECT") { Description = "a queue id, a recipient's address, a domain, or .domain for its subdomains", HelpName = "ID|ADDRESS|DOMAIN" };
        Option<bool> json = new("--json") { Description = "write JSON" };
        Command command = new("why", "tell why mail is not moving: what it waits for, the limiting rule, when it is due next") { subject, json };
        command.SetAction(async (parsed, cancellation) =>
        {
            using ControlClient client = new(target.Load(parsed, output));
            JsonObject answer = await client.GetAsync($"{ControlApi.WhyPath}?of={Uri.EscapeDataString(parsed.GetRequiredValue(subject))}", cancellation);
            if (answer["loading"] is not null)
            {
                output.Error("the queue of before the start is still being read; this is not all of it");
            }

            if (parsed.GetValue(json))
            {
                output.Json(answer);
            }
            else
            {
                Write(answer, output);
            }

            return ExitCodes.Done;
        });
        return command;
    }

    private static void Write(JsonObject answer, Output output)
    {
        string states = string.Join(", ", ((JsonObject)answer["states"]!).Select(static s => $"{s.Value} {s.Key}"));
        output.Line($"{Shown(answer["kind"])} {Shown(answer["subject"])}: {Shown(answer["messages"])} messages, {Shown(answer["jobs"])} jobs{(states.Length > 0 ? ": " + states : "")}");
        if (answer["disk"] is { } disk)
        {
            output.Line(disk.ToString());
        }

        foreach (JsonObject site in ((JsonArray)answer["sites"]!).OfType<JsonObject>())
        {
            output.Out.WriteLine();
            output.Fields(
            [
                ("site", Shown(site["site"])), ("why", Shown(site["why"])), ("jobs", Shown(site["jobs"])),
                ("queued there", $"{Shown(site["waiting"])} waiting, {Shown(site["deferred"])} deferred, {Shown(site["in_flight"])} in flight"),
                ("connections", $"{Shown(site["connections"])}, at most {Shown(site["connection_limit"])}; of all sites {Shown(site["all_connections"])}"),
                ("rests until", Shown(site["back_off_until"])), ("last error", Shown(site["last_error"])), ("permits", HoldersOf(site)),
            ]);
        }

        JsonArray explained = (JsonArray)answer["explained"]!;
        foreach (JsonObject job in explained.OfType<JsonObject>())
        {
            output.Out.WriteLine();
            output.Fields(
            [
                ("id", Shown(job["id"])), ("why", Shown(job["why"])), ("until", Shown(job["until"])), ("state", $"{Shown(job["state"])}, {Shown(job["place"])}"),
                ("domain", Shown(job["domain"])), ("recipients", Shown(job["recipients"])), ("site", Shown(job["site"])), ("route", Shown(job["route"])),
                ("attempts", Shown(job["attempts"])), ("last reply", Shown(job["reply"])), ("due", Shown(job["due"])), ("expires", Shown(job["expires"])),
            ]);
        }

        if (answer["jobs"]!.GetValue<long>() > explained.Count && explained.Count > 0)
        {
            output.Out.WriteLine();
            output.Line($"the first {explained.Count} jobs are explained; hpmta queue list shows the others");
        }
    }

    private static string HoldersOf(JsonObject site) =>
        site["permit_holders"] is JsonArray holders ? "held by " + string.Join(", ", holders.Select(static h => $"{h!["site"]} ({h["connections"]})")) : "";

    private static string Shown(JsonNode? value) => value?.ToString() ?? "";
}
