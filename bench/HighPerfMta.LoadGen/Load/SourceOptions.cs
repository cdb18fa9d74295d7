using System.Net;

namespace HighPerfMta.LoadGen.Load;

/// <summary>What a source sends, where, how fast, and when it ends.</summary>
internal sealed record SourceOptions
{
    public required EndPoint Target { get; init; }

    public int Connections { get; init; } = 20;

    /// <summary>0: a connection is used until the end.</summary>
    public int MessagesPerConnection { get; init; }

    public required SizeMix Sizes { get; init; }

    /// <summary>Messages a second over all connections, each due at its own time whatever became of those before; 0: as fast as possible.</summary>
    public double Rate { get; init; }

    /// <summary>Latencies of messages that are due before so much of the run is over are not kept: both ends compile what is hot at first.</summary>
    public TimeSpan WarmUp { get; init; }

    /// <summary>The first connections are opened one after the other over this time; zero: all at once, which overruns a short listen queue.</summary>
    public TimeSpan Ramp { get; init; }

    /// <summary>0: every command waits for its reply, as it does when the server does not announce PIPELINING. 1: MAIL, RCPT and DATA in one write. 2: also the next group with the end of the content.</summary>
    public int Pipeline { get; init; }

    /// <summary>Every certificate is taken: the target is its owner's.</summary>
    public LoadTls Tls { get; init; }

    public int Recipients { get; init; } = 1;

    /// <summary>Reverse-path, a <see cref="PathTemplate"/>. Empty: the null sender.</summary>
    public string From { get; init; } = "hpload@load.invalid";

    /// <summary>Forward-path, a <see cref="PathTemplate"/>.</summary>
    public string To { get; init; } = "user{r}@sink.invalid";

    /// <summary>Messages to try; 0: until <see cref="Duration"/> is over.</summary>
    public long Count { get; init; }

    public TimeSpan? Duration { get; init; }

    /// <summary>Bound of each reply and each write.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);

    public uint Run { get; init; } = (uint)Random.Shared.Next(1, int.MaxValue);

    /// <summary>Goes on connecting when the target refuses, for as long as the run lasts: the target is being restarted.</summary>
    public bool Reconnect { get; init; }

    /// <summary>Told the sequence number and hash of each accepted message, on the sender's thread.</summary>
    public Action<long, byte[]>? Accepted { get; init; }
}

/// <summary>
/// What a source did. Latencies run from the intended send time to the final reply, and leave out the time to warm up.
/// <paramref name="OwnDelayMs"/>: with a rate, how long each of those messages waited for the source itself, which its latency leaves out.
/// </summary>
internal sealed record SourceReport(
    string Run,
    long Attempted,
    long Accepted,
    long Refused,
    long Failed,
    SortedDictionary<int, long> RefusedByCode,
    string? FirstRefusal,
    string? FirstFailure,
    long Connections,
    double Seconds,
    double AcceptedPerSecond,
    LatencyFigures? LatencyMs,
    LatencyFigures? OwnDelayMs);
