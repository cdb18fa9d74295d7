using System.Net;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>What becomes of a client that is denied.</summary>
public enum DenyAction
{
    /// <summary>554 5.7.1.</summary>
    Reply,

    /// <summary>The connection is reset without a word.</summary>
    Drop,
}

/// <summary>
/// The <c>[guard]</c> table: limits for clients that nothing is known of, on listeners with <see cref="ListenerOptions.Guard"/>. Clients of <c>relay.networks</c> and of the allow list, and
/// who has logged in, are exempt. 0 is no limit.
/// </summary>
public sealed record GuardOptions
{
    /// <summary>Networks that no limit of this table holds for, nor the deny list.</summary>
    public IReadOnlyList<IPNetwork> Allow { get; init; } = [];

    /// <summary>Networks that get no session, on whatever listener.</summary>
    public IReadOnlyList<IPNetwork> Deny { get; init; } = [];

    /// <summary>Files with more of <see cref="Allow"/>; see <see cref="NetworkFile"/>.</summary>
    public IReadOnlyList<string> AllowFiles { get; init; } = [];

    /// <summary>Files with more of <see cref="Deny"/>.</summary>
    public IReadOnlyList<string> DenyFiles { get; init; } = [];

    public DenyAction DenyAction { get; init; }

    /// <summary>How often the files are looked at.</summary>
    public TimeSpan ReloadInterval { get; init; } = TimeSpan.FromMinutes(1);

    public int AddressConnectionsPerMinute { get; init; } = 600;

    public int NetworkConnectionsPerMinute { get; init; } = 3000;

    /// <summary>Connections of a network at once.</summary>
    public int NetworkConnections { get; init; } = 500;

    public int AddressMessagesPerMinute { get; init; }

    public int NetworkMessagesPerMinute { get; init; }

    public int AddressRecipientsPerMinute { get; init; }

    public int NetworkRecipientsPerMinute { get; init; }

    public int SessionCommandsPerMinute { get; init; }

    /// <summary>Commands that send no mail, between two messages.</summary>
    public int JunkCommands { get; init; } = 100;

    /// <summary>Errors of a session that are answered at once.</summary>
    public int FreeErrors { get; init; } = 5;

    /// <summary>Delay of the reply to the next error; it doubles with each further one. Zero: none.</summary>
    public TimeSpan ErrorDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Up to this.</summary>
    public TimeSpan ErrorDelayMax { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Octets of a message that have to come in a minute, over <c>limits.data_timeout</c>.</summary>
    public long DataPerMinute { get; init; } = 4096;

    /// <summary>Addresses, and networks, that each rate counts.</summary>
    public int TableSize { get; init; } = 100_000;
}
