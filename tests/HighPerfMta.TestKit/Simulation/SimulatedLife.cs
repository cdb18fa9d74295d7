using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Intake;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.TestKit.Simulation;

/// <summary>One process of the simulated server: log, queue, intake, reports and delivery as they are, on a disk, a clock and a network that are not.</summary>
public sealed class SimulatedLife
{
    public const int PageSize = 8 << 10;
    public const int SegmentSize = 32 << 10;

    private readonly MailAccount _account;
    private Action? _forget;

    private SimulatedLife(int number, FaultyDisk disk, DateTimeOffset now, SimulatedNetwork network, MailAccount account, Random random)
    {
        Number = number;
        Disk = disk;
        HasCache = false;
        Time = new FakeTimeProvider(now);
        Background = new SimulatedBackground(random);
        Logs = new SimulatedLogs();
        Network = network.For(this);
        _account = account;
    }

    public int Number { get; }

    public FaultyDisk Disk { get; }

    public FakeTimeProvider Time { get; }

    public SimulatedBackground Background { get; }

    public SimulatedLogs Logs { get; }

    public SimulatedNetwork.View Network { get; }

    public FasterRecordLog Log { get; private set; } = null!;

    public MailQueue Queue { get; private set; } = null!;

    public DeliveryRoom Room { get; private set; } = null!;

    public IIntake Intake { get; private set; } = null!;

    /// <summary>False: three of four records are on the disk alone, and whoever reads them waits for it.</summary>
    public bool HasCache
    {
        set => Disk.OutOfMemory = value ? null : static (_, offset) => ((offset >> 6) & 3) != 0;
    }

    /// <summary>What the next process finds, once this one is dead.</summary>
    public FaultyDisk? Survivor { get; private set; }

    public bool IsDead => Survivor is not null;

    public static QueueOptions QueueOptions { get; } = new()
    {
        DataDirectory = "/data",
        Memory = 4 * PageSize,
        DiskLowWater = 2 * SegmentSize,
        SegmentSize = SegmentSize,
        PageSize = PageSize,
        ChunkSize = 4096,
        HotBodies = 32 << 10,
        ReopenInterval = TimeSpan.FromSeconds(5),
    };

    public static RetryOptions Retry { get; } = new()
    {
        Schedule = [TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(20)],
        Expire = TimeSpan.FromHours(8),
        DelayNotice = TimeSpan.FromHours(1),
    };

    public static DeliveryOptions Delivery { get; } = new() { Hostname = "mta.example", Shards = 2, Connections = 5, ConnectionsPerSite = 2, RecipientsPerTransaction = 3, DrainTimeout = TimeSpan.FromSeconds(20) };

    /// <summary>Starts a process on what a disk holds. The caller's thread is the only one that it ever runs on.</summary>
    /// <exception cref="LogOpenException">The disk would not let it.</exception>
    public static SimulatedLife Start(int number, FaultyDisk disk, DateTimeOffset now, SimulatedNetwork network, MailAccount account, Random random)
    {
        SimulatedLife life = new(number, disk, now, network, account, random);
        SynchronizationContext.SetSynchronizationContext(life.Background.Context);
        life.Open(random);
        return life;
    }

    private void Open(Random random)
    {
        Log = FasterRecordLog.Open(QueueOptions, Time, Logs.CreateLogger<FasterRecordLog>(), Disk, Background);
        Queue = MailQueue.Open(Log, QueueOptions, Time, Logs.CreateLogger<MailQueue>(), Background);
        EventSink events = new(this);
        PressureGauge pressure = new(Queue, new PressureOptions { DiskLowWater = QueueOptions.DiskLowWater }, Time, Logs.CreateLogger<PressureGauge>(), static () => 0);
        IntakeRoom intake = new(Queue, events, Time, Logs.CreateLogger<IntakeRoom>(), pressure);
        _forget = pressure.Dispose;
        Intake = new AccountedIntake(intake, this);
        AccountedReports reports = new(new ReportsRoom(Intake, Queue, Delivery.Hostname, Time, Logs.CreateLogger<ReportsRoom>(), Retry.Expire), this);
        Room = new DeliveryRoom(Queue, Network, Network, reports, events, Delivery, Retry, Time, Logs, random, Background);
        Queue.Announce = intake.Accepted + (Action<QueuedMessage>)Room.Enqueue;
        Queue.Restored = Room.Restore;
        Queue.Start();
    }

    /// <summary>The end comes just before the disk does its next operation but so many.</summary>
    /// <param name="operations">Operations that are still done.</param>
    /// <param name="power">The power goes, and what was not flushed with it; else the process is killed and the system lives on.</param>
    /// <param name="seed">Decides what a power failure leaves.</param>
    public void DieAfter(int operations, bool power, int seed)
    {
        int left = operations;
        Disk.Before = (operation, _) =>
        {
            if (operation != DiskOperations.Read && Survivor is null && left-- <= 0)
            {
                Die(power, seed);
            }
        };
    }

