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
            _ => notify.HasFlag(NotifyConditions.Success),
        };
    }
}
