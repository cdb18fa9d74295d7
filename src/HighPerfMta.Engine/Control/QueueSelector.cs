using System.Text.RegularExpressions;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Control;

/// <summary>A filter made ready for use: conditions on a message and on each of its recipients.</summary>
public sealed class QueueSelector
{
    private const int MaxReason = 1024;

    private readonly QueueFilter _filter;
    private readonly IMailQueue _queue;
    private readonly IDelivery _delivery;
    private readonly DateTimeOffset _now;
    private readonly string? _domain;
    private readonly Regex? _reason;

    /// <exception cref="FilterException">A condition cannot be used.</exception>
    public QueueSelector(QueueFilter filter, IMailQueue queue, IDelivery delivery, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(filter);
        _filter = filter;
        _queue = queue;
        _delivery = delivery;
        _now = now;
        if (filter.State is { } state && !States.Contains(state))
        {
            throw new FilterException($"state: \"{state}\" is not one of {string.Join(", ", States)}");
        }

        if (filter.Limit is < 0)
        {
            throw new FilterException("limit: a number of messages, 0 or more");
        }

        _domain = filter.Domain is { } domain ? Normalize(domain) : null;
        _reason = filter.Reason is { } reason ? Compile(reason) : null;
    }

    /// <summary>What <see cref="QueueFilter.State"/> may be: waiting for an attempt; the same and tried before; the same and its time has come; held.</summary>
    public static IReadOnlyList<string> States { get; } = ["pending", "deferred", "due", "held"];

    /// <summary>No condition is set.</summary>
    public static bool IsEmpty(QueueFilter filter)
    {
        ArgumentNullException.ThrowIfNull(filter);
        return filter.Ids.Count == 0
            && filter is { Domain: null, Site: null, Sender: null, Recipient: null, State: null, Reason: null, Older: null, Newer: null };
    }

    /// <summary>The state's word in lists.</summary>
    public static string StateName(RecipientStatus status) => status switch
    {
        RecipientStatus.Pending => "pending",
        RecipientStatus.Delivered => "delivered",
        RecipientStatus.Failed => "failed",
        RecipientStatus.Held => "held",
        _ => "dropped",
    };

    /// <summary>The messages selected with the indexes of their selected recipients. An empty filter selects nothing unless it says all.</summary>
    public IEnumerable<(QueuedMessage Message, int[] Recipients)> Select()
    {
        if (!_filter.All && IsEmpty(_filter))
        {
            yield break;
        }

        int left = _filter.Limit ?? int.MaxValue;
        foreach (QueuedMessage message in Candidates())
        {
            if (left == 0)
            {
                yield break;
            }

            if (!Matches(message))
            {
                continue;
            }

            int[] recipients = [.. Enumerable.Range(0, message.RecipientCount).Where(i => Matches(message, i))];
            if (recipients.Length > 0)
            {
                left--;
                yield return (message, recipients);
            }
        }
    }

    private IEnumerable<QueuedMessage> Candidates() =>
        _filter.Ids.Count > 0 ? _filter.Ids.Distinct().Select(_queue.Find).OfType<QueuedMessage>() : _queue.Messages;

    private bool Matches(QueuedMessage message)
    {
        TimeSpan age = _now - message.Envelope.ReceivedAt;
        return (_filter.Older is not { } older || age >= older)
            && (_filter.Newer is not { } newer || age <= newer)
            && (_filter.Sender is not { } sender || MatchesAddress(sender, message.Envelope.Sender));
    }

    private bool Matches(QueuedMessage message, int index)
    {
        RecipientState state = message.GetRecipient(index);
        if (state.IsFinal || !MatchesState(state))
        {
            return false;
        }

        EmailAddress recipient = message.Envelope.Recipients[index];
        return (_domain is null || MatchesDomain(recipient.Domain))
            && (_filter.Recipient is not { } address || MatchesAddress(address, recipient))
            && (_reason is null || _reason.IsMatch(MessageJson.ReplyOf(state.LastOutcome) ?? ""))
            && (_filter.Site is not { } site || string.Equals(_delivery.SiteOf(recipient), site, StringComparison.OrdinalIgnoreCase));
    }

    private bool MatchesState(RecipientState state) => _filter.State switch
    {
        null => true,
        "held" => state.Status == RecipientStatus.Held,
        "pending" => state.Status == RecipientStatus.Pending,
        "deferred" => state is { Status: RecipientStatus.Pending, Attempts: > 0 },
        _ => state.Status == RecipientStatus.Pending && state.DueAt <= _now,
    };

    private bool MatchesDomain(string domain) =>
        _domain!.StartsWith('.') ? domain.EndsWith(_domain, StringComparison.Ordinal) : domain == _domain;

    private static bool MatchesAddress(string wanted, EmailAddress? address)
    {
        if (wanted is "<>" or "")
        {
            return address is null;
        }

        return address is not null && (wanted.StartsWith('@')
            ? string.Equals(Normalize(wanted[1..]), address.Domain, StringComparison.Ordinal)
            : string.Equals(wanted.Trim('<', '>'), address.ToString(), StringComparison.OrdinalIgnoreCase));
    }

    private static string Normalize(string domain)
    {
        bool under = domain.StartsWith('.');
        return DomainName.TryNormalize(under ? domain[1..] : domain, out string normal) ? under ? "." + normal : normal : domain;
    }

    private static Regex Compile(string reason)
    {
        if (reason.Length > MaxReason)
        {
            throw new FilterException($"reason: an expression of at most {MaxReason} characters");
        }

        try
        {
            return new Regex(reason, RegexOptions.NonBacktracking | RegexOptions.IgnoreCase | RegexOptions.CultureInvariant);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            throw new FilterException($"reason: {e.Message} (look-around and back-references are not supported)");
        }
    }
}
