using System.Net;

namespace HighPerfMta.Server.SelfTest;

/// <summary>How the sessions of the suite speak.</summary>
internal enum ProbeTls : byte
{
    /// <summary>In plain text; only the checks of TLS use STARTTLS.</summary>
    Off,

    /// <summary>After STARTTLS, for servers that take no mail before it.</summary>
    StartTls,

    /// <summary>From the first octet on.</summary>
    Implicit,
}

/// <summary>The server to test, and what the suite may do with it.</summary>
internal sealed record SelfTestTarget
{
    public required string Host { get; init; }

    public required int Port { get; init; }

    /// <summary>What EHLO says; null: the client's address as a literal.</summary>
    public string? Helo { get; init; }

    /// <summary>The sender; empty is the null sender, to which nobody sends a report.</summary>
    public string From { get; init; } = "";

    /// <summary>A recipient that the server takes; null: no message is ever completed.</summary>
    public string? To { get; init; }

    /// <summary>A domain for which the server is not responsible. It is never sent to: only RCPT names it.</summary>
    public string Foreign { get; init; } = "example.org";

    public ProbeTls Tls { get; init; }

    /// <summary>The wait for each reply; a check takes at most <see cref="CheckLimit"/>.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>This client has no rights at the server: what it may relay is a finding, also from a private address.</summary>
    public bool IsOutsider { get; init; }

    /// <summary>Where the server passes on mail for <see cref="To"/>: the suite listens there. Null: nowhere.</summary>
    public IPEndPoint? Sink { get; init; }

    public TimeSpan CheckLimit => Timeout * 6;

    /// <summary>The domain of <see cref="To"/>; null without one.</summary>
    public string? LocalDomain => To?.LastIndexOf('@') is { } at and >= 0 ? To[(at + 1)..] : null;
}
