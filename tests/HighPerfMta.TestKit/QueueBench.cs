using System.Net;
using System.Text;
using HighPerfMta.Protocol.Addresses;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.TestKit;

/// <summary>A mail queue on a <see cref="MemoryRecordLog"/>, with the calls that tests of it repeat.</summary>
public sealed class QueueBench : IAsyncDisposable
{
    public QueueBench(MemoryRecordLog? log = null, QueueOptions? options = null, TimeProvider? time = null)
    {
        Log = log ?? new MemoryRecordLog();
        Options = options ?? new QueueOptions { DataDirectory = "unused", ChunkSize = 4096, SegmentSize = 64 << 10 };
        Time = time ?? TimeProvider.System;
        Queue = MailQueue.Open(Log, Options, Time, NullLogger.Instance);
    }

    public MemoryRecordLog Log { get; }

    public QueueOptions Options { get; }

    public TimeProvider Time { get; }

    public MailQueue Queue { get; }

    /// <summary>The process dies and the next one opens what is on the disk, and has loaded it.</summary>
    public async Task<QueueBench> CrashAsync()
    {
        QueueBench next = new(Log.Crash(), Options, Time);
        await next.StartAsync();
        return next;
    }

    /// <summary>Starts the queue; returns when what was there before is loaded.</summary>
    public async Task StartAsync()
    {
        Queue.Start();
        await Queue.Loaded.WaitAsync(TimeSpan.FromSeconds(30));
    }

    /// <summary>Everything that is queued, one for each job, in the order of the messages' ids.</summary>
    public async Task<List<QueuedMessage>> MessagesAsync()
    {
        List<QueuedMessage> messages = [];
        foreach (int slot in Slots())
        {
            messages.Add(await Queue.LoadAsync(slot));
        }

        return [.. messages.OrderBy(static m => m.Id).ThenBy(static m => m.Recipients[0])];
    }

    /// <summary>The one job that is queued.</summary>
    public async Task<QueuedMessage> SingleAsync() => (await MessagesAsync()).Single();

    public IReadOnlyList<int> Slots()
    {
        List<int> slots = [];
        for (int chunk = 0; chunk < Queue.Jobs.Chunks; chunk++)
        {
            ReadOnlySpan<Job> jobs = Queue.Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                if (jobs[i].Id != 0)
                {
                    slots.Add((chunk * JobTable.ChunkJobs) + i);
                }
            }
        }

        return slots;
    }

    public Envelope Envelope(params string[] recipients) => new()
    {
        Id = Queue.NextId(),
        Sender = Address("sender@example.org"),
        Recipients = [.. (recipients.Length == 0 ? ["one@example.net"] : recipients).Select(Address)],
        ReceivedAt = new DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.Zero),
        ClientAddress = IPAddress.Loopback,
        HeloName = "client.example.org",
    };

    public async Task<QueuedMessage> AcceptAsync(string body, params string[] recipients) => await AcceptAsync(Encoding.ASCII.GetBytes(body), recipients);

    public async Task<QueuedMessage> AcceptAsync(byte[] body, params string[] recipients)
    {
        using IncomingMessage incoming = Queue.Begin();
        await incoming.WriteAsync(body);
        return await incoming.CommitAsync(Envelope(recipients), Encoding.ASCII.GetBytes("Received: by here\r\n"));
    }

    public async Task<byte[]> ReadAsync(QueuedMessage message)
    {
        using BodyReader reader = Queue.OpenBody(message);
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

    public static EmailAddress Address(string text) =>
        AddressParser.TryParse(text, out EmailAddress? address, out string error) ? address! : throw new ArgumentException(error, nameof(text));

    public static RecipientState Delivered(int attempts = 1) => new(RecipientStatus.Delivered, attempts, default, null);

    public static RecipientState Deferred(int attempts, DateTimeOffset due, string text = "450 4.2.0 later") => new(
        RecipientStatus.Pending, attempts, due, new DeliveryOutcome(DeliveryStatus.Deferred, DeliveryStage.RcptTo, FaultOwner.Recipient, 450, new EnhancedCode(4, 2, 0), text, "mx.example.net"));

    public ValueTask DisposeAsync() => Queue.DisposeAsync();
}
