using System.Net;
using System.Text;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.TestKit.Simulation;

/// <summary>What a simulation came to.</summary>
/// <param name="Seed">Replays it.</param>
/// <param name="Violations">Breaches of the contract; empty when all is well.</param>
/// <param name="Trace">What was done, step by step.</param>
/// <param name="Fingerprint">Equal for equal runs.</param>
/// <param name="Counts">What happened in it.</param>
public sealed record SimulationResult(int Seed, IReadOnlyList<string> Violations, IReadOnlyList<string> Trace, ulong Fingerprint, SimulationCounts Counts);

public readonly record struct SimulationCounts(int Lives, int Acknowledged, int Deliveries, int Duplicates, int SentWhole, int Reports, int CameBack, int Checkpoints, long Moved, int LogFailures, long Pieces)
{
    public static SimulationCounts operator +(SimulationCounts a, SimulationCounts b) => new(
        a.Lives + b.Lives, a.Acknowledged + b.Acknowledged, a.Deliveries + b.Deliveries, a.Duplicates + b.Duplicates, a.SentWhole + b.SentWhole, a.Reports + b.Reports,
        a.CameBack + b.CameBack, a.Checkpoints + b.Checkpoints, a.Moved + b.Moved, a.LogFailures + b.LogFailures, a.Pieces + b.Pieces);
}

/// <summary>
/// A server's queue and scheduler over several lives, on virtual time, over a disk that fails, tears and forgets, and a network with moods: random, and the same for the same seed. After each step the contract is
/// checked: nothing acknowledged is lost, nothing is delivered before it is committed, nothing comes twice without a reason, nothing is stuck, disk and memory keep their bounds.
/// </summary>
public sealed class Simulation
{
    private const int PiecesPerStep = 200_000;

    /// <summary>Looks at the start until one is not disturbed: what is under way then comes to its end.</summary>
    private const int MostLooks = 1000;

    private readonly Random _random;
    private readonly int _seed;
    private readonly MailAccount _account = new();
    private readonly SimulatedNetwork _network;
    private readonly List<string> _trace = [];
    private readonly List<DiskFault> _faults = [];
    private readonly List<Task> _tasks = [];
    private ulong _fingerprint = 14695981039346656037;
    private SimulatedLife _life = null!;
    private SimulatedLife? _before;
    private SimulationCounts _counts;
    private DateTimeOffset _now = new(2026, 6, 1, 0, 0, 0, TimeSpan.Zero);
    private int _lives;
    private int _addresses;

    private Simulation(int seed)
    {
        _seed = seed;
        _random = new Random(seed);
        _network = new SimulatedNetwork(_random, _account);
        _account.Told = Note;
    }

    /// <summary>Runs the scenario of a seed, on the caller's thread.</summary>
    public static SimulationResult Run(int seed) => Run(seed, static s => s.RunAll());

    /// <summary>Some mail and what becomes of it, with no other fault than one death before an operation on the disk.</summary>
    /// <param name="seed">Decides the mail and the order of things.</param>
    /// <param name="operations">Operations of the disk that are still done.</param>
    /// <param name="power">The power goes; else the process is killed.</param>
    /// <param name="died">False when the scenario has fewer operations.</param>
    public static SimulationResult RunToDeath(int seed, int operations, bool power, out bool died)
    {
        bool dead = false;
        SimulationResult result = Run(seed, s => dead = s.RunOneDeath(operations, power));
        died = dead;
        return result;
    }

    private static SimulationResult Run(int seed, Action<Simulation> scenario)
    {
        SynchronizationContext? before = SynchronizationContext.Current;
        Simulation simulation = new(seed);
        try
        {
            scenario(simulation);
        }
        catch (Exception e)
        {
            simulation._account.Breach($"the simulation itself ended with {e}");
        }
        finally
        {
            simulation._life?.Bury();
            SynchronizationContext.SetSynchronizationContext(before);
        }

        return simulation.Result();
    }

    private void RunAll()
    {
        Live(new FaultyDisk());
        int steps = _random.Next(20, 120);
        for (int i = 0; i < steps && _account.Violations.Count == 0; i++)
        {
            Step();
        }

        if (_account.Violations.Count == 0)
        {
            Finish();
        }

        CountLife();
    }

