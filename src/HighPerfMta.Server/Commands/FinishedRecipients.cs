using System.Text.Json.Nodes;

namespace HighPerfMta.Server.Commands;

/// <summary>Recipients of a queued message who are done: the queue has forgotten them, the event log has not.</summary>
internal static class FinishedRecipients
{
    /// <summary>Says of each recipient that is "done" what became of him; what the event log does not know any more stays "done".</summary>
    /// <param name="message">As shown by the server.</param>
    /// <param name="events">Its events, in order.</param>
    public static void Complete(JsonObject message, IReadOnlyList<JsonObject> events)
    {
        foreach (JsonObject recipient in ((JsonArray)message["recipients"]!).OfType<JsonObject>())
        {
            if (recipient["state"]?.ToString() == "done" && EndOf(recipient["address"]?.ToString(), events) is { } end)
            {
                Complete(recipient, end);
            }
        }
    }

    private static JsonObject? EndOf(string? address, IReadOnlyList<JsonObject> events)
    {
        for (int i = events.Count - 1; i >= 0; i--)
        {
            if (events[i]["recipient"]?.ToString() == address && StateAfter(events[i]) is not null)
            {
                return events[i];
            }
        }

        return null;
    }

    private static string? StateAfter(JsonObject e) => e["event"]?.ToString() switch
    {
        "delivered" => "delivered",
        "bounced" or "expired" => "failed",
        "dropped" => "dropped",
        _ => null,
    };

    private static void Complete(JsonObject recipient, JsonObject end)
    {
        recipient["state"] = StateAfter(end);
        recipient["attempts"] = end["attempt"]?.DeepClone();
        string[] reply = [end["code"]?.ToString() ?? "", end["enhanced"]?.ToString() ?? "", end["reply"]?.ToString() ?? ""];
        if (reply[2].StartsWith(reply[1], StringComparison.Ordinal))
        {
            reply[1] = "";
        }

        string line = string.Join(' ', reply.Where(static p => p.Length > 0 && p != "0"));
        recipient["reply"] = line.Length == 0 ? null : line;
        foreach (string name in (string[])["site", "peer", "tls", "stage"])
        {
            recipient[name] = end[name]?.DeepClone();
        }
    }
}
