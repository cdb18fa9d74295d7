using System.Globalization;
using System.Text.Json.Nodes;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Control;

/// <summary>Messages and recipients as the JSON of commands and HTTP.</summary>
internal static class MessageJson
{
    /// <summary>A reply as a line: code, enhanced code, text. Null when there was no attempt.</summary>
    public static string? ReplyOf(DeliveryOutcome? outcome)
    {
        if (outcome is null)
        {
            return null;
        }

        string enhanced = outcome.Enhanced.ToString();
        string text = outcome.Code == 0 ? outcome.Text : outcome.Code.ToString(CultureInfo.InvariantCulture) + " " + outcome.Text;
        return enhanced.Length == 0 || outcome.Text.StartsWith(enhanced, StringComparison.Ordinal)
            ? text
            : outcome.Code == 0 ? $"{enhanced} {outcome.Text}" : $"{outcome.Code.ToString(CultureInfo.InvariantCulture)} {enhanced} {outcome.Text}";
    }

    public static JsonObject Summary(QueuedMessage message, ReadOnlySpan<int> recipients, DateTimeOffset now)
    {
        JsonArray described = [];
        foreach (int index in recipients)
        {
            described.Add((JsonNode)Recipient(message, index));
        }

        Envelope envelope = message.Envelope;
        return new JsonObject
        {
            ["id"] = message.Id.ToString(),
            ["sender"] = envelope.Sender?.ToString() ?? "",
            ["recipients"] = described,
            ["size"] = message.Size,
            ["age"] = Seconds(now - envelope.ReceivedAt),
        };
    }

    /// <summary>All that is known of a message, final recipients included.</summary>
    public static JsonObject Details(QueuedMessage message, IDelivery delivery, DateTimeOffset now)
    {
        int[] all = [.. Enumerable.Range(0, message.RecipientCount)];
        JsonObject details = Summary(message, all, now);
        Envelope envelope = message.Envelope;
        details["received"] = Time(envelope.ReceivedAt);
        details["client"] = envelope.ClientAddress?.ToString();
        details["helo"] = envelope.HeloName;
        details["body"] = envelope.Body == BodyEncoding.EightBitMime ? "8bitmime" : "7bit";
        details["smtputf8"] = envelope.SmtpUtf8;
        for (int i = 0; i < all.Length; i++)
        {
            JsonObject recipient = (JsonObject)details["recipients"]![i]!;
            DeliveryOutcome? outcome = message.GetRecipient(i).LastOutcome;
            recipient["site"] = delivery.SiteOf(envelope.Recipients[i]);
            recipient["peer"] = outcome is null or { Peer: "" } ? null : outcome.Peer;
            recipient["tls"] = outcome is null or { Tls: "" } ? null : outcome.Tls;
            recipient["stage"] = outcome is null ? null : Outcomes.StageName(outcome.Stage);
            recipient["delay_notice_sent"] = message.GetRecipient(i).DelayNoticeSent;
        }

        return details;
    }

    public static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    public static double Seconds(TimeSpan span) => Math.Round(span.TotalSeconds, 3);

    private static JsonObject Recipient(QueuedMessage message, int index)
    {
        RecipientState state = message.GetRecipient(index);
        EmailAddress address = message.Envelope.Recipients[index];
        return new JsonObject
        {
            ["address"] = address.ToString(),
            ["state"] = QueueSelector.StateName(state.Status),
            ["attempts"] = state.Attempts,
            ["due"] = state.Status == RecipientStatus.Pending ? Time(state.DueAt) : null,
            ["reply"] = ReplyOf(state.LastOutcome),
        };
    }
}

/// <summary>Words for outcomes.</summary>
internal static class Outcomes
{
    /// <summary>The operator's word where a state needs an outcome: it came from a command, not from a peer.</summary>
    public static DeliveryOutcome Released { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Operator, FaultOwner.None, 0, EnhancedCode.None, "released by an operator");

    public static string StageName(DeliveryStage stage) => stage switch
    {
        DeliveryStage.MailFrom => "mail",
        DeliveryStage.RcptTo => "rcpt",
        DeliveryStage.FinalDot => "final-dot",
        _ => stage.ToString().ToLowerInvariant(),
    };
}
