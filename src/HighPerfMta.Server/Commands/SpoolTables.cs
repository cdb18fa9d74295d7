using System.Text.Json.Nodes;
using HighPerfMta.Server.Configuration;

namespace HighPerfMta.Server.Commands;

/// <summary>The measures of <c>hpmta spool stats</c> for people.</summary>
internal static class SpoolTables
{
    public static void Write(JsonObject told, Output output)
    {
        JsonNode log = told["log"]!;
        JsonNode checkpoint = told["checkpoint"]!;
        JsonNode queue = told["queue"]!;
        output.Fields(
        [
            ("log", $"address {log["begin"]} to {log["tail"]}"),
            ("log size", $"{Size(log["bytes"])}: {Size(log["live_bytes"])} live, {Size(log["dead_bytes"])} dead"),
            ("segments", $"{log["segments"]} of {Size(log["segment_bytes"])}, and {log["spare_segments"]} spare"),
            ("checkpoint", CheckpointLine(checkpoint)),
            ("queue", $"{queue["messages"]} messages, {queue["jobs"]} jobs, {queue["recipients"]} recipients"),
            ("octets", $"{Size(queue["bytes"])}, the largest message {Size(queue["largest"])}"),
            ("oldest", queue["oldest"]?.ToString()),
            ("newest", queue["newest"]?.ToString()),
        ]);
        Table(told, "records", ["type", "records", "bytes"], output);
        Table(told, "states", ["state", "messages", "jobs", "recipients", "bytes"], output);
        Table(told, "ages", ["below", "messages"], output, "age");
        Table(told, "sizes", ["below", "messages"], output, "size");
        Table(told, "domains", ["domain", "messages", "recipients", "bytes"], output);
        Table(told, "sites", ["site", "messages", "recipients", "bytes"], output);
    }

    private static string CheckpointLine(JsonNode checkpoint)
    {
        string age = checkpoint["age"] is { } seconds ? $", {Units.FormatShort(TimeSpan.FromSeconds(Math.Max(0, seconds.GetValue<double>())))} old" : "";
        return checkpoint["address"] is { } address
            ? $"address {address}{age}; a start reads {Size(checkpoint["behind_bytes"])} of the log"
            : $"none that can be used; a start reads the whole log ({Size(checkpoint["behind_bytes"])})";
    }

    private static void Table(JsonObject told, string name, string[] columns, Output output, string? below = null)
    {
        JsonArray rows = (JsonArray)told[name]!;
        if (rows.Count > 0)
        {
            output.Out.WriteLine();
            string[] heads = below is null ? columns : [$"{below} below", .. columns[1..]];
            output.Table(heads, rows.OfType<JsonObject>().Select(row => Array.ConvertAll(columns, c => row[c]?.ToString() ?? (c == "below" ? "more" : ""))));
        }
    }

    private static string Size(JsonNode? bytes) => Units.FormatSizeShort(bytes!.GetValue<long>());
}
