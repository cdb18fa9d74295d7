using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Housekeeping;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using HighPerfMta.Queue.Restoring;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue;

// The start from a checkpoint and the log's tail, and the housekeeping in the background: compaction and checkpoints, never both at once.
public sealed partial class MailQueue
{
    private static readonly TimeSpan HousekeepingInterval = TimeSpan.FromSeconds(1);

    private const int MaxUnmovable = 1000;

    private readonly CancellationTokenSource _stopping = new();
    private readonly HashSet<MessageId> _unmovable = [];
    private Checkpointer _checkpointer = null!;
    private Compactor _compactor = null!;
    private Replayer? _replayer;
    private List<JobRef> _halfMoved = [];
    private CheckpointReader? _checkpoint;
    private Task _housekeeping = Task.CompletedTask;
    private PeriodicTimer? _turns;
    private int _resting;
    private ulong _newestBefore;
    private volatile bool _loading = true;
    private bool _started;

    public bool Loading => _loading;

    /// <summary>How the queue stands on the disk.</summary>
    public QueueStatistics Statistics => new(
        Messages: Count,
        Jobs: Jobs.Count,
        IndexBytes: Jobs.ResidentBytes,
        LogBytes: _log.TailAddress - _log.BeginAddress,
        LiveBytes: _book.LiveBytes,
        CompactedBytes: _compactor.CopiedBytes,
        CompactedMessages: _compactor.MovedMessages,
        Checkpoints: _checkpointer.Written,
        CheckpointAddress: _checkpointer.Address,
        UnwrittenStates: _ledger.Dirty,
        CommitTime: _log.CommitTime,
        FreeBytes: _log.FreeBytes);

    /// <summary>
    /// Reads the log behind its checkpoint and returns the queue, ready to take new mail; jobs from before come with <see cref="Start"/>.
    /// </summary>
    public static MailQueue Open(IRecordLog log, QueueOptions options, TimeProvider time, ILogger logger, Background? background = null)
    {
        MailQueue queue = new(log, options, time, logger, background ?? Background.Threads);
        queue._checkpointer = new Checkpointer(queue);
        queue._compactor = new Compactor(queue);
        queue.Replay();
        log.ConditionChanged += queue.OnCondition;
        return queue;
    }

    public void Start()
    {
        _started = true;
        _housekeeping = _background.Run(() => KeepAsync(_stopping.Token));
    }

    /// <summary>Moves the log's head up to the first record that is needed.</summary>
    internal void TruncateHead() => Truncate(_live.FindHead(_log.TailAddress));

    internal void ReportUnreadable(MessageId id, Exception error)
    {
        lock (_damage)
        {
            if (_damage.Count < 1000)
            {
                _damage.Add(new DamagedRange(0, 0, $"message {id}: {error.Message}"));
            }
        }

        Unreadable(_logger, error, id);
    }

    /// <summary>A message that compaction cannot read stays where it is, and the log's head with it. Told once for each.</summary>
    internal void ReportUnmovable(MessageId id, Exception error)
    {
        if (_unmovable.Count >= MaxUnmovable)
        {
            _unmovable.Clear();
        }

        if (_unmovable.Add(id))
        {
            Unmovable(_logger, id, error.Message);
        }
    }

    /// <summary>Compacts and makes a checkpoint now, whatever is due; for tests and for the end.</summary>
    internal async Task CheckpointAsync(CancellationToken cancellation = default) => await _checkpointer.RunAsync(cancellation);

    internal async Task<bool> CompactAsync(CancellationToken cancellation = default) => await _compactor.StepAsync(cancellation);

    /// <summary>Completes when jobs from before the start are loaded and announced.</summary>
    internal Task Loaded => _loaded.Task;

