using System.Net;
using System.Text;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Offline;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Queue.Offline;

/// <summary>A queue on a disk in memory, with small pages, segments and chunks, that is stopped and looked at.</summary>
internal sealed class SpoolBed(FaultyDisk? disk = null)
{
    public FaultyDisk Disk { get; } = disk ?? new FaultyDisk();

    public static string Folder => $"{LogBed.Root}/log";

    public static QueueOptions Options => LogBed.Options() with { ChunkSize = 4096 };

    /// <summary>Starts the queue; what was there before is loaded.</summary>
    public async Task<MailQueue> StartAsync()
    {
        MailQueue queue = MailQueue.Open(LogBed.Open(Disk, Options), Options, TimeProvider.System, NullLogger.Instance);
        queue.Start();
        await queue.Loaded.WaitAsync(LogBed.Patience);
        return queue;
    }

    public static Task<QueuedMessage> AcceptAsync(MailQueue queue, string body, params string[] recipients) => AcceptAsync(queue, body, parameters: null, recipients);

    public static async Task<QueuedMessage> AcceptAsync(MailQueue queue, string body, EnvelopeParameters? parameters, params string[] recipients)
    {
        using IncomingMessage incoming = queue.Begin();
        await incoming.WriteAsync(Encoding.Latin1.GetBytes(body));
        Envelope envelope = new()
        {
            Id = queue.NextId(),
            Sender = QueueBench.Address("sender@example.org"),
            Recipients = [.. (recipients.Length == 0 ? ["one@example.net"] : recipients).Select(QueueBench.Address)],
            ReceivedAt = new DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.Zero),
            ClientAddress = IPAddress.Loopback,
            HeloName = "client.example.org",
            Body = BodyEncoding.EightBitMime,
        };
        envelope = parameters is null ? envelope : new EnvelopeWithParameters(envelope, parameters);
        return await incoming.CommitAsync(envelope, "Received: by here\r\n"u8.ToArray());
    }

    /// <summary>Verifies, and sees to it that nothing on the disk is changed.</summary>
    public async Task<SpoolReport> VerifyAsync() => await UnchangedAsync(async directory => await SpoolVerifier.RunAsync(directory, TimeProvider.System));

    public async Task<T> UnchangedAsync<T>(Func<OfflineDirectory, Task<T>> look)
    {
        Dictionary<string, byte[]> before = Disk.AllFiles().ToDictionary(static f => f, Disk.Contents);
        T result;
        using (Disk.Fail(DiskOperations.Changes, 30))
        {
            using OfflineDirectory directory = OfflineDirectory.Open(LogBed.Root, Disk);
            result = await look(directory);
        }

        Assert.Equal(before.Keys.Order(), Disk.AllFiles().Order());
        Assert.All(before, f => Assert.Equal(f.Value, Disk.Contents(f.Key)));
        return result;
    }

    public void Flip(long address) => Disk.Flip(LogBed.Segment((int)(address / LogBed.SegmentSize)), address % LogBed.SegmentSize);

    public void RemoveCheckpoint()
    {
        if (Disk.AllFiles().Contains($"{Folder}/{CheckpointFile.FileName}"))
        {
            Disk.Remove($"{Folder}/{CheckpointFile.FileName}");
        }
    }

    public static async Task<byte[]> ReadAsync(BodyReader reader)
    {
        using MemoryStream octets = new();
        while (await reader.ReadAsync() is { IsEmpty: false } piece)
        {
            octets.Write(piece.Span);
        }

        return octets.ToArray();
    }

    /// <summary>A queue at work, compacted and checkpointed at times, that ends in one of the ways in which servers end.</summary>
    public static async Task<FaultyDisk> WorkAsync(int seed)
    {
        Random random = new(seed);
        SpoolBed bed = new();
        for (int run = 0; run < 3; run++)
        {
            MailQueue queue = await bed.StartAsync();
            await WorkAsync(queue, random);
            FaultyDisk next = random.Next(3) switch
            {
                0 => bed.Disk.Crash(),
                1 => bed.Disk.PowerCut(seed),
                _ => bed.Disk,
            };
            await queue.DisposeAsync();
            bed = new SpoolBed(next);
        }

        return bed.Disk;
    }

    private static async Task WorkAsync(MailQueue queue, Random random)
    {
        List<QueuedMessage> jobs = [];
        for (int step = 0; step < 120; step++)
        {
            int at = jobs.Count == 0 ? 0 : random.Next(jobs.Count);
            switch (jobs.Count == 0 ? 0 : random.Next(9))
            {
                case < 4:
                    string[] recipients = [.. Enumerable.Range(0, 1 + random.Next(3)).Select(static i => $"r{i}@d{i}.example")];
                    EnvelopeParameters? parameters = random.Next(3) == 0 ? new EnvelopeParameters { EnvelopeId = $"id{step}", Recipients = [new RecipientParameters(NotifyConditions.Never, null), .. new RecipientParameters?[recipients.Length - 1]] } : null;
                    jobs.Add(await AcceptAsync(queue, new string('b', random.Next(4) == 0 ? 9000 : 500) + "\r\n", parameters, recipients));
                    break;
                case 4 when jobs[at].Recipients.Length > 1 && jobs[at].OpenRecipients == jobs[at].Recipients.Length:
                    QueuedMessage[] parts = await queue.SplitAsync(jobs[at], [.. jobs[at].Recipients.ToArray().Select(static r => new[] { r })]);
                    jobs.AddRange(parts[1..]);
                    break;
                case 5:
                    await UpdateAsync(queue, jobs[at], QueueBench.Deferred(random.Next(20), DateTimeOffset.UnixEpoch.AddDays(25000)));
                    break;
                case 6:
                    await queue.SteerAsync(new[] { jobs[at].Slot }, new Steering(random.Next(2) == 0 ? SteeringKind.Drop : SteeringKind.Hold, default));
                    jobs.RemoveAt(at);
                    break;
                case 7 when random.Next(6) == 0:
                    await queue.CheckpointAsync();
                    break;
                case 8 when random.Next(4) == 0:
                    await queue.CompactAsync();
                    break;
                default:
                    await UpdateAsync(queue, jobs[at], QueueBench.Delivered());
                    jobs.RemoveAt(at);
                    break;
            }
        }
    }

    private static async Task UpdateAsync(MailQueue queue, QueuedMessage job, RecipientState state) =>
        await queue.UpdateAsync(job, job.Recipients.ToArray().Select(r => new RecipientUpdate(r, state)).ToArray());
}
