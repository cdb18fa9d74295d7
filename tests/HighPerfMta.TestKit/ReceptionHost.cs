using System.Globalization;
using System.Net;
using System.Net.Sockets;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp;
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
        int descriptors = int.MaxValue, TlsAcceptor? tls = null, AuthenticationRoom? auth = null)
    {
        time ??= TimeProvider.System;
        Intake = intake ?? new RecordingIntake();
        Options = options ?? Loopback();
        _wheel = new DeadlineWheel(time);
        Server = new SmtpServer(Options, Intake, Events, _wheel, time, loggers ?? NullLoggerFactory.Instance, descriptors, tls: tls, auth: auth);
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

    /// <summary>A host as the options of a dialogue ask: profile, client, domains, refusal, limit.*, auth and backend with <see cref="TestUsers"/>.</summary>
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

        ReceptionHost host = new(options, time, tls: tls, auth: AuthOf(dialogue, time ?? TimeProvider.System));
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
