using System.Text.Json.Nodes;
using HighPerfMta.Server.Commands;

namespace HighPerfMta.Tests.Server;

public class FinishedRecipientsTests
{
    [Fact]
    public void The_last_end_of_each_recipient_is_told()
    {
        JsonObject message = Parse("""
            {"recipients": [
              {"address": "open@a.example", "state": "pending", "attempts": 1},
              {"address": "got@a.example", "state": "done"}, {"address": "no@a.example", "state": "done"}, {"address": "old@a.example", "state": "done"},
              {"address": null, "domain": "a.example", "count": 3, "state": "pending"}]}
            """);
        FinishedRecipients.Complete(message,
        [
            Parse("""{"event": "accepted", "recipient": "got@a.example"}"""),
            Parse("""{"event": "deferred", "recipient": "got@a.example", "attempt": 1, "code": 450, "reply": "later"}"""),
            Parse("""{"event": "delivered", "recipient": "got@a.example", "attempt": 2, "code": 250, "enhanced": "2.0.0", "reply": "ok", "site": "mx:a", "peer": "mx.a"}"""),
            Parse("""{"event": "bounced", "recipient": "no@a.example", "attempt": 1, "code": 550, "enhanced": "5.1.1", "reply": "5.1.1 no such user"}"""),
            Parse("""{"event": "accepted", "recipient": "old@a.example"}"""), Parse("""{"event": "events_lost", "count": 1}"""),
        ]);
        Assert.Equal(
            ["pending 1  ", "delivered 2 250 2.0.0 ok mx:a", "failed 1 550 5.1.1 no such user ", "done   ", "pending   "],
            ((JsonArray)message["recipients"]!).Select(static r => $"{r!["state"]} {r["attempts"]} {r["reply"]} {r["site"]}"));
    }

    private static JsonObject Parse(string json) => (JsonObject)JsonNode.Parse(json)!;
}
