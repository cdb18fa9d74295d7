using System.Net;
using HighPerfMta.Engine.Smtp.Guard;

namespace HighPerfMta.Server.Configuration;

/// <summary>The settings of reception under attack.</summary>
internal static class GuardSettings
{
    private const int Most = 100_000_000;

    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    private static readonly ValueKind<IPNetwork> Network = Kinds.FromString<IPNetwork>(
        "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address", static (string s, out IPNetwork v) => NetworkFile.TryParse(s, out v, out _), static v => Kinds.Quote(v.ToString()));

    public static Section Guard { get; } = new SingleSection(
        "guard",
        "Limits for clients that nothing is known of, on listeners with guard; see abuse.md. relay.networks, guard.allow and who has logged in are exempt. 0: no limit.",
        Of("allow", Kinds.ListOf(Network), static g => g.Allow, static (g, v) => g with { Allow = v },
            "Networks that neither deny nor a limit of this table or limits.connections_per_ip holds for. They may not send anywhere by it."),
        Of("allow_files", Kinds.ListOf(Kinds.FilePath), static g => g.AllowFiles, static (g, v) => g with { AllowFiles = v },
            "Files with more of them: one network a line, comments after #. Changed files are loaded without a restart."),
        Of("deny", Kinds.ListOf(Network), static g => g.Deny, static (g, v) => g with { Deny = v },
            "Networks that get no session, on any listener."),
        Of("deny_files", Kinds.ListOf(Kinds.FilePath), static g => g.DenyFiles, static (g, v) => g with { DenyFiles = v },
            "Files with more of them."),
        Of("deny_action", Kinds.OneOf(("reply", DenyAction.Reply), ("drop", DenyAction.Drop)), static g => g.DenyAction, static (g, v) => g with { DenyAction = v },
            "reply: 554 5.7.1 instead of the greeting. drop: the connection is reset without a word."),
        Of("reload_interval", Kinds.DurationFrom(Second, TimeSpan.FromDays(1)), static g => g.ReloadInterval, static (g, v) => g with { ReloadInterval = v },
            "How often the files are looked at; SIGHUP looks at once."),
        Of("address_connections_per_minute", Kinds.Number(0, Most), static g => g.AddressConnectionsPerMinute, static (g, v) => g with { AddressConnectionsPerMinute = v },
            "New connections of a client address; more are answered 421 4.7.0. As with all rates here, that many may come at once, and then one each time that one was forgotten."),
        Of("network_connections_per_minute", Kinds.Number(0, Most), static g => g.NetworkConnectionsPerMinute, static (g, v) => g with { NetworkConnectionsPerMinute = v },
            "The same for an IPv4 /24 or an IPv6 /64."),
        Of("network_connections", Kinds.Number(0, 1_000_000), static g => g.NetworkConnections, static (g, v) => g with { NetworkConnections = v },
            "Connections of such a network at once; more are answered 421 4.7.0."),
        Of("address_messages_per_minute", Kinds.Number(0, Most), static g => g.AddressMessagesPerMinute, static (g, v) => g with { AddressMessagesPerMinute = v },
            "MAIL commands of a client address that are accepted; more end the session with 421 4.7.0."),
        Of("network_messages_per_minute", Kinds.Number(0, Most), static g => g.NetworkMessagesPerMinute, static (g, v) => g with { NetworkMessagesPerMinute = v },
            "The same for a network."),
        Of("address_recipients_per_minute", Kinds.Number(0, Most), static g => g.AddressRecipientsPerMinute, static (g, v) => g with { AddressRecipientsPerMinute = v },
            "Recipients of a client address; more are answered 450 4.7.1, those before them are kept."),
        Of("network_recipients_per_minute", Kinds.Number(0, Most), static g => g.NetworkRecipientsPerMinute, static (g, v) => g with { NetworkRecipientsPerMinute = v },
            "The same for a network."),
        Of("session_commands_per_minute", Kinds.Number(0, Most), static g => g.SessionCommandsPerMinute, static (g, v) => g with { SessionCommandsPerMinute = v },
            "Commands of a session; more end it with 421 4.7.0. A message with 1000 recipients has 1002."),
        Of("junk_commands", Kinds.Number(0, 1_000_000), static g => g.JunkCommands, static (g, v) => g with { JunkCommands = v },
            "NOOP, RSET, HELP, VRFY, EXPN, EHLO and HELO between two accepted messages; more end the session with 421 4.7.0."),
        Of("free_errors", Kinds.Number(0, 10_000), static g => g.FreeErrors, static (g, v) => g with { FreeErrors = v },
            "Refused commands of a session that are answered at once."),
        Of("error_delay", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromMinutes(1)), static g => g.ErrorDelay, static (g, v) => g with { ErrorDelay = v },
            "Delay of the reply to the next one, in whole seconds. It doubles with each further one."),
        Of("error_delay_max", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromMinutes(4)), static g => g.ErrorDelayMax, static (g, v) => g with { ErrorDelayMax = v },
            "Up to this."),
        Of("data_per_minute", Kinds.SizeFrom(0, 1L << 40), static g => g.DataPerMinute, static (g, v) => g with { DataPerMinute = v },
            "What a message has to bring in a minute. One that is limits.data_timeout behind ends with 421 4.4.2."),
        Of("table", Kinds.Number(100, 10_000_000), static g => g.TableSize, static (g, v) => g with { TableSize = v },
            "Addresses, and networks, that each rate counts; the one that came least lately makes room."));

    private static Setting<ServerConfiguration, T> Of<T>(string key, ValueKind<T> kind, Func<GuardOptions, T> get, Func<GuardOptions, T, GuardOptions> set, string help) =>
        new(key, kind, c => get(c.Guard), (c, v) => c.Guard = set(c.Guard, v), help);
}
