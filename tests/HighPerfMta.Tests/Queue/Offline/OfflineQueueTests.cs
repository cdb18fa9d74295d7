using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Offline;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;

namespace HighPerfMta.Tests.Queue.Offline;

/// <summary>The queue read without a server is the queue that a server's start comes to.</summary>
public class OfflineQueueTests
{
    [Theory]
    [InlineData(OfflineSource.Checkpoint)]
    [InlineData(OfflineSource.Log)]
    public async Task Jobs_states_and_octets_are_those_of_a_start(OfflineSource source)
    {
        for (int seed = 100; seed < 115; seed++)
        {
            FaultyDisk disk = await SpoolBed.WorkAsync(seed);
            List<string> offline = await new SpoolBed(disk).UnchangedAsync(async directory =>
            {
                await using OfflineQueue queue = await OfflineQueue.OpenAsync(directory, source, TimeProvider.System);
                Assert.Empty(queue.Damage);
                return await DescribeAsync(queue.Queue);
            });
            await using MailQueue server = await new SpoolBed(disk.Crash()).StartAsync();
            Assert.Equal(await DescribeAsync(server), offline);
        }
    }

    [Fact]
    public async Task A_split_that_a_crash_cut_in_two_is_put_together_as_a_start_does()
    {
        SpoolBed bed = new();
        MailQueue queue = await bed.StartAsync();
        QueuedMessage message = await SpoolBed.AcceptAsync(queue, "split\r\n", "a@one.example", "b@two.example", "c@three.example");
        QueuedMessage[] parts = await queue.SplitAsync(message, [[0], [1, 2]]);
        await queue.UpdateDurablyAsync(parts[1], new RecipientUpdate[] { new(1, QueueBench.Deferred(1, DateTimeOffset.UnixEpoch.AddDays(25000))), new(2, QueueBench.Deferred(1, DateTimeOffset.UnixEpoch.AddDays(25000))) });
        FaultyDisk crashed = bed.Disk.Crash();
        await queue.DisposeAsync();

        // The state of the first part never reached the disk: two recipients are in a record that is theirs, and one is in none.
        long routed = 0;
        FaultyDisk copy = crashed.Crash();
        await using (FasterRecordLog log = LogBed.Open(copy, SpoolBed.Options))
        {
            log.Replay((scoped in ScannedRecord r) => routed = r.Type == RecordType.Routed && routed == 0 ? r.Ref.Address : routed, TestContext.Current.CancellationToken);
        }

        Assert.NotEqual(0, routed);
        new SpoolBed(crashed).Flip(routed + RecordHeader.Overhead);
        List<string> offline = await new SpoolBed(crashed).UnchangedAsync(async directory =>
        {
            await using OfflineQueue opened = await OfflineQueue.OpenAsync(directory, OfflineSource.Log, TimeProvider.System);
            return await DescribeAsync(opened.Queue);
        });
        await using MailQueue server = await new SpoolBed(crashed).StartAsync();
        Assert.Equal(await DescribeAsync(server), offline);
        Assert.Equal(2, offline.Count);
    }

    [Fact]
    public async Task A_checkpoint_that_cannot_be_used_is_left_out_with_the_reason()
    {
        SpoolBed bed = new();
        await using (MailQueue queue = await bed.StartAsync())
        {
            await SpoolBed.AcceptAsync(queue, "kept\r\n");
        }

        bed.Disk.Flip($"{SpoolBed.Folder}/{CheckpointFile.FileName}", 30);
        using OfflineDirectory directory = OfflineDirectory.Open(LogBed.Root, bed.Disk);
        await using OfflineQueue opened = await OfflineQueue.OpenAsync(directory, OfflineSource.Checkpoint, TimeProvider.System, cancellation: TestContext.Current.CancellationToken);
        Assert.Equal(1, opened.Queue.Count);
        Assert.Contains("damaged", opened.CheckpointProblem, StringComparison.Ordinal);
        Assert.Equal(opened.Sizes.LogBytes, opened.Sizes.BehindCheckpoint);
    }

    private static async Task<List<string>> DescribeAsync(IMailQueue queue)
    {
        List<string> described = [];
        for (int chunk = 0; chunk < queue.Jobs.Chunks; chunk++)
        {
            for (int i = 0; i < JobTable.ChunkJobs; i++)
            {
                int slot = (chunk * JobTable.ChunkJobs) + i;
                if (queue.Jobs.TryRead(slot, out Job job))
                {
                    QueuedMessage message = await queue.LoadAsync(slot);
                    using BodyReader body = queue.OpenBody(message);
                    string octets = Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(await SpoolBed.ReadAsync(body)));
                    string states = string.Join(' ', message.Recipients.ToArray().Select(r => $"{r}:{message.GetRecipient(r)}"));
                    described.Add($"{job.Id} {message.Envelope.Sender} {job.Flags} {job.Count} {job.Attempts} {job.DueAt} {states} {octets}");
                }
            }
        }

        described.Sort(StringComparer.Ordinal);
        return described;
    }
}
