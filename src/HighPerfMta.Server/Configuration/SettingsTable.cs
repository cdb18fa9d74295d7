using System.Security.Authentication;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Server.Configuration;

/// <summary>
/// Every setting there is. This table alone drives reading, <c>config show</c> and docs/configuration.md.
/// </summary>
internal static class SettingsTable
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Day = TimeSpan.FromDays(1);

    /// <summary>The keys before the first table.</summary>
    public static Section Root { get; } = new SingleSection(
        "",
        "Keys before the first table.",
        Of("include", Kinds.ListOf(Kinds.FilePath), static c => c.Include, static (c, v) => c.Include = v,
            "Further files, with * and ? in file names; relative to this file. A key may be set in one file only; [[listener]] and [[route]] add up in the order of the files' names."),
        Of("hostname", Kinds.Domain, static c => c.Hostname, static (c, v) => c.Hostname = v,
            "The name of this server in greetings, EHLO, Received and reports. It should resolve to this host's address and back.", "the machine's name"),
        Of("data_dir", Kinds.FilePath, static c => c.DataDirectory, static (c, v) => c.DataDirectory = v,
            "Queue, event log and admin socket. Created with mode 0700 if absent. One server at a time.", "\"hpmta-data\" in the current directory"),
        Of("scheduling", Kinds.OneOf(("batch", Scheduling.Batch), ("inherit", Scheduling.Inherit)), static c => c.Scheduling, static (c, v) => c.Scheduling = v,
            "batch: on Linux the server's threads run as SCHED_BATCH; none of them takes the processor from another thread the moment it has work, which makes mail cheaper under load; of two processors the busiest threads keep to one each under load. A policy that the server was started with (chrt, CPUSchedulingPolicy=) is kept. inherit: as it was started."));

    /// <summary>The tables, in the order of the reference.</summary>
    public static IReadOnlyList<Section> Sections { get; } =
    [
        Listener(), Tls(), Relay(), Limits(), GuardSettings.Guard, AuthSettings.Auth, AuthSettings.Backend, SubmissionSettings.Submission, SubmissionSettings.Senders, HeaderSettings.Header, Queue(), Retry(), ExtensionSettings.Reports, RouteSection(), Delivery(), Dns(), Admin(), Log(), Events(),
    ];

    private static Setting<ServerConfiguration, T> Of<T>(
        string key, ValueKind<T> kind, Func<ServerConfiguration, T> get, Action<ServerConfiguration, T> set, string help, string? defaultText = null) =>
        new(key, kind, get, set, help) { DefaultText = defaultText };

    private static RepeatedSection<ListenerDraft> Listener() => new(
        "listener",
        "Where mail comes in. Without any: 127.0.0.1:2525, profile relay.",
        static place => new ListenerDraft { Place = place },
        static c => c.Listeners,
        new Setting<ListenerDraft, System.Net.IPEndPoint>("address", Kinds.EndPoint, static l => l.Address!, static (l, v) => l.Address = v,
            "Address and port to listen on.")
        { Required = true },
        new Setting<ListenerDraft, ListenerProfile>("profile", Kinds.OneOf(("relay", ListenerProfile.Relay), ("mx", ListenerProfile.Mx), ("submission", ListenerProfile.Submission), ("lmtp", ListenerProfile.Lmtp)),
            static l => l.Profile, static (l, v) => l.Profile = v,
            "relay: only clients of relay.networks may send. mx: anyone may send to relay.domains, clients of relay.networks anywhere. submission: only who has logged in, as [submission] allows; relay.networks does not count. lmtp: as relay, by LMTP; never on port 25.")
        { DefaultText = "\"relay\"" },
        new Setting<ListenerDraft, TlsMode?>("tls", Kinds.OrDefault(Kinds.OneOf(("off", TlsMode.Off), ("starttls", TlsMode.StartTls), ("required", TlsMode.Required), ("implicit", TlsMode.Implicit))),
            static l => l.Tls, static (l, v) => l.Tls = v,
            "off: plain text. starttls: offered. required: no mail before STARTTLS (530 5.7.0). implicit: TLS from the first octet.")
        { DefaultText = "with tls.certificates \"starttls\", for submission \"required\"; else \"off\"" },
        new Setting<ListenerDraft, AuthMode?>("auth", Kinds.OrDefault(Kinds.OneOf(("off", AuthMode.Off), ("tls", AuthMode.Tls), ("challenge", AuthMode.Challenge), ("all", AuthMode.All))),
            static l => l.Auth, static (l, v) => l.Auth = v,
            "Whether clients may log in (AUTH), and so send anywhere. tls: under TLS only. challenge: without TLS too, but only by scram and cram-md5, which do not show the password. all: also by what shows it to everyone on the way.")
        { DefaultText = "\"tls\" if there is an [[auth_backend]], for mx \"off\"" },
        new Setting<ListenerDraft, ClientCertificates>(
            "client_certificates", Kinds.OneOf(("off", ClientCertificates.Off), ("request", ClientCertificates.Request), ("require", ClientCertificates.Require)),
            static l => l.ClientCertificates, static (l, v) => l.ClientCertificates = v,
            "request: clients are asked for a certificate, which relay.certificates may know. require: mail is taken from no others (530 5.7.0).")
        { DefaultText = "\"off\"" },
        new Setting<ListenerDraft, IReadOnlyList<System.Net.IPNetwork>>("proxy_protocol", Kinds.ListOf(Kinds.ClientNetwork), static l => l.ProxyProtocol, static (l, v) => l.ProxyProtocol = v,
            "Balancers: their connections must begin with a PROXY header, version 1 or 2, and the client's address is the one in it.")
        { DefaultText = "`[]`" },
        new Setting<ListenerDraft, IReadOnlyList<System.Net.IPNetwork>>("xclient", Kinds.ListOf(Kinds.ClientNetwork), static l => l.Xclient, static (l, v) => l.Xclient = v,
            "Clients that may use XCLIENT and XFORWARD, so speak for others.")
        { DefaultText = "`[]`" },
        new Setting<ListenerDraft, bool?>("guard", Kinds.OrDefault(Kinds.Truth), static l => l.Guard, static (l, v) => l.Guard = v,
            "Whether the limits of [guard] hold here.")
        { DefaultText = "true for mx; else false" },
        new Setting<ListenerDraft, TimeSpan>("greet_delay", Kinds.DurationFrom(TimeSpan.Zero, TimeSpan.FromSeconds(60)), static l => l.GreetDelay, static (l, v) => l.GreetDelay = v,
            "How long guarded clients wait for the greeting, in whole seconds; who speaks before it gets 554 5.5.1.")
        { DefaultText = "`\"0s\"`" },
        ExtensionSettings.Listener,
        ExtensionSettings.Vrfy);

    private static SingleSection Tls() => new(
        "tls",
        "Transport security of listeners. Cipher suites and groups are those of the system's OpenSSL configuration.",
        Of("certificates", Kinds.ListOf(Kinds.Certificate), static c => c.Tls.Certificates, static (c, v) => c.Tls = c.Tls with { Certificates = v },
            "Certificates with their chains and keys (RSA or ECDSA), in PEM. A client gets the one for the name it asks for (exact, then wildcard), others the first. Changed files are loaded without a restart."),
        Of("minimum", Kinds.OneOf(("1.2", SslProtocols.Tls12 | SslProtocols.Tls13), ("1.3", SslProtocols.Tls13)), static c => c.Tls.Protocols, static (c, v) => c.Tls = c.Tls with { Protocols = v },
            "The lowest version of TLS that is spoken."),
        Of("handshake_timeout", Kinds.DurationFrom(Second, Day), static c => c.Tls.HandshakeTimeout, static (c, v) => c.Tls = c.Tls with { HandshakeTimeout = v },
            "A whole handshake; a client that takes longer is dropped."),
        Of("handshakes", Kinds.Number(0, 10_000), static c => c.Tls.Handshakes, static (c, v) => c.Tls = c.Tls with { Handshakes = v },
            "Handshakes computed at once; 0: as many as there are processors. relay.networks and guard.allow do not wait for a turn."),
        Of("handshakes_waiting", Kinds.Number(0, 1_000_000), static c => c.Tls.HandshakesWaiting, static (c, v) => c.Tls = c.Tls with { HandshakesWaiting = v },
            "Handshakes that wait for that. STARTTLS beyond them is answered 421 4.3.2, implicit TLS is closed."),
        Of("reload_interval", Kinds.DurationFrom(Second, Day), static c => c.Tls.ReloadInterval, static (c, v) => c.Tls = c.Tls with { ReloadInterval = v },
            "How often the files of certificates are looked at; SIGHUP looks at once."),
        Of("expiry_warning", Kinds.DurationFrom(TimeSpan.Zero, 365 * Day), static c => c.Tls.ExpiryWarning, static (c, v) => c.Tls = c.Tls with { ExpiryWarning = v },
            "A certificate that ends within this time is warned of in the log, once a day."),
        Of("ocsp_stapling", Kinds.Truth, static c => c.Tls.OcspStapling, static (c, v) => c.Tls = c.Tls with { OcspStapling = v },
            "Certificates that name an OCSP responder are sent with its answer, which is fetched in the background."));

    private static SingleSection Relay() => new(
        "relay",
        "Who may send where.",
        Of("networks", Kinds.ListOf(Kinds.ClientNetwork), static c => c.Relay.Networks, static (c, v) => c.Relay = c.Relay with { Networks = v },
            "Clients that may send anywhere."),
        Of("domains", Kinds.ListOf(Kinds.DomainPattern), static c => c.Relay.Domains, static (c, v) => c.Relay = c.Relay with { Domains = v },
            "Domains that are accepted from anyone on an mx listener."),
        Of("certificates", Kinds.ListOf(Kinds.Fingerprint), static c => c.Relay.Certificates, static (c, v) => c.Relay = c.Relay with { Certificates = v },
            "SHA-256 of certificates, or of their public keys: clients that show one in the handshake may send anywhere. Needs a listener with client_certificates."));

    private static SingleSection Limits() => new(
        "limits",
        "Bounds of reception.",
        Of("message_size", Kinds.SizeFrom(1024, 1L << 40), static c => c.Limits.MessageSize, static (c, v) => c.Limits = c.Limits with { MessageSize = v },
            "Largest message; larger ones are refused with 552 5.3.4."),
        Of("recipients", Kinds.Number(1, 10_000), static c => c.Limits.Recipients, static (c, v) => c.Limits = c.Limits with { Recipients = v },
            "Recipients of one message; more are answered 452 4.5.3. RFC 5321 asks for at least 100."),
        Of("connections", Kinds.Number(1, 1_000_000), static c => c.Limits.Connections, static (c, v) => c.Limits = c.Limits with { Connections = v },
            "Inbound connections in all; more are answered 421. Never more than the limit of open files less 1000."),
        Of("connections_per_ip", Kinds.Number(1, 1_000_000), static c => c.Limits.ConnectionsPerIp, static (c, v) => c.Limits = c.Limits with { ConnectionsPerIp = v },
            "Inbound connections of one client address; more are answered 421."),
        Of("memory", Kinds.SizeFrom(0, 1L << 50), static c => c.Pressure.Memory, static (c, v) => c.Pressure = c.Pressure with { Memory = v },
            "Resident memory of the process at which new mail is refused with 452 4.3.1; it is slowed from four fifths of that. 0: nine tenths of what the machine or the container has."),
        Of("command_line", Kinds.Number(512, 65_536), static c => c.Limits.CommandLine, static (c, v) => c.Limits = c.Limits with { CommandLine = v },
            "Octets of a command line with its CRLF; longer ones are answered 500 5.5.2."),
        Of("text_line", Kinds.SizeFrom(998, 1 << 30), static c => c.Limits.TextLine, static (c, v) => c.Limits = c.Limits with { TextLine = (int)v },
            "Octets of a line of a message. RFC 5321 says 998; longer lines exist and are passed on whole up to this."),
        Of("header_size", Kinds.SizeFrom(4096, 1 << 30), static c => c.Limits.HeaderSize, static (c, v) => c.Limits = c.Limits with { HeaderSize = (int)v },
            "Octets of a message's header; longer ones are refused with 552 5.3.4."),
        Of("header_line", Kinds.SizeFrom(998, 1 << 30), static c => c.Limits.HeaderLine, static (c, v) => c.Limits = c.Limits with { HeaderLine = (int)v },
            "Octets of a line of a header; longer ones are refused with 554 5.6.0. RFC 5322 says 998, and lists of recipients exist that are longer."),
        Of("header_fields", Kinds.Number(50, 1_000_000), static c => c.Limits.HeaderFields, static (c, v) => c.Limits = c.Limits with { HeaderFields = v },
            "Fields of a header; more are refused with 554 5.6.0."),
        Of("errors", Kinds.Number(1, 10_000), static c => c.Limits.Errors, static (c, v) => c.Limits = c.Limits with { Errors = v },
            "Refused commands after which a session ends with 421."),
        Of("received_hops", Kinds.Number(1, 10_000), static c => c.Limits.ReceivedHops, static (c, v) => c.Limits = c.Limits with { ReceivedHops = v },
            "Received fields above which a message is taken to loop and refused with 554 5.4.6."),
        Of("command_timeout", Kinds.DurationFrom(Second, Day), static c => c.Limits.CommandTimeout, static (c, v) => c.Limits = c.Limits with { CommandTimeout = v },
            "Wait for a command."),
        Of("data_timeout", Kinds.DurationFrom(Second, Day), static c => c.Limits.DataTimeout, static (c, v) => c.Limits = c.Limits with { DataTimeout = v },
            "Wait for more of a message."),
        Of("proxy_timeout", Kinds.DurationFrom(Second, Day), static c => c.Limits.ProxyTimeout, static (c, v) => c.Limits = c.Limits with { ProxyTimeout = v },
            "Wait for the PROXY header of a balancer."),
        Of("session_timeout", Kinds.DurationFrom(Second, 7 * Day), static c => c.Limits.SessionTimeout, static (c, v) => c.Limits = c.Limits with { SessionTimeout = v },
            "A whole session."));

    private static SingleSection Queue() => new(
        "queue",
        "The durable queue in data_dir.",
        Of("memory", Kinds.SizeFrom(16 << 20, 1L << 40), static c => c.Queue.Memory, static (c, v) => c.Queue = c.Queue with { Memory = v },
            "Most memory for log pages. They are a write buffer, of which the log takes 16MiB: more would not make it faster."),
        Of("hot_bodies", Kinds.SizeFrom(0, 1L << 40), static c => c.Queue.HotBodies, static (c, v) => c.Queue = c.Queue with { HotBodies = v },
            "Just-received messages kept in memory for their first delivery; others are read from the log."),
        Of("disk_low_water", Kinds.SizeFrom(0, 1L << 50), static c => c.Queue.DiskLowWater, static (c, v) => c.Queue = c.Queue with { DiskLowWater = v },
            "Free space of data_dir below which mail is refused with 452 4.3.1; delivery goes on."),
        Of("sync", Kinds.Truth, static c => c.Queue.Sync, static (c, v) => c.Queue = c.Queue with { Sync = v },
            "false answers 250 before the message is on stable storage: an explicit choice to lose mail on a power failure, warned of at every start."),
        Of("segment_size", Kinds.Size.Where("a power of two from \"8MiB\" to \"1GiB\"", static v => v is >= 8 << 20 and <= 1 << 30 && System.Numerics.BitOperations.IsPow2(v)),
            static c => c.Queue.SegmentSize, static (c, v) => c.Queue = c.Queue with { SegmentSize = v },
            "Size of a file of the log. Chosen when data_dir is first used; some are prepared ahead."),
        Of("write_timeout", Kinds.DurationFrom(Second, Day), static c => c.Queue.WriteTimeout, static (c, v) => c.Queue = c.Queue with { WriteTimeout = v },
            "A write of the disk that takes longer counts as failed; mail is refused with 451 4.3.0 until the disk is well."),
        Of("commit_slow", Kinds.DurationFrom(TimeSpan.FromMilliseconds(1), Day), static c => c.Pressure.CommitSlow, static (c, v) => c.Pressure = c.Pressure with { CommitSlow = v },
            "While a commit takes longer than this, new mail is slowed, by up to two seconds a message."),
        Of("commit_refuse", Kinds.DurationFrom(TimeSpan.FromMilliseconds(1), Day), static c => c.Pressure.CommitRefuse, static (c, v) => c.Pressure = c.Pressure with { CommitRefuse = v },
            "While a commit takes longer than this, new mail is refused with 452 4.3.1."));

    private static SingleSection Retry() => new(
        "retry",
        "When what failed for now is tried again. A change also applies to what is queued.",
        Of("schedule", Kinds.ListOf(Kinds.DurationFrom(TimeSpan.FromMilliseconds(100), 30 * Day), 1), static c => c.Retry.Schedule, static (c, v) => c.Retry = c.Retry with { Schedule = v },
            "Waits between attempts; the last one repeats. Each is varied by up to 20 %."),
        Of("expire", Kinds.DurationFrom(Second, 365 * Day), static c => c.Retry.Expire, static (c, v) => c.Retry = c.Retry with { Expire = v },
            "Age at which delivery is given up and the sender is told."),
        Of("delay_notice", Kinds.OrOff(Kinds.DurationFrom(Second, 365 * Day)), static c => c.Retry.DelayNotice, static (c, v) => c.Retry = c.Retry with { DelayNotice = v },
            "Age at which the sender is told that the message is still under way."));

    private static RepeatedSection<RouteDraft> RouteSection() => new(
        "route",
        "Where mail goes. The first route that matches the recipient's domain wins; without a match: mx.",
        static place => new RouteDraft { Place = place },
        static c => c.Routes,
        new Setting<RouteDraft, IReadOnlyList<string>>("domains", Kinds.ListOf(Kinds.RoutePattern, 1), static r => r.Domains, static (r, v) => r.Domains = v,
            "The recipients' domains.")
        { Required = true },
        new Setting<RouteDraft, NextHop>("to", Kinds.NextHop, static r => r.To!, static (r, v) => r.To = v,
            "mx: by the domain's MX records. smtp: to this host (port 25 if none is given), without MX lookup. smtps: the same with TLS from the first octet on (port 465). "
            + "discard: accepted and thrown away. hold: kept until released. reject: returned to the sender.")
        { Required = true },
        new Setting<RouteDraft, TlsLevel?>("tls", Kinds.OrDefault(DeliveryTls), static r => r.Tls, static (r, v) => r.Tls = v,
            "As delivery.tls, for this route. A server with a level of its own (\"?tls=LEVEL\") keeps that; smtps is never less than required.")
        { DefaultText = "as delivery.tls", IsShown = static r => r.Tls is not null });

    private static ValueKind<TlsLevel> DeliveryTls =>
        Kinds.OneOf([.. Enum.GetValues<TlsLevel>().Select(static l => (TlsLevels.ToWord(l), l))]);

    private static SingleSection Delivery() => new(
        "delivery",
        "How mail goes out.",
        Of("connections", Kinds.Number(1, 1_000_000), static c => c.Delivery.Connections, static (c, v) => c.Delivery = c.Delivery with { Connections = v },
            "Outbound connections in all."),
        Of("connections_per_site", Kinds.Number(1, 100_000), static c => c.Delivery.ConnectionsPerSite, static (c, v) => c.Delivery = c.Delivery with { ConnectionsPerSite = v },
            "Connections to one site: the MX hosts behind one or many domains, or one next hop."),
        Of("messages_per_connection", Kinds.Number(1, 10_000_000), static c => c.Delivery.MessagesPerConnection, static (c, v) => c.Delivery = c.Delivery with { MessagesPerConnection = v },
            "Messages after which a connection is closed."),
        Of("pipelined_messages", Kinds.Number(1, 100), static c => c.Delivery.PipelinedMessages, static (c, v) => c.Delivery = c.Delivery with { PipelinedMessages = v },
            "Messages on their way at once over one connection to a peer with PIPELINING. If it breaks, those without an answer are sent again and may arrive twice; 1: one at a time."),
        Of("recipients_per_transaction", Kinds.Number(1, 10_000), static c => c.Delivery.RecipientsPerTransaction, static (c, v) => c.Delivery = c.Delivery with { RecipientsPerTransaction = v },
            "Recipients sent with one copy of a message."),
        Of("smtp_port", Kinds.Number(1, 65_535), static c => c.Delivery.SmtpPort, static (c, v) => c.Delivery = c.Delivery with { SmtpPort = v },
            "Port of MX hosts; another one than 25 is for test networks."),
        Of("allow_own_addresses", Kinds.Truth, static c => c.Delivery.AllowOwnAddresses, static (c, v) => c.Delivery = c.Delivery with { AllowOwnAddresses = v },
            "Deliver by MX to loopback and to addresses of this host, which are loops otherwise; for test networks."),
        Of("tls", DeliveryTls, static c => c.Delivery.Tls, static (c, v) => c.Delivery = c.Delivery with { Tls = v },
            "How connections are secured. off: not at all. opportunistic: TLS where it is offered, whatever the certificate, plain text where it is not or fails. required: TLS, or the mail waits. verified: TLS with a certificate of the host's name from a trusted authority, or the mail waits."),
        Of("tls_minimum", Kinds.OneOf(("1.2", SslProtocols.Tls12 | SslProtocols.Tls13), ("1.3", SslProtocols.Tls13)), static c => c.Delivery.TlsProtocols, static (c, v) => c.Delivery = c.Delivery with { TlsProtocols = v },
            "The lowest version of TLS that is spoken to next hops."),
        Of("tls_trust", Kinds.Words, static c => c.Delivery.TlsTrust ?? "", static (c, v) => c.Delivery = c.Delivery with { TlsTrust = v.Length == 0 ? null : v },
            "PEM file with the certificates of the authorities that verified trusts, relative to this file; it is read at the start. \"\": the system's."),
        Of("idle_timeout", Kinds.DurationFrom(TimeSpan.Zero, Day), static c => c.Delivery.IdleTimeout, static (c, v) => c.Delivery = c.Delivery with { IdleTimeout = v },
            "An idle connection is kept this long for the next message."),
        Of("connect_timeout", Kinds.DurationFrom(Second, Day), static c => c.Delivery.ConnectTimeout, static (c, v) => c.Delivery = c.Delivery with { ConnectTimeout = v },
            "Wait for a connection to one address, and again for a TLS handshake."),
        Of("command_timeout", Kinds.DurationFrom(Second, Day), static c => c.Delivery.CommandTimeout, static (c, v) => c.Delivery = c.Delivery with { CommandTimeout = v },
            "Wait for the greeting and the replies to EHLO, MAIL and RCPT."),
        Of("data_timeout", Kinds.DurationFrom(Second, Day), static c => c.Delivery.DataTimeout, static (c, v) => c.Delivery = c.Delivery with { DataTimeout = v },
            "Wait for the reply to DATA."),
        Of("block_timeout", Kinds.DurationFrom(Second, Day), static c => c.Delivery.BlockTimeout, static (c, v) => c.Delivery = c.Delivery with { BlockTimeout = v },
            "Wait until the peer takes more of a message."),
        Of("final_dot_timeout", Kinds.DurationFrom(Second, Day), static c => c.Delivery.FinalDotTimeout, static (c, v) => c.Delivery = c.Delivery with { FinalDotTimeout = v },
            "Wait for the reply to the whole message. Shorter than ten minutes makes duplicates."),
        Of("shards", Kinds.Number(0, 1024), static c => c.Delivery.Shards, static (c, v) => c.Delivery = c.Delivery with { Shards = v },
            "Delivery shards; 0: one a processor."),
        Of("drain_timeout", Kinds.DurationFrom(TimeSpan.Zero, Day), static c => c.Delivery.DrainTimeout, static (c, v) => c.Delivery = c.Delivery with { DrainTimeout = v },
            "When the server stops, what is in flight may finish within this time, incoming and outgoing."));

    private static SingleSection Dns() => new(
        "dns",
        "Name resolution.",
        Of("servers", Kinds.ListOf(Kinds.EndPoint), static c => c.Dns.Servers, static (c, v) => c.Dns = c.Dns with { Servers = v },
            "Servers to ask, best a validating resolver on this machine; empty: the system's."),
        Of("dnssec", Kinds.OneOf(("trust-ad", true), ("off", false)), static c => c.Dns.TrustAuthenticData, static (c, v) => c.Dns = c.Dns with { TrustAuthenticData = v },
            "trust-ad: the resolver validates and is reached over a safe path, so its AD bit is believed."),
        Of("timeout", Kinds.DurationFrom(TimeSpan.FromMilliseconds(100), TimeSpan.FromMinutes(1)), static c => c.Dns.Timeout, static (c, v) => c.Dns = c.Dns with { Timeout = v },
            "Wait for one answer."),
        Of("cache_size", Kinds.Number(0, 10_000_000), static c => c.Dns.CacheSize, static (c, v) => c.Dns = c.Dns with { CacheSize = v },
            "Answers kept."),
        Of("concurrency", Kinds.Number(1, 10_000), static c => c.Dns.Concurrency, static (c, v) => c.Dns = c.Dns with { Concurrency = v },
            "Lookups under way at once; each takes an open file."));

    private static SingleSection Admin() => new(
        "admin",
        "Seeing and steering.",
        Of("http", Kinds.EndPointOrNone, static c => c.Admin.Http, static (c, v) => c.Admin = c.Admin with { Http = v },
            "Address of the page with counts, /healthz, /readyz and /metrics. It shows no addresses and no mail, and changes nothing. \"\" turns it off."),
        Of("socket", Kinds.Words, static c => c.Admin.Socket, static (c, v) => c.Admin = c.Admin with { Socket = v },
            "Unix socket that the commands use, mode 0600; relative to this file. \"\": admin.sock in data_dir."));

    private static SingleSection Log() => new(
        "log",
        "What the server says on standard error.",
        Of("level", Kinds.OneOf(("debug", LogLevel.Debug), ("info", LogLevel.Information), ("warning", LogLevel.Warning), ("error", LogLevel.Error)),
            static c => c.Log.Level, static (c, v) => c.Log = c.Log with { Level = v }, "The least level that is written."),
        Of("format", Kinds.OneOf(("auto", LogFormat.Auto), ("text", LogFormat.Text), ("json", LogFormat.Json)),
            static c => c.Log.Format, static (c, v) => c.Log = c.Log with { Format = v }, "auto: text on a terminal, one JSON object a line otherwise."));

    private static SingleSection Events() => new(
        "events",
        "The event log in data_dir/events: one JSON object for each change of a message.",
        Of("enabled", Kinds.Truth, static c => c.Events.Enabled, static (c, v) => c.Events = c.Events with { Enabled = v },
            "false writes none; `hpmta trace` then knows nothing of mail that has left the queue."),
        Of("file_size", Kinds.SizeFrom(64 << 10, 1L << 40), static c => c.Events.FileSize, static (c, v) => c.Events = c.Events with { FileSize = v },
            "Size at which a new file is begun."),
        Of("files", Kinds.Number(2, 100_000), static c => c.Events.Files, static (c, v) => c.Events = c.Events with { Files = v },
            "Files kept; the oldest go."),
        Of("buffer", Kinds.SizeFrom(64 << 10, 1 << 30), static c => c.Events.Buffer, static (c, v) => c.Events = c.Events with { Buffer = (int)v },
            "Events waiting for the disk. When it is full events are dropped and counted, so that a slow disk never holds up mail."));
}
