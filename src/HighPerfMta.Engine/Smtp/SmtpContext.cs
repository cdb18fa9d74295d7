using System.Globalization;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Net;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What all sessions of a server share; immutable.</summary>
internal sealed class SmtpContext
{
    public SmtpContext(
        SmtpServerOptions options, IIntake intake, IEventLog events, DeadlineWheel wheel, TimeProvider time, ILogger logger, SmtpMetrics metrics)
    {
        Options = options;
        Limits = options.Limits;
        Intake = intake;
        Events = events;
        Wheel = wheel;
        Time = time;
        Logger = logger;
        Metrics = metrics;
        Relay = new RelayPolicy(options.Relay);
        Greeting = new SmtpReply(220, EnhancedCode.None, $"{options.Hostname} ESMTP");
        HeloReply = new SmtpReply(250, EnhancedCode.None, options.Hostname);
        EhloReply = new SmtpReply(250, EnhancedCode.None, string.Create(CultureInfo.InvariantCulture,
            $"{options.Hostname}\nPIPELINING\nSIZE {options.Limits.MessageSize}\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING"));
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

    public string Hostname { get; }

    /// <summary>220 with the name and nothing about the version.</summary>
    public SmtpReply Greeting { get; }

    public SmtpReply HeloReply { get; }

    /// <summary>Announces exactly what works.</summary>
    public SmtpReply EhloReply { get; }

    /// <summary>What a bare postmaster (RFC 5321 §4.1.1.3) stands for.</summary>
    public EmailAddress Postmaster { get; }
}
