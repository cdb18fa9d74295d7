using BenchmarkDotNet.Attributes;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Microbench.Queue;

/// <summary>A 1 KiB message through the queue on a real log: received, committed, read once, delivered; twenty at a time.</summary>
public class MailQueueBench
{
    private const int Group = 20;

    private static readonly EmailAddress Sender = EmailAddress.Restore("sender", "example.com");
    private static readonly EmailAddress[] Recipients = [EmailAddress.Restore("recipient", "example.net")];
    private static readonly byte[] Received = new byte[200];
    private static readonly RecipientUpdate[] Delivered = [new(0, new RecipientState(RecipientStatus.Delivered, 1, DateTimeOffset.UnixEpoch, null))];

    private readonly Task[] _messages = new Task[Group];
    private string _directory = "";
    private MailQueue? _queue;

    [GlobalSetup]
    public void Setup()
    {
        _directory = Directory.CreateTempSubdirectory("hpmta-bench-").FullName;
        var options = new QueueOptions { DataDirectory = _directory, SegmentSize = 16 << 20, PageSize = 1 << 20, Memory = 8 << 20, DiskLowWater = 0 };
        var log = FasterRecordLog.Open(options, TimeProvider.System);
        _queue = MailQueue.Open(log, options, TimeProvider.System, NullLogger.Instance);
        _queue.Start();
    }

    [Benchmark(OperationsPerInvoke = Group)]
    public async Task Relay()
    {
        for (var i = 0; i < Group; i++)
        {
            _messages[i] = RelayOneAsync();
        }

        await Task.WhenAll(_messages);
    }

    [GlobalCleanup]
    public async Task CleanupAsync()
    {
        if (_queue is not null)
        {
            await _queue.DisposeAsync();
            Directory.Delete(_directory, recursive: true);
        }
    }

    private async Task RelayOneAsync()
    {
        var envelope = new Envelope
        {
            Id = _queue!.NextId(),
            Sender = Sender,
            Recipients = Recipients,
            ReceivedAt = DateTimeOffset.UnixEpoch,
            HeloName = "client.example.com",
        };
        QueuedMessage message;
        using (var incoming = _queue.Begin())
        {
            await incoming.GetMemoryAsync(1024);
            incoming.Advance(1024);
            message = await incoming.CommitAsync(envelope, Received);
        }

        using (var body = _queue.OpenBody(message))
        {
            while ((await body.ReadAsync()).Length > 0)
            {
                // Only read.
            }
        }

        await _queue.UpdateAsync(message, Delivered);
    }
}
