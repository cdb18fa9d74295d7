using System.Diagnostics.Metrics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Proxy;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.TestKit;

/// <summary>Reception without a queue: an <see cref="SmtpServer"/> on a <see cref="RecordingIntake"/>, spoken to in memory or on loopback.</summary>
public sealed class ReceptionHost : IAsyncDisposable
{
    public const string Hostname = "mx.test.example";

    private readonly DeadlineWheel _wheel;
    private readonly AuthenticationRoom? _auth;

    public ReceptionHost(
        SmtpServerOptions? options = null, TimeProvider? time = null, RecordingIntake? intake = null, ILoggerFactory? loggers = null,
        int descriptors = int.MaxValue, TlsAcceptor? tls = null, AuthenticationRoom? auth = null, IMeterFactory? meters = null)
    {
        time ??= TimeProvider.System;
        Intake = intake ?? new RecordingIntake();
        Options = options ?? Loopback();
        _wheel = new DeadlineWheel(time);
        Server = new SmtpServer(Options, Intake, Events, _wheel, time, loggers ?? NullLoggerFactory.Instance, descriptors, meters, tls, auth);
        _auth = auth;
    }

    public SmtpServerOptions Options { get; }

    public SmtpServer Server { get; }

    public RecordingIntake Intake { get; }

    public RecordingEventLog Events { get; } = new();

    /// <summary>One listener on a free port of loopback, everyone local trusted.</summary>
    public static SmtpServerOptions Loopback(ListenerProfile profile = ListenerProfile.Relay) => new()
    {
        Hostname = Hostname,
        Listeners = [new ListenerOptions(new IPEndPoint(IPAddress.Loopback, 0), profile)],
    };

    /// <summary>A host as the options of a dialogue ask: profile, client, domains, extensions, refusal, limit.*, guard.*, auth and backend with <see cref="TestUsers"/>.</summary>
    public static ReceptionHost For(Dialogue dialogue, TimeProvider? time = null, TlsAcceptor? tls = null)
    {
        ArgumentNullException.ThrowIfNull(dialogue);
        ListenerProfile profile = Enum.Parse<ListenerProfile>(dialogue.Options.GetValueOrDefault("profile") ?? "relay", ignoreCase: true);
        RelayOptions relay = new() { Domains = (dialogue.Options.GetValueOrDefault("domains") ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries) };
        if (dialogue.Options.GetValueOrDefault("client") == "outsider")
        {
            relay = relay with { Networks = [] };
        }

        SmtpServerOptions options = Loopback(profile) with { Relay = relay, Limits = LimitsOf(dialogue), Routes = RoutesOf(dialogue), Submission = SubmissionOf(dialogue), Header = HeaderOf(dialogue) };
        if (dialogue.Options.GetValueOrDefault("auth") is { } mode)
        {
            options = options with { Listeners = [options.Listeners[0] with { Auth = Enum.Parse<AuthMode>(mode, ignoreCase: true) }] };
        }

        if (GuardOf(dialogue) is { } guard)
        {
            options = options with { Guard = guard, Listeners = [options.Listeners[0] with { Guard = true }] };
        }

        if (dialogue.Options.GetValueOrDefault("extensions") is { } names)
        {
            IEnumerable<SmtpExtensions> offered = ExtensionLines.Names.Where(n => names.Split(' ').Contains(n.Name)).Select(static n => n.Extension);
            options = options with { Listeners = [options.Listeners[0] with { Extensions = offered.Aggregate(SmtpExtensions.None, static (all, one) => all | one) }] };
        }

        if (dialogue.Options.GetValueOrDefault("vrfy") == "off")
        {
            options = options with { Listeners = [options.Listeners[0] with { Vrfy = false }] };
        }

        ReceptionHost host = new(options, time, tls: tls, auth: AuthOf(dialogue, time ?? TimeProvider.System));
        host.StartsQueues(dialogue.Options.GetValueOrDefault("etrn"));
        host.Intake.Refusal = dialogue.Options.GetValueOrDefault("refusal") switch
        {
            "lowspace" => Replies.InsufficientStorage,
            "failing" => Replies.LocalError,
            _ => null,
        };
        host.Intake.FailAfter = long.Parse(dialogue.Options.GetValueOrDefault("fail-after") ?? "9223372036854775807", CultureInfo.InvariantCulture);
        host.Intake.CommitRefusal = dialogue.Options.ContainsKey("commit-refused") ? Replies.LocalError : null;
        return host;
    }

    /// <summary>Domains whose queue was started.</summary>
    public System.Collections.Concurrent.ConcurrentQueue<string> Started { get; } = [];

    /// <summary>How ETRN ends: "busy" is one that never does; null: there is no ETRN.</summary>
    private void StartsQueues(string? how)
    {
        if (how is null)
        {
            return;
        }

        Server.QueueStarter = new QueueStarter(
            async (domain, cancellation) =>
            {
                Started.Enqueue(domain);
                await Task.Delay(how == "busy" ? Timeout.Infinite : 0, cancellation);
                return 1;
            },
            NullLogger.Instance);
        if (how == "busy")
        {
            Server.QueueStarter.TryStart("other.example", false);
        }
    }

    private static AuthenticationRoom? AuthOf(Dialogue dialogue, TimeProvider time)
    {
        if (!dialogue.Options.ContainsKey("auth"))
        {
            return null;
        }

        TestUsers users = new() { IsDown = dialogue.Options.GetValueOrDefault("backend") == "down" };
        int failures = int.Parse(dialogue.Options.GetValueOrDefault("limit.failures") ?? "1000", CultureInfo.InvariantCulture);
        return users.Room(time, new FailureOptions { Delay = TimeSpan.Zero, PerAddress = failures, PerNetwork = 1000, PerUser = 1000 });
    }

