using System.Collections.Frozen;
using System.Net;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp.Guard;

/// <summary>
/// Reception under attack: who gets no session, and how much a client that nothing is known of may do. Sessions ask at few points; one that is exempt, or on a listener without
/// <see cref="ListenerOptions.Guard"/>, asks nothing. Every table is bounded, so that an attacker with many addresses costs memory for the table's size and no more.
/// </summary>
internal sealed class ReceptionGuard : IDisposable
{
    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    /// <summary>Replies that turn a client away, and what they are counted as.</summary>
    private static readonly FrozenDictionary<SmtpReply, string> Limits = new Dictionary<SmtpReply, string>
    {
        [Replies.AccessDenied] = "denied",
        [Replies.TooManyConnections] = "connections",
        [Replies.TooManyConnectionsFromAddress] = "address_connections",
        [Replies.TooManyErrors] = "errors",
        [Replies.Timeout] = "timeout",
        [Replies.SessionTimeout] = "session_timeout",
        [GuardReplies.EarlyTalker] = "early_talker",
        [GuardReplies.AddressConnectionRate] = "address_connections_per_minute",
        [GuardReplies.NetworkConnectionRate] = "network_connections_per_minute",
        [GuardReplies.NetworkConnections] = "network_connections",
        [GuardReplies.AddressMessageRate] = "address_messages_per_minute",
        [GuardReplies.NetworkMessageRate] = "network_messages_per_minute",
        [GuardReplies.AddressRecipientRate] = "address_recipients_per_minute",
        [GuardReplies.NetworkRecipientRate] = "network_recipients_per_minute",
        [GuardReplies.CommandRate] = "session_commands_per_minute",
        [GuardReplies.JunkCommands] = "junk_commands",
        [GuardReplies.TooSlow] = "data_per_minute",
        [GuardReplies.TooManyHandshakes] = "handshakes",
    }.ToFrozenDictionary();

    private readonly RelayPolicy _relay;
    private readonly SmtpMetrics _metrics;
    private readonly ILogger _logger;
    private readonly NetworkLists _lists;
    private readonly RefusalLog _log;
    private readonly Rates _connections;
    private readonly Rates _messages;
    private readonly Rates _recipients;

    /// <exception cref="NetworkFileException">A list's file cannot be used.</exception>
    public ReceptionGuard(GuardOptions options, RelayPolicy relay, TimeProvider time, SmtpMetrics metrics, ILogger logger)
    {
        Options = options;
        Time = time;
        _relay = relay;
        _metrics = metrics;
        _logger = logger;
        _log = new RefusalLog(time);
        _lists = new NetworkLists(options, time, logger, metrics.ListReloads);
        _connections = new Rates(options.AddressConnectionsPerMinute, options.NetworkConnectionsPerMinute, options.TableSize, time,
            GuardReplies.AddressConnectionRate, GuardReplies.NetworkConnectionRate);
        _messages = new Rates(options.AddressMessagesPerMinute, options.NetworkMessagesPerMinute, options.TableSize, time,
            GuardReplies.AddressMessageRate, GuardReplies.NetworkMessageRate);
        _recipients = new Rates(options.AddressRecipientsPerMinute, options.NetworkRecipientsPerMinute, options.TableSize, time,
            GuardReplies.AddressRecipientRate, GuardReplies.NetworkRecipientRate);
        metrics.Observe(() => _lists.Counts, () => Tracked);
    }

    public GuardOptions Options { get; }

    public TimeProvider Time { get; }

    /// <summary>Entries of all tables.</summary>
    public int Tracked => _connections.Count + _messages.Count + _recipients.Count;

    /// <summary>Reads the lists' files now. False: there are none.</summary>
    public bool ReloadLists()
    {
        _lists.Check();
        return _lists.HasFiles;
    }