    private bool RunOneDeath(int operations, bool power)
    {
        Live(new FaultyDisk());
        Pump(PiecesPerStep);
        _life.DieAfter(operations, power, operations);
        _network.SetPeer(1, PeerMood.Defers);
        _network.SetPeer(2, PeerMood.Rejects);
        for (int i = 0; i < 32 && !_life.IsDead; i++)
        {
            Send();
            Pump(_random.Next(40));
            if (i % 4 == 3)
            {
                Operate();
                Advance(TimeSpan.FromMinutes(4));
            }
        }

        // Long enough for compaction and a checkpoint.
        Advance(TimeSpan.FromMinutes(1));
        bool died = _life.IsDead;
        Finish();
        CountLife();
        return died;
    }

    private SimulationResult Result() => new(_seed, _account.Violations, _trace, _fingerprint, _counts with
    {
        Lives = _lives,
        Acknowledged = _account.Acknowledged,
        Deliveries = _account.Deliveries,
        Duplicates = _account.Duplicates,
        SentWhole = _account.SentWhole,
        Reports = _account.Reports,
        CameBack = _account.CameBack,
    });

    private void Step()
    {
        switch (_random.Next(100))
        {
            case < 34:
                SendSome();
                break;
            case < 54:
                Advance();
                break;
            case < 64:
                SetMood();
                break;
            case < 72:
                SetName();
                break;
            case < 82:
                Operate();
                break;
            case < 86:
                BreakDisk();
                break;
            case < 91:
                MendDisk();
                break;
            case < 97:
                ArmDeath();
                break;
            default:
                StopOrderly();
                break;
        }

        Pump(_random.Next(3) == 0 ? PiecesPerStep : _random.Next(60));
        Check();
    }

    private void Note(string what)
    {
        _trace.Add($"{_life?.Time.GetUtcNow():dd HH:mm:ss} {what}");
        foreach (char c in $"{what} {_life?.Background.Pieces} {_life?.Queue?.Count}")
        {
            _fingerprint = (_fingerprint ^ c) * 1099511628211;
        }
    }

    /// <summary>One message, or so many that a courier has several of a site.</summary>
    private void SendSome()
    {
        for (int left = _random.Next(8) == 0 ? _random.Next(2, 12) : 1; left > 0; left--)
        {
            Send();
        }
    }

    private void Send()
    {
        int count = _random.Next(6) == 0 ? _random.Next(1, 12) : _random.Next(1, 3);
        int size = _random.Next(8) switch { 0 => _random.Next(5_000, 30_000), 1 => _random.Next(1500, 5000), _ => _random.Next(20, 1500) };
        string[] recipients = [.. Enumerable.Range(0, count).Select(_ => $"r{_addresses++}@{SimulatedNetwork.Domain(_random.Next(SimulatedNetwork.Domains))}")];
        string? sender = _random.Next(8) == 0 ? null : $"s{_random.Next(3)}@{SimulatedNetwork.Domain(_random.Next(SimulatedNetwork.Domains))}";
        Note($"send {size} octets to {count}");
        _tasks.Add(SendAsync(_life, sender, recipients, size));
    }

    /// <summary>One session's transaction, from DATA on.</summary>
    private async Task SendAsync(SimulatedLife life, string? sender, string[] recipients, int size)
    {
        await Task.Yield();
        if (life.Intake.Refusal is not null)
        {
            return;
        }

        byte[] body = new byte[size];
        new Random(size).NextBytes(body);
        byte[] headers = Encoding.ASCII.GetBytes($"Received: by mta.example id {recipients[0]}\r\n");
        using IncomingMessage incoming = life.Intake.Begin();
        try
        {
            for (int at = 0; at < body.Length; at += 4096)
            {
                await incoming.WriteAsync(body.AsMemory(at, Math.Min(4096, body.Length - at)));
                await Task.Yield();
            }
        }
        catch (LogUnavailableException)
        {
            return;
        }

        Envelope envelope = new()
        {
            Id = life.Intake.NextId(),
            Sender = sender is null ? null : QueueBench.Address(sender),
            Recipients = [.. recipients.Select(QueueBench.Address)],
            ReceivedAt = life.Time.GetUtcNow(),
            ClientAddress = IPAddress.Loopback,
            HeloName = "client.example",
        };
        if (!life.IsDead)
        {
            _account.Attempting(envelope, [.. headers, .. body]);
            await life.Intake.CommitAsync(incoming, envelope, headers);
        }
    }

    private void Advance()
    {
        TimeSpan by = _random.Next(6) switch
        {
            0 => TimeSpan.FromHours(_random.Next(1, 4)),
            1 or 2 => TimeSpan.FromMinutes(_random.Next(1, 30)),
            _ => TimeSpan.FromSeconds(_random.Next(1, 40)),
        };
        Note($"advance {by}");
        Advance(by);
    }

