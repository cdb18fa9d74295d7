using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Queue;

/// <summary>A checkpoint is written while the table changes: what it says of a message may be of several moments.</summary>
public class ChangingCheckpointTests
{
    private static readonly QueueOptions Options = LogBed.Options() with { SegmentSize = 64 << 20, Memory = 4 << 20, ChunkSize = 4 << 10, ReadySegments = 2 };

    /// <summary>The first job is written as its message's only one, then it is split and ends, then the other part is written as the only one.</summary>
    [Theory]
    [InlineData(100)]
    [InlineData(10_000)]
    public async Task A_message_that_is_split_between_two_chunks_is_counted_and_pinned_once(int octets)
    {
        FaultyDisk disk = new();
        int others;
        MessageId id;
        await using (MailQueue queue = Open(disk))
        {
            queue.Start();
            await queue.Loaded.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            QueuedMessage message = await AcceptAsync(queue, octets, "a@one.example", "b@two.example");
            id = message.Id;
            others = JobTable.ChunkJobs + 10;
            await Task.WhenAll(Enumerable.Range(0, 64).Select(async n =>
            {
                for (int i = n; i < others; i += 64)
                {
                    await AcceptAsync(queue, 10, "c@three.example");
                }
            }));
            Task checkpoint;
            using (DiskFault fault = disk.Block(DiskOperations.Write, CheckpointFile.NewFileName, after: 1))
            {
                checkpoint = Task.Run(() => queue.CheckpointAsync());
                await fault.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
                QueuedMessage[] parts = await queue.SplitAsync(message, [[0], [1]]);
                Assert.True(parts[0].Slot < JobTable.ChunkJobs && parts[1].Slot > JobTable.ChunkJobs);
                await queue.UpdateDurablyAsync(parts[0], new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
            }

            await checkpoint.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            disk = disk.Crash();
        }

        await using (MailQueue queue = Open(disk))
        {
            queue.Start();
            await queue.Loaded.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            Assert.True(queue.Statistics.CheckpointAddress > 0);
            Assert.Equal((others + 1, others + 1, others + 1), (queue.Count, queue.Jobs.Count, queue.Live.Count));
            QueuedMessage left = await queue.LoadAsync(Assert.Single(queue.FindJobs(id)), TestContext.Current.CancellationToken);
            Assert.Equal([1], left.Recipients.ToArray());
            Assert.Equal(octets, (await ReadAsync(queue, left)).Length);
            await queue.UpdateDurablyAsync(left, new RecipientUpdate[] { new(1, QueueBench.Delivered()) });
            Assert.Equal((others, others), (queue.Count, queue.Live.Count));
        }
    }

    private static MailQueue Open(FaultyDisk disk) =>
        MailQueue.Open(LogBed.Open(disk, Options), Options, TimeProvider.System, NullLogger.Instance);

    private static async Task<QueuedMessage> AcceptAsync(MailQueue queue, int octets, params string[] recipients)
    {
        using IncomingMessage incoming = queue.Begin();
        await incoming.WriteAsync(new byte[octets]);
        Envelope envelope = new()
        {
            Id = queue.NextId(),
            Sender = null,
            Recipients = [.. recipients.Select(QueueBench.Address)],
            ReceivedAt = DateTimeOffset.UnixEpoch,
        };
        return await incoming.CommitAsync(envelope, ReadOnlyMemory<byte>.Empty);
    }

    private static async Task<byte[]> ReadAsync(MailQueue queue, QueuedMessage message)
    {
        using BodyReader reader = queue.OpenBody(message);
        List<byte> octets = [];
        for (ReadOnlyMemory<byte> piece = await reader.ReadAsync(); !piece.IsEmpty; piece = await reader.ReadAsync())
        {
            octets.AddRange(piece.Span);
        }

        return [.. octets];
    }
}
