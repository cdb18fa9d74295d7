using HighPerfMta.Engine.Auth;

namespace HighPerfMta.Server.Configuration;

/// <summary>One <c>[[submission_sender]]</c> as it is read.</summary>
internal sealed class SubmissionSenderDraft
{
    public Place Place { get; init; }

    public IReadOnlyList<string> Users { get; set; } = [];

    public IReadOnlyList<AddressPattern> Addresses { get; set; } = [];
}

/// <summary>The settings of mail that users hand in.</summary>
internal static class SubmissionSettings
{
    private static readonly ValueKind<AddressPattern> Addresses = Kinds.FromString<AddressPattern>(
        "an address such as \"alice@example.net\", or a pattern: \"alice+*@example.net\", \"*@example.net\", \"*@.example.net\" for the domains below it, \"*\" for all",
        static (string s, out AddressPattern v) =>
        {
            bool isPattern = AddressPattern.TryParse(s, out AddressPattern? pattern);
            v = pattern!;
            return isPattern;
        },
        static v => Kinds.Quote(v.ToString()));

    private static readonly ValueKind<string> User = Kinds.FromString<string>(
        "a user's name, \"*@example.net\" for those of a domain, or \"*\" for all", StoredCredentials.TryName, Kinds.Quote);

    public static Section Submission { get; } = new SingleSection(
        "submission",
        "What holds for clients that are logged in, on whatever listener; see authentication.md.",
        Of("senders", Kinds.OneOf(("own", SenderCheck.Own), ("any", SenderCheck.Any)), static s => s.Senders, static (s, v) => s with { Senders = v },
            "own: a reverse-path must be an address of the user: the name itself, what the backend says, and [[submission_sender]]; others are refused with 553 5.7.1. any: there is no such rule."),
        Of("messages_per_hour", Kinds.Number(0, 100_000_000), static s => s.MessagesPerHour, static (s, v) => s with { MessagesPerHour = v },
            "Messages of a user; more are answered 450 4.7.1 at MAIL. 0: any number."),
        Of("recipients_per_hour", Kinds.Number(0, 100_000_000), static s => s.RecipientsPerHour, static (s, v) => s with { RecipientsPerHour = v },
            "Recipients of a user; more are answered 450 4.7.1 at RCPT. 0: any number."),
        Of("users", Kinds.Number(100, 10_000_000), static s => s.TableSize, static (s, v) => s with { TableSize = v },
            "Users that are counted; the one that sent least lately makes room."),
        Of("future_release", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromDays(365)), static s => s.FutureRelease, static (s, v) => s with { FutureRelease = v },
            "How long a user may have a message held back before it is sent (FUTURERELEASE, on submission listeners); at most half of retry.expire, which counts from when it was handed in. \"0s\": not at all."),
        Of("hide_client", Kinds.Truth, static s => s.HideClient, static (s, v) => s with { HideClient = v },
            "true: Received does not say from where a user sent. The event log does."));

    public static Section Senders { get; } = new RepeatedSection<SubmissionSenderDraft>(
        "submission_sender",
        "Further addresses that users may send as. All that name a user count.",
        static place => new SubmissionSenderDraft { Place = place },
        static c => c.SubmissionSenders,
        new Setting<SubmissionSenderDraft, IReadOnlyList<string>>("users", Kinds.ListOf(User, 1), static s => s.Users, static (s, v) => s.Users = v,
            "Names as they log in, in any case; \"*@example.net\" for all of a domain, \"*\" for all.")
        { Required = true },
        new Setting<SubmissionSenderDraft, IReadOnlyList<AddressPattern>>("addresses", Kinds.ListOf(Addresses, 1), static s => s.Addresses, static (s, v) => s.Addresses = v,
            "Addresses and patterns: \"alice+*@example.net\", \"*@example.net\", \"*@.example.net\" for the domains below it, \"*\" for all.")
        { Required = true });

    private static Setting<ServerConfiguration, T> Of<T>(string key, ValueKind<T> kind, Func<SubmissionOptions, T> get, Func<SubmissionOptions, T, SubmissionOptions> set, string help) =>
        new(key, kind, c => get(c.Submission), (c, v) => c.Submission = set(c.Submission, v), help);
}
