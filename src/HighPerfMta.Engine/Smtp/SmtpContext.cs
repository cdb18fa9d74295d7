using System.Collections.Concurrent;
using System.Globalization;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Net.Tls;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What all sessions of a server share; immutable.</summary>
internal sealed class SmtpContext
{
    private readonly SmtpReply[] _ehloReplies;
    private readonly HeaderRules[] _headerRules;

    // As many as there are kinds of connection: with TLS and without, and what the listeners allow.
    private readonly ConcurrentDictionary<(Offers, string), SmtpReply> _authReplies = new();

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
        Greeting = new SmtpReply(220, EnhancedCode.None, $"{options.Hostname} ESMTP");
        HeloReply = new SmtpReply(250, EnhancedCode.None, options.Hostname);
        _ehloReplies = [.. Enumerable.Range(0, 4).Select(offers => MakeEhloReply(options, (Offers)offers, ""))];
        _headerRules = [.. Enum.GetValues<ListenerProfile>().Select(p => new HeaderRules(options.Header, options.Limits, p))];
        Hostname = options.Hostname;
        if (!AddressParser.TryParse($"postmaster@{options.Hostname}", out EmailAddress? postmaster, out string error))
        {
            throw new ArgumentException($"hostname \"{options.Hostname}\" is not a domain: {error}", nameof(options));
        }

        Postmaster = postmaster;
    }

    /// <summary>What not every client is offered.</summary>
    [Flags]
    private enum Offers
    {
        None = 0, StartTls = 1, Xclient = 2,
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

    public string Hostname { get; }

    /// <summary>220 with the name and nothing about the version.</summary>
    public SmtpReply Greeting { get; }

    public SmtpReply HeloReply { get; }

    /// <summary>Who may log in; null: nobody can.</summary>
    public AuthenticationRoom? Auth { get; }

    public SenderRules Senders { get; }

    public UserRates Rates { get; }

    /// <summary>The server's side of TLS; null: it has no certificate.</summary>
    public TlsAcceptor? Tls { get; }

    /// <summary>What is done about headers on a listener.</summary>
    public HeaderRules HeaderRulesOf(ListenerProfile profile) => _headerRules[(int)profile];

    /// <summary>Announces exactly what works for this client now.</summary>
    public SmtpReply EhloReply(SmtpSession session)
    {
        Offers offers = (session.CanStartTls ? Offers.StartTls : Offers.None) | (session.MaySpeakForOthers ? Offers.Xclient : Offers.None);
        string mechanisms = session.Mechanisms;
        return mechanisms.Length == 0
            ? _ehloReplies[(int)offers]
            : _authReplies.GetOrAdd((offers, mechanisms), static (key, options) => MakeEhloReply(options, key.Item1, key.Item2), Options);
    }

    private static SmtpReply MakeEhloReply(SmtpServerOptions options, Offers offers, string mechanisms)
    {
        string text = string.Create(CultureInfo.InvariantCulture,
            $"{options.Hostname}\nPIPELINING\nSIZE {options.Limits.MessageSize}\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING");
        text += offers.HasFlag(Offers.StartTls) ? "\nSTARTTLS" : "";
        text += mechanisms.Length > 0 ? "\nAUTH " + mechanisms : "";
        text += offers.HasFlag(Offers.Xclient) ? $"\nXCLIENT {ClientAttributeParser.XclientKeywords}\nXFORWARD {ClientAttributeParser.XforwardKeywords}" : "";
        return new SmtpReply(250, EnhancedCode.None, text);
    }

    /// <summary>What a bare postmaster (RFC 5321 §4.1.1.3) stands for.</summary>
    public EmailAddress Postmaster { get; }
}
