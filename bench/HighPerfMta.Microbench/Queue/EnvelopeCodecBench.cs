using System.Net;
using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Microbench.Queue;

/// <summary>The records of a message's life. Writing allocates nothing; reading, at start only, allocates what the queue keeps.</summary>
public class EnvelopeCodecBench
{
    private static readonly RecipientState Deferred = new(
        RecipientStatus.Pending,
        1,
        new DateTimeOffset(2026, 1, 2, 3, 9, 5, TimeSpan.Zero),
        new DeliveryOutcome(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 450, new EnhancedCode(4, 2, 0), "Try again later", "mx.example.net [192.0.2.1]", ""));

    private readonly Envelope _envelope = new()
    {
        Id = new MessageId(0x0123456789ABCDEF),
        Sender = EmailAddress.Restore("sender", "example.com"),
        Recipients = [EmailAddress.Restore("recipient", "example.net")],
        ReceivedAt = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero),
        Body = BodyEncoding.EightBitMime,
        ClientAddress = IPAddress.Parse("192.0.2.17"),
        HeloName = "client.example.com",
    };

    private byte[] _accepted = [];
    private byte[] _update = [];

    [GlobalSetup]
    public void Setup()
    {
        using RecordWriter accepted = Accepted();
        _accepted = accepted.Written.ToArray();
        using RecordWriter update = Update();
        _update = update.Written.ToArray();
    }

    [Benchmark]
    public int WriteAccepted()
    {
        using RecordWriter writer = Accepted();
        return writer.Length;
    }

    [Benchmark]
    public int ReadAccepted() => AcceptedCodec.Read(1, _accepted).InlineOffset;

    [Benchmark]
    public int WriteUpdate()
    {
        using RecordWriter writer = Update();
        return writer.Length;
    }

    [Benchmark]
    public int ReadUpdate() => UpdateCodec.Read(_update, out _)!.Count;

    private RecordWriter Accepted()
    {
        RecordWriter writer = new(512);
        AcceptedCodec.Write(ref writer, _envelope, 0, []);
        return writer;
    }

    private static RecordWriter Update()
    {
        RecordWriter writer = new(512);
        UpdateCodec.Begin(ref writer, 1);
        UpdateCodec.WriteState(ref writer, 0, Deferred);
        return writer;
    }
}
