using System.Globalization;
using System.Net;

namespace HighPerfMta.LoadGen.Load;

internal enum SinkStage { Connect, Mail, Rcpt, Data }

/// <summary>Refuses a share of what reaches a stage; <see cref="SinkStage.Data"/> is the reply to the final dot.</summary>
internal sealed record Rejection(SinkStage Stage, double Share, int Code)
{
    /// <summary>Reads <c>rcpt=5%:550,data=1%:452</c>.</summary>
    public static bool TryParse(string text, out IReadOnlyList<Rejection> rejections)
    {
        var list = new List<Rejection>();
        rejections = list;
        foreach (var part in text.Split(','))
        {
            var fields = part.Split('=', '%', ':');
            if (fields.Length != 4 || fields[2].Length != 0
                || !Enum.TryParse<SinkStage>(fields[0], ignoreCase: true, out var stage) || !Enum.IsDefined(stage)
                || !double.TryParse(fields[1], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var percent) || percent > 100
                || !int.TryParse(fields[3], NumberStyles.None, CultureInfo.InvariantCulture, out var code) || code is < 400 or > 599)
            {
                return false;
            }

            list.Add(new Rejection(stage, percent / 100, code));
        }

        return true;
    }
}

/// <summary>What a sink announces, refuses and delays, and when it ends.</summary>
internal sealed record SinkOptions
{
    public static readonly IReadOnlyList<string> AllExtensions = ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"];

    /// <summary>What may be announced: parameters of these are taken and not looked at.</summary>
    public static readonly IReadOnlyList<string> KnownExtensions = [.. AllExtensions, "DSN"];

    public required IPEndPoint Listen { get; init; }

    public IReadOnlyList<string> Announce { get; init; } = AllExtensions;

    public IReadOnlyList<Rejection> Rejections { get; init; } = [];

    /// <summary>Recipients that are answered with a 4xx, before any rejection is rolled.</summary>
    public Deferral? Deferral { get; init; }

    /// <summary>Pause before the reply to each message.</summary>
    public TimeSpan Delay { get; init; }

    /// <summary>Messages after which the sink ends; 0: none.</summary>
    public long Count { get; init; }

    public TimeSpan? Duration { get; init; }

    public int Seed { get; init; } = 1;

    /// <summary>A connection that says nothing for so long is closed.</summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Connections at once; more are closed at once.</summary>
    public int MaxConnections { get; init; } = 10_000;

    public LoadTls Tls { get; init; }

    /// <summary>PEM of the certificate and of its key, in one file; null: one that is made at the start, for nobody in particular.</summary>
    public string? CertificateFile { get; init; }

    /// <summary>Hashes messages and hands over each one that was answered with 250.</summary>
    public Action<ReceivedMessage>? Received { get; init; }
}

/// <summary>A message the sink took: octets from its first to its last, and the hash from its mark to its end.</summary>
internal readonly record struct ReceivedMessage(MessageMark? Mark, long Size, byte[] Sha256, long ReceivedAt);

/// <summary>
/// What a sink got. End-to-end latency runs from the intended send time in the mark to the 250. <paramref name="FirstAt"/>: when the first message
/// was taken, seconds since 1970; null when none was.
/// </summary>
internal sealed record SinkReport(
    long Delivered,
    long Unmarked,
    long Unique,
    long Duplicates,
    long Beyond,
    long Recipients,
    long Rejected,
    long Deferred,
    long Octets,
    long Connections,
    long Broken,
    double Seconds,
    double DeliveredPerSecond,
    double? FirstAt,
    LatencyFigures? LatencyMs);
