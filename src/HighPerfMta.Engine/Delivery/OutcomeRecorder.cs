using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Turns outcomes into recipient states and events. Safe for concurrent use.</summary>
internal sealed class OutcomeRecorder(IEventLog events)
{
    private static readonly EnhancedCode Ok = new(2, 0, 0);

    /// <summary>The state after a delivery; it overrides a hold that came while the transaction was under way.</summary>
    public static RecipientState Delivered(RecipientState before, DeliveryOutcome outcome, DateTimeOffset now) =>
        new(RecipientStatus.Delivered, before.Attempts + 1, now, outcome, before.DelayNoticeSent);

    public static RecipientState Deferred(RecipientState before, DeliveryOutcome outcome, DateTimeOffset due) =>
        new(RecipientStatus.Pending, before.Attempts + 1, due, outcome, before.DelayNoticeSent);

    public void Write(MailEventKind kind, QueuedMessage message, int recipient, string? site, DeliveryOutcome? outcome, int attempt, DateTimeOffset now)
    {
        Envelope envelope = message.Envelope;
        events.Write(new MailEvent
        {
            Time = now,
            Kind = kind,
            Id = envelope.Id,
            Sender = envelope.Sender?.ToString() ?? "",
            Recipient = envelope.Recipients[recipient].ToString(),
            Site = site,
            Peer = NullIfEmpty(outcome?.Peer),
            Tls = NullIfEmpty(outcome?.Tls),
            Attempt = attempt,
            Code = outcome is null or { Code: 0 } ? null : outcome.Code,
            Enhanced = outcome is null || outcome.Enhanced.IsNone ? null : outcome.Enhanced == Ok ? "2.0.0" : outcome.Enhanced.ToString(),
            Reply = outcome?.Text,
            Size = message.Size,
            QueuedSeconds = (now - envelope.ReceivedAt).TotalSeconds,
            Stage = outcome is null ? null : StageName(outcome.Stage),
        });
    }

    /// <summary>An event of a job whose envelope cannot be read: what its entry says, and no recipient.</summary>
    public void WriteUnread(MailEventKind kind, IMailQueue queue, int slot, string? site, DeliveryOutcome outcome, DateTimeOffset now)
    {
        if (!queue.Jobs.TryRead(slot, out Job job))
        {
            return;
        }

        events.Write(new MailEvent
        {
            Time = now,
            Kind = kind,
            Id = job.MessageId,
            Sender = job.Sender > 0 ? queue.Names.Senders.Get(job.Sender) : job.Sender == 0 ? "" : null,
            Site = site,
            Attempt = job.Attempts,
            Enhanced = outcome.Enhanced.ToString(),
            Reply = outcome.Text,
            Size = job.Size,
            QueuedSeconds = TimeSpan.FromTicks(now.UtcTicks - job.ReceivedAt).TotalSeconds,
            Stage = StageName(outcome.Stage),
        });
    }

    private static string? NullIfEmpty(string? text) => text is null or "" ? null : text;

    private static string StageName(DeliveryStage stage) => stage switch
    {
        DeliveryStage.Routing => "routing",
        DeliveryStage.Dns => "dns",
        DeliveryStage.Connect => "connect",
        DeliveryStage.Greeting => "greeting",
        DeliveryStage.Hello => "hello",
        DeliveryStage.Tls => "tls",
        DeliveryStage.MailFrom => "mail",
        DeliveryStage.RcptTo => "rcpt",
        DeliveryStage.Data => "data",
        DeliveryStage.Body => "body",
        DeliveryStage.FinalDot => "final-dot",
        DeliveryStage.Expiry => "expiry",
        _ => "operator",
    };
}