    public void LiveOn() => Disk.Before = null;

    /// <summary>The process is dead at once.</summary>
    public void Die(bool power, int seed) => Survivor ??= power ? Disk.PowerCut(seed) : Disk.Crash();

    /// <summary>Nothing of the process runs any more. Its meter would be remembered by the runtime, and all of the process with it.</summary>
    public void Bury()
    {
        Background.Abandon();
        _forget?.Invoke();
    }

    /// <summary>An orderly stop: drains, writes a checkpoint, gives the log up.</summary>
    public void Stop()
    {
        Background.Idle = () =>
        {
            Time.Advance(TimeSpan.FromSeconds(1));
            return Time.GetUtcNow() - _stopping < TimeSpan.FromMinutes(10);
        };
        _stopping = Time.GetUtcNow();
        Background.Await(async () =>
        {
            await Room.DisposeAsync();
            await Queue.DisposeAsync();
        });
        Survivor ??= Disk.Crash();
    }

    private DateTimeOffset _stopping;

    /// <summary>No power failure can take the message's records any more.</summary>
    public bool IsOnStableStorage(QueuedMessage message)
    {
        if (Queue.Jobs.TryRead(message.Slot, out Job job) && job.MessageId == message.Id && job.Accepted != message.Body.Accepted.Address)
        {
            // Compaction moved it while it was being sent; what it is sent from may be gone from the disk.
            return IsDurable(message.Body.Accepted with { Address = job.Accepted });
        }

        bool safe = IsDurable(message.Body.Accepted);
        foreach (RecordRef chunk in message.Body.Chunks)
        {
            safe &= IsDurable(chunk);
        }

        return safe;
    }

    private bool IsDurable(RecordRef record) =>
        Disk.IsDurable($"/data/log/seg.{record.Address / SegmentSize:D10}", record.Address % SegmentSize, RecordHeader.Footprint(record.Length));

    /// <summary>Every job that is queued now.</summary>
    public List<JobRef> Jobs()
    {
        List<JobRef> jobs = [];
        for (int chunk = 0; chunk < Queue.Jobs.Chunks; chunk++)
        {
            ReadOnlySpan<Job> span = Queue.Jobs.ReadChunk(chunk);
            for (int i = 0; i < span.Length; i++)
            {
                if (span[i].Id != 0)
                {
                    jobs.Add(new JobRef((chunk * JobTable.ChunkJobs) + i, span[i].MessageId));
                }
            }
        }

        return jobs;
    }

    private sealed class EventSink(SimulatedLife life) : IEventLog
    {
        public void Write(in MailEvent mailEvent)
        {
            if (!life.IsDead)
            {
                life._account.Saw(life, mailEvent);
            }
        }
    }

    /// <summary>The door as it is, with a note of what it promised.</summary>
    private sealed class AccountedIntake(IntakeRoom intake, SimulatedLife life) : IIntake
    {
        public SmtpReply? Refusal => intake.Refusal;

        public MessageId NextId() => intake.NextId();

        public IncomingMessage Begin() => intake.Begin();

        public async ValueTask<(SmtpReply? Refusal, QueuedMessage? Message)> CommitAsync(IncomingMessage incoming, Envelope envelope, ReadOnlyMemory<byte> prependedHeaders)
        {
            if (!life.IsDead && envelope.Sender is null && envelope.ClientAddress is null)
            {
                life._account.Attempting(envelope, null);
            }

            (SmtpReply? refusal, QueuedMessage? message) = await intake.CommitAsync(incoming, envelope, prependedHeaders);
            if (!life.IsDead)
            {
                if (refusal is null)
                {
                    life._account.Acknowledge(envelope.Id);
                }
                else
                {
                    life._account.Refuse(envelope.Id, life);
                }
            }

            return (refusal, message);
        }
    }

    private sealed class AccountedReports(IReports reports, SimulatedLife life) : IReports
    {
        public async ValueTask<bool> SendAsync(
            ReportKind kind, QueuedMessage message, IReadOnlyList<(int Recipient, DeliveryOutcome Outcome)> recipients, CancellationToken cancellation)
        {
            bool made = await reports.SendAsync(kind, message, recipients, cancellation);
            if (made && !life.IsDead)
            {
                life._account.Reported(kind, message, recipients);
            }

            return made;
        }
    }
}

/// <summary>Keeps what a process logs as an error, but for what the script makes happen.</summary>
public sealed class SimulatedLogs : ILoggerFactory
{
    public List<string> Errors { get; } = [];

    public ILogger CreateLogger(string categoryName) => new Logger(this);

    public void AddProvider(ILoggerProvider provider)
    {
    }

    public void Dispose()
    {
    }

    private sealed class Logger(SimulatedLogs logs) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (logLevel >= LogLevel.Error)
            {
                lock (logs.Errors)
                {
                    logs.Errors.Add($"{formatter(state, exception)}{(exception is null ? "" : $"\n{exception}")}");
                }
            }
        }
    }
}
