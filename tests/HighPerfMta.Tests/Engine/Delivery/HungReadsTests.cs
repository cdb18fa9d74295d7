using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>Two sites with a backlog of before the start, which is nowhere in memory; the part of the disk that holds one's mail does not answer. Delivery on the real queue, threads and log.</summary>
public sealed class HungReadsTests : IAsyncDisposable
{
    private const int Messages = 100;

    /// <summary>The site is given all its connections only once it has answered that often.</summary>
    private const int Before = 40;

    private readonly FaultyDisk _disk = new();
    private readonly DateTimeOffset _start = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);
    private readonly FakeTimeProvider _time;
    private readonly DeliveryOptions _options = new() { Hostname = "mta.example", Shards = 2 };
    private readonly List<DiskFault> _hangs = [];
    private readonly ScriptedCouriers _couriers;
    private FasterRecordLog _log = null!;
    private MailQueue _queue = null!;
    private DeliveryRoom _room = null!;

    public HungReadsTests()
    {
        _time = new FakeTimeProvider(_start);
        _couriers = new ScriptedCouriers(_time);
    }

    public async ValueTask DisposeAsync()
    {
        LetGo();
        await _room.DisposeAsync();
        await _queue.DisposeAsync();
    }

    [Fact]
    public async Task The_other_site_gets_its_mail_and_new_mail_is_taken()
    {
        await BeginAsync();
        await AllWaitAsync();
        await Waiting.UntilAsync(() => Delivered("well.example") == Messages);
        QueuedMessage fresh = await AcceptAsync("new.example", 3000);
        _room.Enqueue(fresh);
        await Waiting.UntilAsync(() => Delivered("new.example") == 1);
        Assert.Equal((0, LogCondition.Healthy), (Delivered("hung.example") - Before, _queue.Condition));
        Assert.InRange(_log.ReadsWaiting, 1, Hung().Connections - DiskReaders.MostOfShare);

        LetGo();
        await Waiting.UntilAsync(() => _queue.Count == 0);
        Assert.Equal(Before + Messages, Delivered("hung.example"));
    }

    /// <summary>The site has more connections than reads: they are opened one after the other while nothing comes of those there are.</summary>
    private async Task AllWaitAsync()
    {
        for (int i = 0; i < 50 && Hung().Connections < _options.ConnectionsPerSite; i++)
        {
            _time.Advance(TimeSpan.FromMilliseconds(300));
            await _room.WorkedOffAsync();
        }

        Assert.InRange(Hung().Connections, DiskReaders.MostOfShare + 1, _options.ConnectionsPerSite);
        await Waiting.UntilAsync(() => _log.ReadsWaiting > 0);
    }

    private SiteStatus Hung() => _room.Sites().Single(static s => s.Key == "mx:hung.example");

    /// <summary>Some mail of the one site, then its mail that will hang, then that of the other, each in segments of its own; another process finds it.</summary>
    private async Task BeginAsync()
    {
        FasterRecordLog log = LogBed.Open(_disk, _time);
        _queue = MailQueue.Open(log, LogBed.Options(), _time, NullLogger.Instance);
        _queue.Start();
        await FillAsync(log, "hung.example", Before);
        SortedSet<long> hung = await FillAsync(log, "hung.example", Messages);
        await FillAsync(log, "well.example", Messages);
        await _queue.DisposeAsync();

        _log = LogBed.Open(_disk, _time);
        _queue = MailQueue.Open(_log, LogBed.Options(), _time, NullLogger.Instance);
        List<int> restored = [];
        _queue.Restored = restored.Add;
        _queue.Start();
        await _queue.Loaded.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        _disk.OutOfMemory = static (_, _) => true;
        _hangs.AddRange(hung.Select(n => _disk.Block(DiskOperations.Read, LogBed.Segment((int)n))));
        _room = new DeliveryRoom(_queue, new DomainResolver(), _couriers, new RecordingReports(), new RecordingEventLog(), _options, new RetryOptions(), _time, NullLoggerFactory.Instance, new Random(7));
        List<int> first = restored.FindAll(slot => _queue.Jobs[slot].Accepted / LogBed.SegmentSize < hung.Min);
        first.ForEach(_room.Restore);
        await Waiting.UntilAsync(() => Delivered("hung.example") == Before);
        restored.RemoveAll(first.Contains);
        restored.ForEach(_room.Restore);
        await _room.WorkedOffAsync();
    }

    /// <summary>Messages for a domain; returns their segments, in which nothing else comes before or behind.</summary>
    private async Task<SortedSet<long>> FillAsync(FasterRecordLog log, string domain, int count)
    {
        SortedSet<long> segments = [];
        for (int i = 0; i < count; i++)
        {
            segments.Add((await AcceptAsync(domain, 3000)).Body.Accepted.Address / LogBed.SegmentSize);
        }

        while (log.TailAddress / LogBed.SegmentSize <= segments.Max)
        {
            await log.AppendDurablyAsync(1, 3000, RecordType.BodyChunk);
        }

        return segments;
    }

    private async Task<QueuedMessage> AcceptAsync(string domain, int length)
    {
        using IncomingMessage incoming = _queue.Begin();
        await incoming.WriteAsync(LogBed.Payload(7, length), TestContext.Current.CancellationToken);
        Envelope envelope = new() { Id = _queue.NextId(), Sender = null, Recipients = [QueueBench.Address($"r@{domain}")], ReceivedAt = _time.GetUtcNow() };
        return await incoming.CommitAsync(envelope, ReadOnlyMemory<byte>.Empty);
    }

    private int Delivered(string domain) => _couriers.Attempts.Count(a => a.Site == $"mx:{domain}");

    private void LetGo()
    {
        _hangs.ForEach(static h => h.Dispose());
        _hangs.Clear();
    }
}