    private void Advance(TimeSpan by)
    {
        while (by > TimeSpan.Zero && !_life.IsDead)
        {
            TimeSpan step = by < TimeSpan.FromMinutes(5) ? by : TimeSpan.FromMinutes(5);
            _life.Time.Advance(step);
            by -= step;
            Pump(_random.Next(4) == 0 ? _random.Next(40) : PiecesPerStep);
        }
    }

    private void SetMood()
    {
        int site = _random.Next(SimulatedNetwork.Sites);
        PeerMood mood = _random.Next(3) == 0 ? PeerMood.Well : (PeerMood)_random.Next((int)PeerMood.Capricious + 1);
        Note($"site {site}: {mood}");
        _network.SetPeer(site, mood);
    }

    private void SetName()
    {
        int domain = _random.Next(SimulatedNetwork.Domains);
        NameMood mood = _random.Next(2) == 0 ? NameMood.Known : (NameMood)_random.Next((int)NameMood.Breaks + 1);
        Note($"domain {domain}: {mood}");
        _network.SetName(domain, mood);
    }

    private void Operate()
    {
        SteeringKind kind = (SteeringKind)_random.Next((int)SteeringKind.Hold, (int)SteeringKind.Reroute + 1);
        int share = _random.Next(1, 5);
        JobRef[] jobs = [.. _life.Jobs().Where(_ => _random.Next(share) == 0)];
        Note($"{kind} of {jobs.Length} jobs");
        if (jobs.Length == 0)
        {
            return;
        }

        if (kind == SteeringKind.Drop)
        {
            foreach (JobRef job in jobs)
            {
                _account.MayVanish(job.Id);
            }
        }

        Steering steering = new(kind, _life.Time.GetUtcNow() + TimeSpan.FromMinutes(_random.Next(4) == 0 ? 30 : 0), kind == SteeringKind.Reroute ? $"smtp://relay.example:{2500 + _random.Next(5)}" : null);
        bool some = kind != SteeringKind.Reroute && _random.Next(3) == 0;
        _tasks.Add(some ? OperateOnSomeAsync(_life, jobs[0], steering, _random.Next(3)) : OperateAsync(_life, jobs, steering));
    }

    private static async Task OperateAsync(SimulatedLife life, JobRef[] jobs, Steering steering)
    {
        await Task.Yield();
        try
        {
            await life.Room.SteerAsync(jobs, steering, default, CancellationToken.None);
        }
        catch (Exception e) when (IsToBeExpected(e))
        {
        }
    }

    private static async Task OperateOnSomeAsync(SimulatedLife life, JobRef job, Steering steering, int recipient)
    {
        await Task.Yield();
        try
        {
            await life.Room.SteerRecipientsAsync(job, [recipient], steering, CancellationToken.None);
        }
        catch (Exception e) when (IsToBeExpected(e))
        {
        }
    }

    /// <summary>What an operator is told when the log fails, the clock leaps past his wait or the server stops.</summary>
    private static bool IsToBeExpected(Exception e) => e is LogUnavailableException or TimeoutException or OperationCanceledException or RecordUnreadableException;

    private void BreakDisk()
    {
        if (_random.Next(4) == 0)
        {
            _life.Disk.Free = _random.Next(4 * SimulatedLife.SegmentSize);
            Note($"the disk has {_life.Disk.Free} octets left");
            return;
        }

        DiskOperations operations = (DiskOperations)(1 << _random.Next(9));
        int errno = _random.Next(2) == 0 ? 5 : 28;
        string path = _random.Next(5) switch { 0 => "/commits", 1 => "/seg.", 2 => "/spare.", 3 => "/checkpoint", _ => "" };
        _faults.Add(_life.Disk.Fail(operations, errno, path, _random.Next(20)));
        Note($"{operations} of '{path}' fails with {errno}");
    }

    private void MendDisk()
    {
        _life.Disk.Free = 1L << 40;
        foreach (DiskFault fault in _faults)
        {
            fault.Dispose();
        }

        _faults.Clear();
        Note("the disk is well");
    }

    private void ArmDeath()
    {
        int operations = _random.Next(2) == 0 ? _random.Next(12) : _random.Next(200);
        bool power = _random.Next(3) != 0;
        Note($"{(power ? "power cut" : "kill")} before operation {operations}");
        _life.DieAfter(operations, power, _random.Next());
    }

    private void StopOrderly()
    {
        Note("stop");
        _life.Stop();
    }

    /// <summary>Runs what is ready, at most so much of it.</summary>
    private void Pump(int pieces)
    {
        int left = pieces;
        while (left-- > 0 && !_life.IsDead && _life.Background.RunOne())
        {
        }

        if (left < 0 && pieces == PiecesPerStep)
        {
            _account.Breach("the server does not come to rest");
            _trace.AddRange(_life.Background.Recent());
            Describe();
        }
    }

