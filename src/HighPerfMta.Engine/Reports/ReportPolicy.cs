using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Reports;

/// <summary>Of what the sender is told.</summary>
public static class ReportPolicy
{
    /// <summary>
    /// Whether the sender wants to be told (NOTIFY, RFC 3461 §5.2.2 to §5.2.6). One who does not say is told of failures and delays. The null sender is never told (RFC 5321 §6.1).
    /// </summary>
    /// <param name="kind">Of what.</param>
    /// <param name="envelope">Of the message.</param>
    /// <param name="recipient">Index of the recipient.</param>
    public static bool IsWanted(ReportKind kind, Envelope envelope, int recipient)
    {
        ArgumentNullException.ThrowIfNull(envelope);
        if (envelope.Sender is null)
        {
            return false;
        }

        NotifyConditions notify = envelope.Parameters?.Of(recipient)?.Notify ?? NotifyConditions.Unsaid;
        return kind switch
        {
            ReportKind.Failure => notify == NotifyConditions.Unsaid || notify.HasFlag(NotifyConditions.Failure),
            ReportKind.Delay => notify == NotifyConditions.Unsaid || notify.HasFlag(NotifyConditions.Delay),
            ReportKind.Relayed when envelope.Parameters?.DeliverBy is { Trace: true } => notify != NotifyConditions.Never,
            _ => notify.HasFlag(NotifyConditions.Success),
        };
    }

    /// <summary>
    /// Whether the sender is told of a relay: who wants to hear of success, when the next hop will not tell (RFC 3461 §5.2.2), and who wants a trace, always (RFC 2852 §3).
    /// </summary>
    /// <param name="envelope">Of the message.</param>
    /// <param name="recipient">Index of the recipient.</param>
    /// <param name="passesDsn">The next hop knows DSN.</param>
    public static bool IsRelayTold(Envelope envelope, int recipient, bool passesDsn)
    {
        ArgumentNullException.ThrowIfNull(envelope);
        return envelope.Parameters is not null && IsWanted(ReportKind.Relayed, envelope, recipient) && (!passesDsn || envelope.Parameters.DeliverBy is { Trace: true });
    }
}
