using System.Net;
using HighPerfMta.Engine.Auth;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Engine.Smtp.Guard;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Engine.Smtp;

/// <summary>What a listener is for.</summary>
public enum ListenerProfile
{
    /// <summary>Accepts mail from <c>relay.networks</c> only.</summary>
    Relay,

    /// <summary>Accepts mail for <c>relay.domains</c> from anyone, and from <c>relay.networks</c> for anywhere.</summary>
    Mx,

    /// <summary>Accepts mail from clients that have logged in, and from nobody else (RFC 6409).</summary>
    Submission,

    /// <summary>As <see cref="Relay"/>, by LMTP (RFC 2033): each recipient has an answer of its own.</summary>
    Lmtp,
}

/// <summary>When a listener speaks TLS.</summary>
public enum TlsMode
{
    /// <summary>Never.</summary>
    Off,

    /// <summary>After STARTTLS (RFC 3207), which is offered.</summary>
    StartTls,

    /// <summary>After STARTTLS, without which no mail is taken.</summary>
    Required,

    /// <summary>From the first octet on (RFC 8314 §3.3).</summary>
    Implicit,
}

/// <summary>Whether clients are asked for a certificate in the handshake.</summary>
public enum ClientCertificates
{
    Off,

    /// <summary>They are asked, and may have none.</summary>
    Request,

    /// <summary>Mail is taken only from clients with a certificate of <c>relay.certificates</c>.</summary>
    Require,
}

/// <summary>One <c>[[listener]]</c>.</summary>
public sealed record ListenerOptions(IPEndPoint Address, ListenerProfile Profile)
{
    public TlsMode Tls { get; init; }

    public ClientCertificates ClientCertificates { get; init; }

    /// <summary>Balancers: their connections begin with a PROXY header, and its client's address counts.</summary>
    public IReadOnlyList<IPNetwork> ProxyProtocol { get; init; } = [];

    /// <summary>Who may use XCLIENT and XFORWARD.</summary>
    public IReadOnlyList<IPNetwork> Xclient { get; init; } = [];

    /// <summary>Whether clients may log in, and how.</summary>
    public AuthMode Auth { get; init; }

    /// <summary>The limits of <see cref="GuardOptions"/> hold here.</summary>
    public bool Guard { get; init; }

    /// <summary>How long the greeting keeps guarded clients waiting; whoever speaks meanwhile is no mail server. Zero: they are greeted at once.</summary>
    public TimeSpan GreetDelay { get; init; }

    /// <summary>VRFY is answered, with what tells nothing; false: it is refused.</summary>
    public bool Vrfy { get; init; } = true;

    /// <summary>Extensions that are offered here, as far as they are possible on a listener of the profile; those that every server has are not among them.</summary>
    public SmtpExtensions Extensions { get; init; } = ExtensionLines.Usual;
}

/// <summary>Who may send where: <c>[relay]</c>.</summary>
public sealed record RelayOptions
{
    public IReadOnlyList<IPNetwork> Networks { get; init; } = [IPNetwork.Parse("127.0.0.0/8"), IPNetwork.Parse("::1/128")];

    /// <summary>Lower-case A-labels: an exact domain, or ".example.net" for its subdomains.</summary>
    public IReadOnlyList<string> Domains { get; init; } = [];

    /// <summary>SHA-256 of certificates or of their public keys, 64 lower-case hexadecimal digits: clients that show one may send anywhere.</summary>
    public IReadOnlyList<string> Certificates { get; init; } = [];
}

/// <summary>The <c>[limits]</c> table.</summary>
public sealed record LimitOptions
{
    public long MessageSize { get; init; } = 50L << 20;

    public int Recipients { get; init; } = 1000;

    public int Connections { get; init; } = 10_000;

    public int ConnectionsPerIp { get; init; } = 100;

    /// <summary>Octets of a command line with CRLF (RFC 5321 §4.5.3.1.4 asks for 512, extensions for more).</summary>
    public int CommandLine { get; init; } = 4096;

    /// <summary>Octets of a message line without CRLF. RFC 5321 says 998; longer lines exist and are accepted up to this.</summary>
    public int TextLine { get; init; } = 1 << 20;

    /// <summary>Octets of a line of a header without CRLF.</summary>
    public int HeaderLine { get; init; } = 64 << 10;

    /// <summary>Fields of a header.</summary>
    public int HeaderFields { get; init; } = 1000;

    /// <summary>Octets of a header with its line ends.</summary>
    public int HeaderSize { get; init; } = 1 << 20;

    /// <summary>Refused commands after which the session ends with 421.</summary>
    public int Errors { get; init; } = 20;

    /// <summary>Received fields above which a message is looping (RFC 5321 §6.3).</summary>
    public int ReceivedHops { get; init; } = 100;

    /// <summary>Wait for a command (RFC 5321 §4.5.3.2.7).</summary>
    public TimeSpan CommandTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Wait for more message data (RFC 5321 §4.5.3.2.5).</summary>
    public TimeSpan DataTimeout { get; init; } = TimeSpan.FromMinutes(3);

    /// <summary>Wait for the PROXY header of a balancer.</summary>
    public TimeSpan ProxyTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A whole session.</summary>
    public TimeSpan SessionTimeout { get; init; } = TimeSpan.FromHours(1);
}

/// <summary>Everything reception needs to know.</summary>
public sealed record SmtpServerOptions
{
    public required string Hostname { get; init; }

    public IReadOnlyList<ListenerOptions> Listeners { get; init; } = [new(new IPEndPoint(IPAddress.Loopback, 2525), ListenerProfile.Relay)];

    public RelayOptions Relay { get; init; } = new();

    public LimitOptions Limits { get; init; } = new();

    public SubmissionOptions Submission { get; init; } = new();

    public HeaderOptions Header { get; init; } = new();

    public GuardOptions Guard { get; init; } = new();

    /// <summary>A recipient whose route is <c>reject</c> is refused at RCPT, so that nobody needs a report. Null: no such route.</summary>
    public IRouteTable? Routes { get; init; }
}
