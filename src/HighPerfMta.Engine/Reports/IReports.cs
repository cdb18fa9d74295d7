using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Reports;

public enum ReportKind
{
    Failure, Delay,

    /// <summary>Handed over to a mail system that does not know DSN: more will not be heard.</summary>
    Relayed,

    /// <summary>At its end.</summary>
    Delivered,
}

/// <summary>Composes delivery status notifications (RFC 3464) and puts them into the queue through Intake.</summary>
public interface IReports
{
    /// <summary>
    /// Makes one DSN for those of the recipients given of whom the sender wants to be told (RFC 3461 §4.1), durable on return. No DSN is made when there are none, or for a null sender
    /// (RFC 5321 §6.1): returns false then.
    /// </summary>
    /// <exception cref="Queue.Log.LogUnavailableException">The report could not be stored: keep the recipients open and try again.</exception>
    ValueTask<bool> SendAsync(ReportKind kind, QueuedMessage message, IReadOnlyList<(int Recipient, DeliveryOutcome Outcome)> recipients, CancellationToken cancellation);
}