    private readonly TaskCompletionSource _loaded = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void Replay()
    {
        // Nothing is truncated while what lives there is not known.
        _live.Freeze();
        ulong lastId = 0;
        _checkpoint = _log.Checkpoint;
        if (_checkpoint is not null)
        {
            if (_checkpoint.TryReadNames(out byte[] names) && TryRestoreNames(names, out lastId))
            {
                Jobs.Reserve(_checkpoint.Blocks);
                _checkpointer.Found(_checkpoint.Address);
            }
            else
            {
                CheckpointDamaged(_logger);
                _checkpoint = null;
            }
        }

        _replayer = new Replayer(this, _checkpoint is not null);
        long from = _checkpoint?.Address ?? _log.BeginAddress;
        _log.Scan(from, _log.ReplayEnd, _replayer.Visit, CancellationToken.None);
        LastId = Math.Max(lastId, _replayer.LastId);
        _newestBefore = LastId;
    }

    private bool TryRestoreNames(byte[] names, out ulong lastId)
    {
        try
        {
            lastId = CheckpointCodec.Read(names, _book);
            return true;
        }
        catch (InvalidDataException e)
        {
            _logger.LogWarning("The checkpoint's names cannot be used: {Reason}", e.Message);
            lastId = 0;
            return false;
        }
    }

    private async Task KeepAsync(CancellationToken cancellation)
    {
        try
        {
            await LoadAllAsync(cancellation);
            Slack slack = new(HousekeepingInterval);
            using PeriodicTimer timer = new(HousekeepingInterval, _time);
            _turns = timer;
            long tail = -1;
            while (await timer.WaitForNextTickAsync(cancellation))
            {
                await KeepOnceAsync(cancellation);
                long now = _log.TailAddress;
                TimeSpan next = slack.Next(now == tail && _halfMoved.Count == 0);
                if (timer.Period != next)
                {
                    timer.Period = next;
                }

                tail = now;
                Interlocked.Exchange(ref _resting, next > HousekeepingInterval ? 1 : 0);
                if (_log.TailAddress != now)
                {
                    // Mail that came during the turn has seen no rest that it could have ended.
                    EndRest();
                }
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
        }
        catch (Exception e)
        {
            HousekeepingFailed(_logger, e);
            throw;
        }
    }

    /// <summary>How long until the next turn of housekeeping.</summary>
    internal TimeSpan HousekeepingPeriod => _turns?.Period ?? TimeSpan.Zero;

    /// <summary>Mail came: the log may have to be compacted a second from now, and not when the rest is over.</summary>
    private void EndRest()
    {
        if (Volatile.Read(ref _resting) == 0 || Interlocked.Exchange(ref _resting, 0) == 0)
        {
            return;
        }

        try
        {
            _turns!.Period = HousekeepingInterval;
        }
        catch (ObjectDisposedException)
        {
            // Housekeeping has ended meanwhile.
        }
    }

    private async Task KeepOnceAsync(CancellationToken cancellation)
    {
        try
        {
            if (_halfMoved.Count > 0)
            {
                await FinishMovesAsync(cancellation);
            }

            while (_compactor.IsDue() && _log.Condition is LogCondition.Healthy or LogCondition.LowSpace && _ledger.Dirty == 0)
            {
                if (!await _compactor.StepAsync(cancellation))
                {
                    break;
                }
            }

            if (_halfMoved.Count == 0 && _checkpointer.IsDue())
            {
                await _checkpointer.RunAsync(cancellation);
            }
        }
        catch (LogUnavailableException e)
        {
            _logger.LogDebug("Housekeeping waits for the log: {Reason}", e.Message);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            HousekeepingFailed(_logger, e);
        }
    }

    /// <summary>Reads the jobs from before the start and announces them: what <see cref="Start"/> begins with.</summary>
    internal async Task LoadAllAsync(CancellationToken cancellation)
    {
        long started = _time.GetTimestamp();
        await new CheckpointLoader(this, _replayer!, _checkpoint).RunAsync(cancellation);
        _halfMoved = FindHalfMoved(_replayer!.Moved);
        _replayer = null;
        _checkpoint?.Dispose();
        _checkpoint = null;
        int announced = AnnounceRestored();
        _loading = false;
        if (_halfMoved.Count == 0)
        {
            _live.Thaw();
            TruncateHead();
        }

        _loaded.TrySetResult();
        if (announced > 0)
        {
            LoadedJobs(_logger, announced, _time.GetElapsedTime(started).TotalSeconds);
        }
    }

    /// <summary>
    /// Messages whose copy may have come without all that belongs to it: until they are moved again the log's head stays where it is, as their states, orders and ends may be before the copy.
    /// </summary>
    private List<JobRef> FindHalfMoved(HashSet<ulong> moved)
    {
        List<JobRef> found = [];
        for (int chunk = 0; chunk < Jobs.Chunks && moved.Count > 0; chunk++)
        {
            ReadOnlySpan<Job> jobs = Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                ref readonly Job job = ref jobs[i];
                bool isSuspect = job.Id != 0 && moved.Contains(job.Id)
                    && (job.IsPart || job.Has(JobFlags.Bouncing) || job.Has(JobFlags.Rerouted) || (job.Number != 0 && job.State < job.Accepted));
                if (isSuspect)
                {
                    moved.Remove(job.Id);
                    found.Add(new JobRef((chunk * JobTable.ChunkJobs) + i, job.MessageId));
                }
            }
        }

        return found;
    }

