using System.Net;
using System.Security.Authentication;
using HighPerfMta.Engine.Routing;

namespace HighPerfMta.Engine.Delivery;

/// <summary>The <c>[delivery]</c> table.</summary>
public sealed record DeliveryOptions
{
    /// <summary>The name in EHLO.</summary>
    public required string Hostname { get; init; }

    /// <summary>All outbound connections.</summary>
    public int Connections { get; init; } = 2000;

    /// <summary>Connections to one site.</summary>
    public int ConnectionsPerSite { get; init; } = 20;

    /// <summary>Port of MX hosts; other values are for test networks.</summary>
    public int SmtpPort { get; init; } = 25;

    /// <summary>Recipients of one transaction (RFC 5321 §4.5.3.1.8 asks receivers for at least 100).</summary>
    public int RecipientsPerTransaction { get; init; } = 100;

    /// <summary>Messages sent over one connection before it is closed.</summary>
    public int MessagesPerConnection { get; init; } = 10_000;

    /// <summary>
    /// Messages on their way at once over one connection to a peer with PIPELINING (RFC 2920 §3.1 allows the next MAIL with the end of a message). A connection that breaks leaves so many
    /// without an answer, and some of them may then arrive twice. 1: each waits for the answer to the one before.
    /// </summary>
    public int PipelinedMessages { get; init; } = 4;

    /// <summary>An idle connection is kept this long for the next message.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How connections are secured where the route says nothing of it.</summary>
    public TlsLevel Tls { get; init; } = TlsLevel.Opportunistic;

    public SslProtocols TlsProtocols { get; init; } = SslProtocols.Tls12 | SslProtocols.Tls13;

    /// <summary>PEM file with the authorities that are trusted for <see cref="TlsLevel.Verified"/>; null: the system's.</summary>
    public string? TlsTrust { get; init; }

    /// <summary>A connection to one address, and then the handshake.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Greeting, EHLO, MAIL and RCPT replies: five minutes each (RFC 5321 §4.5.3.2.1 to .3).</summary>
    public TimeSpan CommandTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Reply to DATA (RFC 5321 §4.5.3.2.4).</summary>
    public TimeSpan DataTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>One block of the message (RFC 5321 §4.5.3.2.5).</summary>
    public TimeSpan BlockTimeout { get; init; } = TimeSpan.FromMinutes(3);

    /// <summary>Reply to the final dot (RFC 5321 §4.5.3.2.6).</summary>
    public TimeSpan FinalDotTimeout { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Deliver to loopback and our own addresses through MX; off, as these are loops (test networks turn it on).</summary>
    public bool AllowOwnAddresses { get; init; }

    /// <summary>Ports and addresses we listen on, for loop detection.</summary>
    public IReadOnlyList<IPEndPoint> OwnEndpoints { get; init; } = [];

    /// <summary>Delivery shards; 0: one a processor.</summary>
    public int Shards { get; init; }

    /// <summary>At SIGTERM what is in flight may finish within this time.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(20);
}

/// <summary>The <c>[retry]</c> table.</summary>
public sealed record RetryOptions
{
    /// <summary>Waits between attempts; the last repeats. Each is jittered by up to 20 % either way.</summary>
    public IReadOnlyList<TimeSpan> Schedule { get; init; } =
    [
        TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(10), TimeSpan.FromMinutes(20), TimeSpan.FromMinutes(40),
        TimeSpan.FromHours(1), TimeSpan.FromHours(2), TimeSpan.FromHours(4),
    ];

    /// <summary>A recipient not delivered by this age fails with 4.4.7.</summary>
    public TimeSpan Expire { get; init; } = TimeSpan.FromDays(5);

    /// <summary>A delay notice goes to the sender at this age; null: none.</summary>
    public TimeSpan? DelayNotice { get; init; } = TimeSpan.FromHours(4);
}
