using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Protocol.Reports;

/// <summary>What went wrong, in words for the person who sent the message.</summary>
internal static class Explanations
{
    /// <summary>One or two sentences.</summary>
    public static string Describe(DeliveryOutcome outcome)
    {
        if (outcome is { Stage: DeliveryStage.Expiry, Status: DeliveryStatus.Deferred })
        {
            return "The time by which you wanted the message delivered is over.";
        }

        if (outcome is { Stage: DeliveryStage.Expiry, Enhanced.Class: 5 })
        {
            return "The message could not be delivered by the time that you gave, and it is returned as you asked.";
        }

        if (outcome.Stage == DeliveryStage.Expiry)
        {
            return "The message waited too long: every attempt to deliver it failed for the time being, and the time allowed is over.";
        }

        if (outcome.Stage == DeliveryStage.Operator)
        {
            return "An operator of this mail system returned the message.";
        }

        return (outcome.Stage == DeliveryStage.Tls ? null : ForStatus(outcome.Enhanced)) ?? ForStage(outcome);
    }

    /// <summary>The Status field: class 5 for a failure, 4 for a delay and 2 for success, whatever the class of the last reply (RFC 3464 §2.3.4).</summary>
    public static EnhancedCode StatusFor(DeliveryOutcome outcome, ReportAction action)
    {
        byte @class = (byte)(action switch { ReportAction.Failed => 5, ReportAction.Delayed => 4, _ => 2 });
        if (outcome.Stage == DeliveryStage.Expiry && outcome.Enhanced.IsNone)
        {
            return new EnhancedCode(@class, 4, 7);
        }

        return outcome.Enhanced.IsNone
            ? new EnhancedCode(@class, (ushort)(outcome.Stage is DeliveryStage.Dns or DeliveryStage.Connect or DeliveryStage.Routing ? 4 : 0), 0)
            : outcome.Enhanced with { Class = @class };
    }

    private static string? ForStatus(EnhancedCode code) => (code.Subject, code.Detail) switch
    {
        _ when code.IsNone => null,
        (1, 1) => "The address does not exist at the recipient's mail system. Check its spelling.",
        (1, 2) => "The domain of the address does not exist or takes no mail. Check its spelling.",
        (1, 3) => "The recipient's mail system does not accept the form of the address.",
        (1, 6) => "The mailbox has moved and no new address is known.",
        (1, 7) or (1, 8) => "The recipient's mail system does not accept your address as sender.",
        (1, 10) => "The recipient's domain states that it takes no mail at all.",
        (2, 1) => "The mailbox is disabled.",
        (2, 2) => "The mailbox is full.",
        (2, 3) or (3, 4) => "The message is too large for the recipient's mail system.",
        (3, 3) => "The recipient's mail system does not offer what you asked for.",
        (3, 1) => "The recipient's mail system is full.",
        (3, 2) => "The recipient's mail system is not accepting messages.",
        (4, 1) => "The recipient's mail system did not answer.",
        (4, 2) => "The connection to the recipient's mail system was lost.",
        (4, 3) or (4, 4) => "The mail system of the recipient's domain could not be found.",
        (4, 6) => "The message is going round in circles between mail systems.",
        (4, 7) => "The message could not be delivered in the time allowed.",
        (5, 3) => "There are too many recipients for the recipient's mail system.",
        (6, 1) or (6, 3) => "The recipient's mail system does not take messages of this form.",
        (6, 7) => "The recipient's mail system does not support internationalized addresses.",
        (7, 30) or (7, 10) => "You asked that the message go over secure connections only, and there is none to the recipient's mail system.",
        (7, _) => "The recipient's mail system refused the message by its policy.",
        _ => null,
    };

    private static string ForStage(DeliveryOutcome outcome) => outcome.Stage switch
    {
        DeliveryStage.Routing => "No way to deliver to the address is known.",
        DeliveryStage.Dns => "The mail system of the recipient's domain could not be found in the DNS.",
        DeliveryStage.Connect => "No connection to the recipient's mail system could be made.",
        DeliveryStage.Greeting or DeliveryStage.Hello => "The recipient's mail system did not accept the connection.",
        DeliveryStage.Tls => "No encrypted connection to the recipient's mail system could be made.",
        DeliveryStage.MailFrom => "The recipient's mail system did not accept your address as sender.",
        DeliveryStage.RcptTo => "The recipient's mail system did not accept the recipient.",
        _ => "The recipient's mail system did not accept the message.",
    };
}
