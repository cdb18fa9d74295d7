using System.Buffers;
using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Smtp;

namespace HighPerfMta.Microbench.Smtp;

/// <summary>Replies of a next hop: the common ones are known and shared; others become a value with their text.</summary>
public class ReplyBench
{
    private static readonly ReadOnlySequence<byte> Ok = new("250 2.1.5 Ok\r\n"u8.ToArray());
    private static readonly ReadOnlySequence<byte> GoOn = new("354 End data with <CR><LF>.<CR><LF>\r\n"u8.ToArray());
    private static readonly ReadOnlySequence<byte> Queued = new("250 2.0.0 Ok: queued as 4F2D21A0B7\r\n"u8.ToArray());
    private static readonly ReadOnlySequence<byte> Refused = new("550 5.1.1 <user@example.net>: Recipient address rejected\r\n"u8.ToArray());
    private static readonly ReadOnlySequence<byte> Ehlo = new(
        "250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n"u8.ToArray());

    [Benchmark]
    public ReplyStatus Common() => ReplyParser.TryRead(Ok, out _, out _);

    [Benchmark]
    public ReplyStatus Intermediate() => ReplyParser.TryRead(GoOn, out _, out _);

    /// <summary>The text is kept: it goes into the event log.</summary>
    [Benchmark]
    public ReplyStatus WithQueueId() => ReplyParser.TryRead(Queued, out _, out _);

    [Benchmark]
    public ReplyStatus Refusal() => ReplyParser.TryRead(Refused, out _, out _);

    /// <summary>Once a connection.</summary>
    [Benchmark]
    public PeerCapabilities? Capabilities()
    {
        ReplyParser.TryRead(Ehlo, out var reply, out _);
        return reply is null ? null : PeerCapabilities.Parse(reply);
    }
}
