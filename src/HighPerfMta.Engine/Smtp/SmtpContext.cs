using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What all sessions of a server share; it does not change once there are sessions.</summary>
internal sealed class SmtpContext
{
    private readonly HeaderRules[] _headerRules;

    // As many as there are kinds of connection: with TLS and without, and what the listeners allow.
    private readonly ConcurrentDictionary<(SmtpExtensions Extensions, string Mechanisms), SmtpReply> _ehloReplies = new();

    public SmtpContext(
        SmtpServerOptions options, IIntake intake, IEventLog events, DeadlineWheel wheel, TimeProvider time, ILogger logger, SmtpMetrics metrics, TlsAcceptor? tls = null,
        AuthenticationRoom? auth = null)
    {
        Options = options;
        Limits = options.Limits;
        Intake = intake;
        Events = events;
        Wheel = wheel;
        Time = time;
        Logger = logger;
        Metrics = metrics;
        Tls = tls;
        Auth = auth;
        Senders = new SenderRules(options.Submission);
        Rates = new UserRates(options.Submission, time);
        Relay = new RelayPolicy(options.Relay);
        Guard = new ReceptionGuard(options.Guard, Relay, time, metrics, logger);
        Greeting = new SmtpReply(220, EnhancedCode.None, $"{options.Hostname} ESMTP");
        LmtpGreeting = new SmtpReply(220, EnhancedCode.None, $"{options.Hostname} LMTP");
        HeloReply = new SmtpReply(250, EnhancedCode.None, options.Hostname);
        _headerRules = [.. Enum.GetValues<ListenerProfile>().Select(p => new HeaderRules(options.Header, options.Limits, p))];
        Hostname = options.Hostname;
        if (!AddressParser.TryParse($"postmaster@{options.Hostname}", out EmailAddress? postmaster, out string error))
        {
            throw new ArgumentException($"hostname \"{options.Hostname}\" is not a domain: {error}", nameof(options));
        }

        Postmaster = postmaster;
    }

    public SmtpServerOptions Options { get; }

    public LimitOptions Limits { get; }

    public IIntake Intake { get; }

    public IEventLog Events { get; }

    public DeadlineWheel Wheel { get; }

    public TimeProvider Time { get; }

    public ILogger Logger { get; }

    public SmtpMetrics Metrics { get; }

    public RelayPolicy Relay { get; }

    public ReceptionGuard Guard { get; }

    public string Hostname { get; }

    /// <summary>220 with the name and nothing about the version.</summary>
    public SmtpReply Greeting { get; }

    /// <summary>The same of LMTP.</summary>
    public SmtpReply LmtpGreeting { get; }

    public SmtpReply HeloReply { get; }

    /// <summary>Starts the queue for a domain; null: nobody can. Set before the first session.</summary>
    public QueueStarter? QueueStarter { get; set; }

    /// <summary>Who may log in; null: nobody can.</summary>
    public AuthenticationRoom? Auth { get; }

    public SenderRules Senders { get; }

    public UserRates Rates { get; }

    /// <summary>The server's side of TLS; null: it has no certificate.</summary>
    public TlsAcceptor? Tls { get; }

    /// <summary>What is done about headers on a listener.</summary>
    public HeaderRules HeaderRulesOf(ListenerProfile profile) => _headerRules[(int)profile];

    /// <summary>Announces exactly what works for this client now.</summary>
    public SmtpReply EhloReply(SmtpSession session) => session.Offered.HasFlag(SmtpExtensions.FutureRelease)
        ? MakeEhloReply(Options, (session.Offered, session.Mechanisms), $"FUTURERELEASE {FutureRelease()}")
        : _ehloReplies.GetOrAdd((session.Offered, session.Mechanisms), static (key, options) => MakeEhloReply(options, key), Options);

    /// <summary>How long a message may be held, in seconds and as a time (RFC 4865 §4).</summary>
    private string FutureRelease()
    {
        TimeSpan longest = Options.Submission.FutureRelease;
        return string.Create(CultureInfo.InvariantCulture, $"{(long)longest.TotalSeconds} {(Time.GetUtcNow() + longest).UtcDateTime:yyyy-MM-dd'T'HH:mm:ss'Z'}");
    }

    private static SmtpReply MakeEhloReply(SmtpServerOptions options, (SmtpExtensions Extensions, string Mechanisms) offers, string? futureRelease = null)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"{options.Hostname}\nPIPELINING\nSIZE {options.Limits.MessageSize}\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING");
        foreach ((SmtpExtensions extension, string line) in ExtensionLines.Of(options))
        {
            text.Append(offers.Extensions.HasFlag(extension) ? "\n" + line : "");
        }

        text.Append(futureRelease is null ? "" : "\n" + futureRelease);
        text.Append(offers.Extensions.HasFlag(SmtpExtensions.StartTls) ? "\nSTARTTLS" : "");
        text.Append(offers.Mechanisms.Length > 0 ? "\nAUTH " + offers.Mechanisms : "");
        text.Append(offers.Extensions.HasFlag(SmtpExtensions.Xclient) ? $"\nXCLIENT {ClientAttributeParser.XclientKeywords}\nXFORWARD {ClientAttributeParser.XforwardKeywords}" : "");
        return new SmtpReply(250, EnhancedCode.None, text.ToString());
    }

    /// <summary>What a bare postmaster (RFC 5321 §4.1.1.3) stands for.</summary>
    public EmailAddress Postmaster { get; }
}
