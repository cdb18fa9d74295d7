using System.Text;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Queue;

/// <summary>The mail queue on the real log, in a folder of its own.</summary>
public sealed class MailQueueOnDiskTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("hpmta-queue-").FullName;

    private QueueOptions Options => new()
    {
        DataDirectory = _folder,
        Memory = 1 << 20,
        SegmentSize = 1 << 20,
        PageSize = 64 << 10,
        ReadySegments = 2,
        ChunkSize = 16 << 10,
        DiskLowWater = 0,
    };

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Messages_states_and_octets_survive_and_finished_segments_go()
    {
        Dictionary<MessageId, byte[]> bodies = [];
        Dictionary<MessageId, RecipientState> states = [];
        await using (MailQueue queue = Open())
        {
            queue.Start();
            await Parallel.ForEachAsync(Enumerable.Range(0, 400), new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (i, _) =>
            {
                byte[] body = new byte[i % 20 == 0 ? 100_000 : 1000 + i];
                new Random(i).NextBytes(body);
                QueuedMessage message = await AcceptAsync(queue, body);
                RecipientState state = i % 40 == 7
                    ? QueueBench.Deferred(i, DateTimeOffset.UnixEpoch.AddSeconds(i), $"450 try {i}")
                    : QueueBench.Delivered();
                await queue.UpdateAsync(message, new RecipientUpdate[] { new(0, state) });
                if (!state.IsFinal)
                {
                    lock (bodies)
                    {
                        bodies[message.Id] = body;
                        states[message.Id] = state;
                    }
                }
            });
            Assert.Equal(10, queue.Count);
        }

        await using (MailQueue queue = Open())
        {
            List<int> restored = [];
            queue.Restored = restored.Add;
            queue.Start();
            await queue.Loaded.WaitAsync(TimeSpan.FromSeconds(30));
            List<QueuedMessage> messages = [];
            foreach (int slot in restored)
            {
                messages.Add(await queue.LoadAsync(slot));
            }

            Assert.Equal(states.Keys.Order(), messages.Select(static m => m.Id).Order());
            foreach (QueuedMessage message in messages)
            {
                Assert.Equal(states[message.Id], message.GetRecipient(0));
                Assert.Equal(bodies[message.Id], await ReadAsync(queue, message));
                await queue.UpdateDurablyAsync(message, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
            }
        }

        await using (MailQueue queue = Open())
        {
            queue.Start();
            await queue.Loaded.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.Equal(0, queue.Count);
            await AcceptAsync(queue, Encoding.ASCII.GetBytes("the last\r\n"));
            await Waiting.UntilAsync(() => Directory.GetFiles(Path.Combine(_folder, "log"), "seg.*").Length is 1 or 2);
        }
    }

    [Fact]
    public async Task A_second_queue_on_the_same_directory_is_refused()
    {
        await using MailQueue queue = Open();
        Assert.Throws<LogOpenException>(Open);
    }

    private MailQueue Open() =>
        MailQueue.Open(FasterRecordLog.Open(Options, TimeProvider.System), Options, TimeProvider.System, NullLogger.Instance);

    private static async Task<QueuedMessage> AcceptAsync(MailQueue queue, byte[] body)
    {
        using IncomingMessage incoming = queue.Begin();
        await incoming.WriteAsync(body);
        Envelope envelope = new()
        {
            Id = queue.NextId(),
            Sender = null,
            Recipients = [QueueBench.Address("a@example.net")],
            ReceivedAt = DateTimeOffset.UnixEpoch,
        };
        return await incoming.CommitAsync(envelope, ReadOnlyMemory<byte>.Empty);
    }

    private static async Task<byte[]> ReadAsync(MailQueue queue, QueuedMessage message)
    {
        using BodyReader reader = queue.OpenBody(message);
        using MemoryStream octets = new();
        while (true)
        {
            ReadOnlyMemory<byte> piece = await reader.ReadAsync();
            if (piece.IsEmpty)
            {
                return octets.ToArray();
            }

            octets.Write(piece.Span);
        }
    }
}
