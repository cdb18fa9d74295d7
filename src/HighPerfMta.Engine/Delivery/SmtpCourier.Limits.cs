using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What the peer does not take: messages of a kind that it does not know, and more than it said that it takes (LIMITS, RFC 9422).</summary>
internal sealed partial class SmtpCourier
{
    public int RecipientLimit => _link is null ? int.MaxValue : _peerCan.Limits?.Recipients ?? int.MaxValue;

    private int MostTransactions => Math.Min(_options.MessagesPerConnection, _peerCan.Limits?.Mails ?? int.MaxValue);

    /// <summary>Why nobody's copy of the message may go to the peer; null: it may.</summary>
    private DeliveryOutcome? Refusal(Envelope envelope)
    {
        // Octets that are no lines go by BDAT to a peer that takes them, or not at all: a body is never converted.
        if (envelope.Body == BodyEncoding.BinaryMime && !(_peerCan.BinaryMime && _peerCan.Chunking))
        {
            return CourierOutcomes.NeedsBinary(_peer);
        }

        if (envelope.Parameters?.DeliverBy is { Notify: false } by && RefusalOf(by) is { } late)
        {
            return late;
        }

        return envelope.Parameters is { RequireTls: true } ? RequireTlsRefusal : null;
    }

    /// <summary>A message that is to be returned when it comes late goes to a peer that promises the same for the time that is left, or not at all (RFC 2852 §4).</summary>
    private DeliveryOutcome? RefusalOf(DeliverBy by)
    {
        double left = (by.At - services.Time.GetUtcNow()).TotalSeconds;
        return left < 1 ? CourierOutcomes.NotInTime(_peer)
            : _peerCan.Limits?.DeliverByMin is { } least && left >= least ? null
            : CourierOutcomes.NeedsDeliverBy(_peer);
    }

    /// <summary>Nobody has to be left for another transaction.</summary>
    private bool FitsLimits(DeliveryTask task) =>
        task.RecipientCount <= RecipientLimit && (_peerCan.Limits?.RecipientDomains is not { } most || FindFirstBeyond(task, most) == task.RecipientCount);

    /// <summary>Recipients that are too many for the peer have their outcome: they go in another transaction, at once.</summary>
    private void KeepWithinLimits(DeliveryTask task)
    {
        int most = Math.Min(task.RecipientCount, RecipientLimit);
        most = _peerCan.Limits?.RecipientDomains is { } domains ? Math.Min(most, FindFirstBeyond(task, domains)) : most;
        for (int i = most; i < task.RecipientCount; i++)
        {
            task.Outcomes[i] = CourierOutcomes.TooManyRecipients(most, _peer);
        }
    }

    /// <summary>The place of the first recipient whose domain is one more than the peer takes; the number of recipients when there is none.</summary>
    private static int FindFirstBeyond(DeliveryTask task, int mostDomains)
    {
        EmailAddress[] recipients = task.Message.Envelope.Recipients;
        HashSet<string> domains = [];
        int place = 0;
        while (place < task.RecipientCount && (domains.Count < mostDomains || domains.Contains(recipients[task.RecipientIndexes[place]].Domain)))
        {
            domains.Add(recipients[task.RecipientIndexes[place]].Domain);
            place++;
        }

        return place;
    }
}