    /// <summary>Before anything is said to a new connection.</summary>
    /// <param name="client">In the form of <see cref="RelayPolicy.Normalize"/>; null: a balancer does not name it.</param>
    /// <param name="listener">Where it came in.</param>
    /// <param name="limits">Which limits of connections hold for it.</param>
    /// <returns>Null: it may have a session.</returns>
    public SmtpReply? Admit(IPAddress? client, ListenerOptions listener, out AdmissionLimits limits)
    {
        limits = AdmissionLimits.Address;
        if (client is null)
        {
            return null;
        }

        if (_lists.Allows(client))
        {
            limits = AdmissionLimits.Total;
            return null;
        }

        if (_lists.Denies(client))
        {
            return Replies.AccessDenied;
        }

        if (!listener.Guard || _relay.IsTrusted(client))
        {
            return null;
        }

        limits = Options.NetworkConnections > 0 ? AdmissionLimits.Network : AdmissionLimits.Address;
        return _connections.Take(ClientKey.Of(client));
    }

    /// <summary>The guard of a session; null: it is exempt.</summary>
    /// <param name="listener">Where it came in.</param>
    /// <param name="client">Null: not known.</param>
    public SessionGuard? For(ListenerOptions listener, IPAddress? client) => !listener.Guard || IsKnown(client) ? null : new SessionGuard(this, client);

    /// <summary>The client is trusted or allowed: no limit holds it up.</summary>
    public bool IsKnown(IPAddress? client) => client is not null && (_relay.IsTrusted(client) || _lists.Allows(client));

    /// <summary>The client gets no session.</summary>
    public bool Denies(IPAddress? client) => client is not null && _lists.Denies(client);

    public SmtpReply? TakeMessage(IPAddress? client) => client is null ? null : _messages.Take(ClientKey.Of(client));

    public SmtpReply? TakeRecipient(IPAddress? client) => client is null ? null : Counted(_recipients.Take(ClientKey.Of(client)), client);

    /// <summary>Counts a reply that turned a client away, and tells of it now and then; others are none of the guard's.</summary>
    public void TurnedAway(SmtpReply reply, IPAddress? client)
    {
        if (!Limits.TryGetValue(reply, out string? limit))
        {
            return;
        }

        _metrics.Limited.Add(1, new KeyValuePair<string, object?>("limit", limit));
        if (MayTell(client, limit, out long untold))
        {
            SmtpLog.TurnedAway(_logger, client, limit, untold);
        }
    }

    /// <summary>Whether a line may be written about what a client did.</summary>
    /// <param name="client">Null: not known.</param>
    /// <param name="what">The kind of thing that it did.</param>
    /// <param name="untold">Lines that were not written since the last one.</param>
    public bool MayTell(IPAddress? client, string what, out long untold) => _log.MayTell(client is null ? 0 : ClientKey.NetworkOf(ClientKey.Of(client)), what, out untold);

    /// <summary>As the other one, where the count of lines is left to the next.</summary>
    public bool MayTell(IPAddress? client, string what) => MayTell(client, what, out _);

    public void Dispose() => _lists.Dispose();

    private SmtpReply? Counted(SmtpReply? reply, IPAddress client)
    {
        if (reply is not null)
        {
            TurnedAway(reply, client);
        }

        return reply;
    }

    /// <summary>
    /// What addresses and networks do in a minute. The network is asked first: an attacker who owns one cannot fill the table of addresses with more of them than the network may have.
    /// </summary>
    private sealed class Rates(int ofAddress, int ofNetwork, int size, TimeProvider time, SmtpReply address, SmtpReply network)
    {
        private readonly RateTable<UInt128> _addresses = new(ofAddress, Minute, size, time);
        private readonly RateTable<UInt128> _networks = new(ofNetwork, Minute, size, time);

        public int Count => _addresses.Count + _networks.Count;

        public SmtpReply? Take(UInt128 client)
        {
            UInt128 key = ClientKey.NetworkOf(client);
            if (!_networks.TryTake(key))
            {
                return network;
            }

            if (_addresses.TryTake(client))
            {
                return null;
            }

            // What one address may not have is left to its neighbours.
            _networks.Return(key, 1);
            return address;
        }
    }
}
