using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Queue;

/// <summary>A message changes while its copy is on its way to the disk.</summary>
public class ChangingCompactionTests
{
    /// <summary>The part that keeps the slot ends; the other is in a slot that compaction has not looked at.</summary>
    [Fact]
    public async Task A_message_that_is_split_behind_its_copy_lives_on_in_its_other_part()
    {
        FaultyDisk disk = new();
        MessageId id;
        FasterRecordLog log = LogBed.Open(disk);
        await using (MailQueue queue = Open(log))
        {
            queue.Start();
            await queue.Loaded.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            QueuedMessage message = await AcceptAsync(queue);
            id = message.Id;
            await FillAsync(log, 4 * LogBed.SegmentSize);

            Task<bool> compaction;
            using (DiskFault held = disk.Block(DiskOperations.Flush, "/log/seg."))
            {
                compaction = Task.Run(() => queue.CompactAsync());
                await held.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
                QueuedMessage[] parts = await queue.SplitAsync(message, [[0], [1]]);
                await queue.UpdateAsync(parts[0], new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
                Assert.Equal(parts[1].Slot, Assert.Single(queue.FindJobs(id)));
            }

            await compaction.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            await FillAsync(log, log.TailAddress + 1000);
            disk = disk.Crash();
        }

        await using (MailQueue queue = Open(LogBed.Open(disk)))
        {
            queue.Start();
            await queue.Loaded.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            QueuedMessage left = await queue.LoadAsync(Assert.Single(queue.FindJobs(id)), TestContext.Current.CancellationToken);
            Assert.Equal([1], left.Recipients.ToArray());
        }
    }

    private static async Task FillAsync(FasterRecordLog log, long until)
    {
        while (log.TailAddress < until)
        {
            await log.AppendDurablyAsync(1, 3000, RecordType.BodyChunk);
        }
    }

    private static MailQueue Open(FasterRecordLog log) => MailQueue.Open(log, LogBed.Options(), TimeProvider.System, NullLogger.Instance);

    private static async Task<QueuedMessage> AcceptAsync(MailQueue queue)
    {
        using IncomingMessage incoming = queue.Begin();
        await incoming.WriteAsync(new byte[100]);
        Envelope envelope = new()
        {
            Id = queue.NextId(),
            Sender = null,
            Recipients = [QueueBench.Address("a@one.example"), QueueBench.Address("b@two.example")],
            ReceivedAt = DateTimeOffset.UnixEpoch,
        };
        return await incoming.CommitAsync(envelope, ReadOnlyMemory<byte>.Empty);
    }
}