    private void Check()
    {
        foreach (Exception error in _life.Background.Errors)
        {
            _account.Breach($"nobody caught {error}");
        }

        foreach (string error in _life.Logs.Errors.Where(IsUnexpected))
        {
            _account.Breach($"logged: {error}");
        }

        _life.Logs.Errors.Clear();
        _tasks.RemoveAll(Done);
        if (_life.IsDead)
        {
            CountLife();
            _now = _life.Time.GetUtcNow();
            Live(_life.Survivor!);
            return;
        }

        CheckQueue();
    }

    private bool Done(Task task)
    {
        if (task.IsFaulted)
        {
            _account.Breach($"a session or command ended with {task.Exception}");
        }

        return task.IsCompleted;
    }

    /// <summary>What the script makes happen is logged rightly: things that break, a disk that fails, a clock that leaps past every limit.</summary>
    private static bool IsUnexpected(string error) =>
        !error.Contains("breaks", StringComparison.Ordinal) && !error.StartsWith("The log cannot be written", StringComparison.Ordinal)
        && !error.StartsWith("The log's tail cannot be settled", StringComparison.Ordinal) && !error.StartsWith("New mail is refused", StringComparison.Ordinal)
        && !error.Contains("updates could not be made durable", StringComparison.Ordinal) && !error.Contains("DiskException", StringComparison.Ordinal)
        && !error.Contains("TimeoutException", StringComparison.Ordinal);

    private void CheckQueue()
    {
        MailQueue queue = _life.Queue;
        if (queue.Loading)
        {
            return;
        }

        List<JobRef> jobs = _life.Jobs();
        HashSet<MessageId> queued = [.. jobs.Select(static j => j.Id)];
        foreach (MessageId id in _account.Open())
        {
            if (!queued.Contains(id))
            {
                _account.Breach($"{id} was acknowledged, is not finished, and is not in the queue");
            }
        }

        if (queue.Jobs.Count != jobs.Count || queue.Count != queued.Count)
        {
            _account.Breach($"the table counts {queue.Jobs.Count} jobs and {queue.Count} messages; there are {jobs.Count} and {queued.Count}");
        }

        if (IsAllDurable())
        {
            _account.Confirm();
        }
    }

    private bool IsAllDurable() =>
        _life.Log.Condition == LogCondition.Healthy && _life.Log.DurableAddress >= _life.Log.TailAddress && _life.Queue.Statistics.UnwrittenStates == 0 && _life.Room.Writing == 0 && _life.Network.Transactions == 0
        && _life.Room.Sites().All(static s => s.InFlight == 0);

    private void CountLife()
    {
        if (_life?.Queue is { } queue)
        {
            QueueStatistics statistics = queue.Statistics;
            _counts = _counts with
            {
                Checkpoints = _counts.Checkpoints + statistics.Checkpoints,
                Moved = _counts.Moved + statistics.CompactedMessages,
                Pieces = _counts.Pieces + _life.Background.Pieces,
            };
        }
    }

    /// <summary>The next process, on what the last one left.</summary>
    private void Live(FaultyDisk disk)
    {
        _life?.Bury();
        _before = _life;
        _tasks.Clear();
        _faults.Clear();
        disk.Free = 1L << 40;

        // The clock may have been set meanwhile.
        _now += TimeSpan.FromSeconds(_random.Next(8) == 0 ? -_random.Next(600) : _random.Next(60));
        _life = SimulatedLife.Start(_lives++, disk, _now, _network, _account, _random);
        Note($"life {_lives}: the log from {_life.Log.BeginAddress} to {_life.Log.ReplayEnd}, {_life.Queue.Statistics.CheckpointAddress} of it in the checkpoint");
        if (_random.Next(6) == 0)
        {
            ArmDeath();
        }

        for (int i = 0; i < PiecesPerStep && _life.Queue.Loading && !_life.IsDead && _life.Background.RunOne(); i++)
        {
        }

        if (_life.IsDead)
        {
            Check();
        }
        else
        {
            CheckStart();
        }
    }

    private void CheckStart()
    {
        if (_life.Queue.Loading)
        {
            _account.Breach("the queue is not loaded and nothing is left to do");
            return;
        }

        if (_life.Queue.Damage.Count > 0)
        {
            _account.Breach($"damage after no more than crashes: {_life.Queue.Damage[0]}");
        }

        _life.HasCache = true;
        List<QueuedMessage>? messages = Look();
        for (int looks = 1; messages is null && !_life.IsDead; looks++)
        {
            if (looks == MostLooks)
            {
                _account.Breach("what was found at the start is never still");
                return;
            }

            messages = Look();
        }

        if (messages is null)
        {
            Check();
            return;
        }

        _life.HasCache = false;
        _account.Found(_life, messages);
        if (_account.Violations.Count > 0)
        {
            Describe();
        }
    }