    // Until the last of them is moved there is no checkpoint either: a start behind it would not see the copies.
    private async Task FinishMovesAsync(CancellationToken cancellation)
    {
        if (_log.Condition is LogCondition.Healthy or LogCondition.LowSpace && _ledger.Dirty == 0)
        {
            _halfMoved = await _compactor.MoveAgainAsync(_halfMoved, cancellation);
        }

        if (_halfMoved.Count == 0)
        {
            _live.Thaw();
            TruncateHead();
        }
    }

    // New jobs have later ids, and owners already.
    private int AnnounceRestored()
    {
        int announced = 0;
        for (int chunk = 0; chunk < Jobs.Chunks; chunk++)
        {
            ReadOnlySpan<Job> jobs = Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                if (jobs[i].Id != 0 && jobs[i].Id <= _newestBefore && jobs[i].Place == JobPlace.Entering)
                {
                    announced++;
                    Restored?.Invoke((chunk * JobTable.ChunkJobs) + i);
                }
            }
        }

        return announced;
    }

    private async Task StopHousekeepingAsync()
    {
        await _background.CancelAsync(_stopping);
        try
        {
            await _housekeeping;
        }
        catch (OperationCanceledException)
        {
        }

        if (_started && !_loading && _halfMoved.Count == 0 && _log.TailAddress > _checkpointer.Address)
        {
            await _checkpointer.RunAsync(CancellationToken.None);
        }

        _stopping.Dispose();
    }

    [LoggerMessage(21, LogLevel.Warning, "The checkpoint is damaged: the whole log is read instead")]
    internal static partial void CheckpointDamaged(ILogger logger);

    [LoggerMessage(22, LogLevel.Error, "Message {Id} cannot be read and is set aside; its records stay in the log")]
    private static partial void Unreadable(ILogger logger, Exception error, MessageId id);

    [LoggerMessage(25, LogLevel.Warning, "Message {Id} cannot be moved from the log's head and keeps the segments there: {Reason}")]
    private static partial void Unmovable(ILogger logger, MessageId id, string reason);

    [LoggerMessage(23, LogLevel.Error, "Housekeeping of the queue failed; it goes on with the next turn")]
    private static partial void HousekeepingFailed(ILogger logger, Exception error);

    [LoggerMessage(24, LogLevel.Information, "{Count} queued jobs were read in {Seconds:0.00} s")]
    private static partial void LoadedJobs(ILogger logger, int count, double seconds);
}
