using HighPerfMta.Engine.Smtp;

namespace HighPerfMta.Server.Configuration;

/// <summary>The settings of what is done about headers of received messages.</summary>
internal static class HeaderSettings
{
    private static readonly ValueKind<HeaderAction> AcceptOrRefuse = Kinds.OneOf(("profile", HeaderAction.ByProfile), ("accept", HeaderAction.Accept), ("refuse", HeaderAction.Refuse));

    private static readonly ValueKind<HeaderAction> Any =
        Kinds.OneOf(("profile", HeaderAction.ByProfile), ("accept", HeaderAction.Accept), ("repair", HeaderAction.Repair), ("refuse", HeaderAction.Refuse));

    public static Section Header { get; } = new SingleSection(
        "header",
        "What is done about the headers of received messages. accept: passed on as it is. repair: what is missing is added at the top, what must not be there is taken out. refuse: 554 5.6.0. profile: what the listener's profile stands for; see reception.md.",
        Of("missing_from", AcceptOrRefuse, static h => h.MissingFrom, static (h, v) => h with { MissingFrom = v },
            "No From field. profile: submission refuses."),
        Of("missing_date", Any, static h => h.MissingDate, static (h, v) => h with { MissingDate = v },
            "No Date field. profile: submission repairs."),
        Of("missing_message_id", Any, static h => h.MissingMessageId, static (h, v) => h with { MissingMessageId = v },
            "No Message-ID field. profile: submission repairs."),
        Of("repeated_from", AcceptOrRefuse, static h => h.RepeatedFrom, static (h, v) => h with { RepeatedFrom = v },
            "More than one From field. profile: mx and submission refuse."),
        Of("repeated_fields", AcceptOrRefuse, static h => h.RepeatedFields, static (h, v) => h with { RepeatedFields = v },
            "Another field that RFC 5322 allows once: Date, Sender, Reply-To, To, Cc, Bcc, Message-ID, In-Reply-To, References, Subject. profile: submission refuses."),
        Of("malformed_lines", AcceptOrRefuse, static h => h.MalformedLines, static (h, v) => h with { MalformedLines = v },
            "A line that is neither a field nor part of one. profile: submission refuses."),
        Of("eight_bit", AcceptOrRefuse, static h => h.EightBit, static (h, v) => h with { EightBit = v },
            "Octets above 127 in the header of a message without SMTPUTF8. profile: accepted by all."),
        Of("bcc", Any, static h => h.Bcc, static (h, v) => h with { Bcc = v },
            "A Bcc field; Resent-Bcc is repaired as well. profile: submission repairs."));

    private static Setting<ServerConfiguration, HeaderAction> Of(string key, ValueKind<HeaderAction> kind, Func<HeaderOptions, HeaderAction> get, Func<HeaderOptions, HeaderAction, HeaderOptions> set, string help) =>
        new(key, kind, c => get(c.Header), (c, v) => c.Header = set(c.Header, v), help);
}
