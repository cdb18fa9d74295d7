using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Server.Configuration;

/// <summary>The settings of SMTP extensions, and of the reports that they ask for.</summary>
internal static class ExtensionSettings
{
    /// <summary>The key of a listener.</summary>
    public static Setting<ListenerDraft, IReadOnlyList<SmtpExtensions>> Listener { get; } = new(
        "extensions", Kinds.ListOf(Kinds.OneOf([.. ExtensionLines.Names])), static l => l.Extensions, static (l, v) => l.Extensions = v,
        "Extensions of SMTP that are offered, as far as the profile has them; what every listener offers (PIPELINING, SIZE, 8BITMIME, SMTPUTF8, CHUNKING) is not named.")
    { DefaultText = "all but \"requiretls\"" };

    /// <summary>Another one.</summary>
    public static Setting<ListenerDraft, bool> Vrfy { get; } = new(
        "vrfy", Kinds.Truth, static l => l.Vrfy, static (l, v) => l.Vrfy = v,
        "VRFY is answered 252, which does not tell whether an address exists; false: it is refused with 502 5.5.1, as EXPN always is.")
    { DefaultText = "`true`" };

    public static Section Reports { get; } = new SingleSection(
        "reports",
        "Reports to senders (delivery status notifications).",
        new Setting<ServerConfiguration, long>("return_size", Kinds.SizeFrom(0, 1L << 30), static c => c.ReturnSize, static (c, v) => c.ReturnSize = v,
            "Largest message that a report of failure returns whole when its sender asks for that (RET=FULL); of larger ones the header goes back."));

    /// <summary>All names together.</summary>
    public static SmtpExtensions Combine(IEnumerable<SmtpExtensions> extensions) => extensions.Aggregate(SmtpExtensions.None, static (all, one) => all | one);
}
