namespace HighPerfMta.Engine.Auth;

/// <summary>Which senders a user who is logged in may use.</summary>
public enum SenderCheck
{
    /// <summary>The user's own name and addresses, and what <see cref="SenderRule"/> gives.</summary>
    Own,

    /// <summary>All.</summary>
    Any,
}

/// <summary>Further senders of some users: one <c>[[submission_sender]]</c>.</summary>
/// <param name="Users">Names in their one form, <c>*@example.net</c> for those of a domain, <c>*</c> for all.</param>
/// <param name="Addresses">What they may send as.</param>
public sealed record SenderRule(IReadOnlyList<string> Users, IReadOnlyList<AddressPattern> Addresses);

/// <summary>What holds for users who are logged in: the <c>[submission]</c> table.</summary>
public sealed record SubmissionOptions
{
    /// <summary>How long a message may be held back by who hands it in (RFC 4865); zero: not at all.</summary>
    public TimeSpan FutureRelease { get; init; } = TimeSpan.FromDays(2);

    public SenderCheck Senders { get; init; } = SenderCheck.Own;

    /// <summary>Messages of a user within an hour; 0: any number.</summary>
    public int MessagesPerHour { get; init; }

    /// <summary>Recipients of a user within an hour; 0: any number.</summary>
    public int RecipientsPerHour { get; init; }

    /// <summary>Users that are counted; the one that sent least lately makes room.</summary>
    public int TableSize { get; init; } = 100_000;

    /// <summary>Received does not say where the user was.</summary>
    public bool HideClient { get; init; }

    public IReadOnlyList<SenderRule> Rules { get; init; } = [];
}