    private static SubmissionOptions SubmissionOf(Dialogue dialogue) => new()
    {
        MessagesPerHour = int.Parse(dialogue.Options.GetValueOrDefault("limit.user_messages") ?? "0", CultureInfo.InvariantCulture),
        RecipientsPerHour = int.Parse(dialogue.Options.GetValueOrDefault("limit.user_recipients") ?? "0", CultureInfo.InvariantCulture),
        Rules = [new SenderRule([TestUsers.Name], [AddressPattern.TryParse("*@alice.example", out AddressPattern? pattern) ? pattern : AddressPattern.All])],
    };

    private static HeaderOptions HeaderOf(Dialogue dialogue)
    {
        return new HeaderOptions
        {
            MissingFrom = Action("missing_from"),
            MissingDate = Action("missing_date"),
            MissingMessageId = Action("missing_message_id"),
            RepeatedFrom = Action("repeated_from"),
            RepeatedFields = Action("repeated_fields"),
            MalformedLines = Action("malformed_lines"),
            EightBit = Action("eight_bit"),
            Bcc = Action("bcc"),
        };

        HeaderAction Action(string name) => Enum.Parse<HeaderAction>(dialogue.Options.GetValueOrDefault("header." + name) ?? "ByProfile", ignoreCase: true);
    }

    /// <summary>Null: no option asks for it. Errors are answered at once.</summary>
    private static GuardOptions? GuardOf(Dialogue dialogue)
    {
        if (!dialogue.Options.Keys.Any(static k => k.StartsWith("guard.", StringComparison.Ordinal)))
        {
            return null;
        }

        return new GuardOptions
        {
            ErrorDelay = TimeSpan.Zero,
            JunkCommands = Number("guard.junk_commands"),
            SessionCommandsPerMinute = Number("guard.commands"),
            AddressMessagesPerMinute = Number("guard.messages"),
            NetworkMessagesPerMinute = Number("guard.network_messages"),
            AddressRecipientsPerMinute = Number("guard.recipients"),
            NetworkRecipientsPerMinute = Number("guard.network_recipients"),
        };

        int Number(string name) => int.Parse(dialogue.Options.GetValueOrDefault(name) ?? "0", CultureInfo.InvariantCulture);
    }

    private static RouteTable? RoutesOf(Dialogue dialogue) => dialogue.Options.GetValueOrDefault("reject") is { } domain
        ? new RouteTable([new Route([domain], new NextHop(NextHopKind.Reject))])
        : null;

    /// <summary>A client of an in-memory session, and the session.</summary>
    public (ConnectionStream Client, Task Session) ConnectInMemory(
        ListenerProfile? profile = null, IPAddress? address = null, int segmentSize = 4096, int pauseAt = 64 << 10)
    {
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair(address, segmentSize, pauseAt);
        Task session = Server.ServeAsync(server, Options.Listeners[0] with { Profile = profile ?? Options.Listeners[0].Profile });
        return (new ConnectionStream(client), session);
    }

    /// <summary>As the other one, for a client of another listener.</summary>
    public (ConnectionStream Client, Task Session) ConnectInMemory(ListenerOptions listener, IPAddress? address = null, int segmentSize = 4096, ProxyHeader? origin = null)
    {
        (MemoryConnection client, MemoryConnection server) = MemoryConnection.CreatePair(address, segmentSize);
        Task session = Server.ServeAsync(server, listener, origin);
        return (new ConnectionStream(client), session);
    }

    /// <summary>Sends everything at once in a session in memory, whose end it waits for, and gives the lines of all replies.</summary>
    public async Task<string[]> TalkAsync(string octets, CancellationToken cancellation)
    {
        (ConnectionStream client, Task session) = ConnectInMemory();
        await using (client)
        {
            Task<string> reading = new StreamReader(client, Encoding.Latin1).ReadToEndAsync(cancellation);
            await client.WriteAsync(Encoding.Latin1.GetBytes(octets), cancellation);
            await client.FlushAsync(cancellation);
            string replies = await reading;
            await session;
            return replies.Split("\r\n", StringSplitOptions.RemoveEmptyEntries);
        }
    }

    /// <summary>A client on the first listener; <see cref="SmtpServer.Start"/> was called.</summary>
    public async Task<NetworkStream> ConnectAsync(CancellationToken cancellation)
    {
        Socket socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(Server.Endpoints[0], cancellation);
        return new NetworkStream(socket, ownsSocket: true);
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        if (Server.QueueStarter is { } starter)
        {
            await starter.DisposeAsync();
        }

        if (_auth is not null)
        {
            await _auth.DisposeAsync();
        }

        _wheel.Dispose();
    }

    private static LimitOptions LimitsOf(Dialogue dialogue)
    {
        LimitOptions limits = new();
        foreach ((string name, string text) in dialogue.Options)
        {
            limits = name switch
            {
                "limit.recipients" => limits with { Recipients = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.message_size" => limits with { MessageSize = long.Parse(text, CultureInfo.InvariantCulture) },
                "limit.errors" => limits with { Errors = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.command_line" => limits with { CommandLine = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.text_line" => limits with { TextLine = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.header_size" => limits with { HeaderSize = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.header_line" => limits with { HeaderLine = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.header_fields" => limits with { HeaderFields = int.Parse(text, CultureInfo.InvariantCulture) },
                "limit.received_hops" => limits with { ReceivedHops = int.Parse(text, CultureInfo.InvariantCulture) },
                _ => limits,
            };
        }

        return limits;
    }
}