    /// <summary>
    /// Every queued message as it is at one moment. Null when something had to go on before one could be read (its newest record was not written yet): then the others may be of another moment.
    /// </summary>
    private List<QueuedMessage>? Look()
    {
        bool wentOn = false;
        List<QueuedMessage> messages = [];
        foreach (JobRef job in _life.Jobs())
        {
            Task<QueuedMessage?> peek = _life.Queue.PeekAsync(job.Slot, job.Id).AsTask();
            while (!peek.IsCompleted && _life.Background.RunOne())
            {
                wentOn = true;
            }

            if (_life.IsDead)
            {
                return null;
            }

            if (peek.IsCompletedSuccessfully && peek.GetAwaiter().GetResult() is { } message)
            {
                messages.Add(message);
            }
            else if (!peek.IsCompletedSuccessfully || !_account.HasEnded(_life, job.Id))
            {
                _account.Breach($"{job.Id} cannot be read after the start: {peek.Exception}");
            }
        }

        return wentOn ? null : messages;
    }

    /// <summary>For whoever looks for the cause: what the log holds, and what the process before had in its table.</summary>
    private void Describe()
    {
        SimulatedLife life = _life;
        life.Log.Scan(
            life.Log.BeginAddress,
            life.Log.ReplayEnd,
            (scoped in ScannedRecord record) => _trace.Add($"  at {record.Ref.Address}: {record.Type} of {new MessageId(record.MessageId)}, {record.Ref.Length} octets: {Convert.ToHexString(record.Payload[..Math.Min(40, record.Payload.Length)])}"));
        foreach (SimulatedLife each in _before is null ? [life] : new[] { _before, life })
        {
            foreach (JobRef job in each.Jobs())
            {
                Job entry = each.Queue.Jobs[job.Slot];
                _trace.Add($"  life {each.Number + 1}: {job.Id} in slot {job.Slot}: {entry.Place}, {entry.Flags}, accepted {entry.Accepted}, state {entry.State}, number {entry.Number}, {entry.Count} recipients");
            }
        }
    }

    /// <summary>Everything works again and what was held is released: whatever is left has to come to its end, in the time that the schedule says.</summary>
    private void Finish()
    {
        Note("everything is well");
        MendDisk();
        _network.Heal();
        _life.LiveOn();
        Check();
        for (int i = 0; i < 40 && _account.Violations.Count == 0; i++)
        {
            Advance(TimeSpan.FromMinutes(5));
            Check();
            // What is still being sent will be jobs: the schedule begins for them only then.
            if (_life.Jobs().Count == 0 && _life.Queue.Statistics.UnwrittenStates == 0 && _tasks.TrueForAll(static t => t.IsCompleted))
            {
                break;
            }

            _tasks.Add(OperateAsync(_life, [.. _life.Jobs().Where(j => _life.Queue.Jobs[j.Slot].IsHeld)], new Steering(SteeringKind.Release, _life.Time.GetUtcNow())));
        }

        CheckEnd();
    }

    private void CheckEnd()
    {
        Advance(TimeSpan.FromSeconds(20));
        Pump(PiecesPerStep);
        Check();
        foreach (JobRef job in _life.Jobs())
        {
            Job entry = _life.Queue.Jobs[job.Slot];
            _account.Breach($"{job.Id} is stuck: {entry.Place}, {entry.Flags}, due {new DateTimeOffset(entry.DueAt, TimeSpan.Zero):dd HH:mm:ss}, {entry.Attempts} attempts, now {_life.Time.GetUtcNow():dd HH:mm:ss}");
        }

        foreach (SiteStatus site in _life.Room.Sites().Where(static s => s.Waiting + s.Deferred + s.InFlight > 0))
        {
            _account.Breach($"something is left at {site}");
        }

        QueueStatistics statistics = _life.Queue.Statistics;
        if (statistics.LogBytes > (2 * statistics.LiveBytes) + (2 * SimulatedLife.SegmentSize))
        {
            _account.Breach($"the log has {statistics.LogBytes} octets for {statistics.LiveBytes} that live");
        }

        if (_tasks.Count > 0)
        {
            _account.Breach($"{_tasks.Count} sessions or commands never ended");
        }
    }
}
