using System.Diagnostics.Metrics;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Engine.Intake;

/// <summary>Marks above which intake is slowed, and refused.</summary>
public sealed record PressureOptions
{
    /// <summary>Resident bytes of the process at which mail is refused; slowed from four fifths of it. 0: nine tenths of what the machine or the container has.</summary>
    public long Memory { get; init; }

    /// <summary>A commit that takes longer slows intake.</summary>
    public TimeSpan CommitSlow { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>A commit that takes longer refuses mail.</summary>
    public TimeSpan CommitRefuse { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Free bytes below which the queue refuses mail; slowed below twice as much.</summary>
    public long DiskLowWater { get; init; } = 1L << 30;
}

/// <summary>
/// Looks once a second, every ten seconds while no mail comes, at what mail costs and there is only so much of: memory, disk, and the time of a commit. Each has a mark from which new mail is slowed, more and more, up to one at
/// which it is refused with 452 4.3.1, before anything breaks. Each change is logged once. Reports of this server are never slowed.
/// </summary>
public sealed partial class PressureGauge : IDisposable
{
    /// <summary>The wait before a message's commit, just below the mark of refusal.</summary>
    public static readonly TimeSpan LongestDelay = TimeSpan.FromSeconds(2);

    private const double SlowShare = 0.8;
    private const double AutoShare = 0.9;

    /// <summary>Looks in a row that must be better before mail flows more freely: what hovers at a mark is not told of again and again.</summary>
    private const int Patience = 5;

    /// <summary>What is left, at each look, of a commit time that nobody renews.</summary>
    private const double Fade = 0.8;

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private static readonly string[] Causes = ["memory", "disk", "commit"];

    private readonly IMailQueue _queue;
    private readonly PressureOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Func<long> _memory;
    private readonly ResidentMemory _resident = new();
    private readonly ITimer _timer;
    private readonly Meter _meter;
    private readonly double[] _pressures = new double[Causes.Length];
    private readonly long _limit;
    private readonly Slack _slack = new(Interval);
    private TimeSpan _commitTold;
    private TimeSpan _commit;
    private int _better;
    private bool _closed;
    private double _pressure;
    private bool _asked;
    private int _resting;

    /// <param name="queue">What is filled.</param>
    /// <param name="options">The marks.</param>
    /// <param name="time">The clock.</param>
    /// <param name="logger">Gets a line for each change.</param>
    /// <param name="memory">Resident bytes of the process; null: the operating system's figure.</param>
    /// <param name="meters">Makes the meter; null: one that no factory knows.</param>
    public PressureGauge(IMailQueue queue, PressureOptions options, TimeProvider time, ILogger logger, Func<long>? memory = null, IMeterFactory? meters = null)
    {
        _queue = queue;
        _options = options;
        _time = time;
        _logger = logger;
        _memory = memory ?? _resident.Read;
        _limit = options.Memory > 0 ? options.Memory : (long)(AutoShare * GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        _meter = meters?.Create("HighPerfMta.Intake") ?? new Meter("HighPerfMta.Intake");
        _meter.CreateObservableGauge("hpmta_pressure_ratio", Observe, description: "0: mail flows freely; up to 1 it is slowed; from 1 on it is refused");
        _timer = time.CreateTimer(static gauge => ((PressureGauge)gauge!).Look(), this, Interval, Timeout.InfiniteTimeSpan);
    }

    /// <summary>0 when mail flows freely; 1 when it is refused.</summary>
    public double Pressure => Volatile.Read(ref _pressure);

    /// <summary>The refusal of new mail; null when it may come.</summary>
    public SmtpReply? Refusal
    {
        get
        {
            NoteMail();
            return Pressure >= 1 ? Replies.InsufficientStorage : null;
        }
    }

    /// <summary>Waits as long as the pressure asks; not at all when there is none.</summary>
    public ValueTask SlowAsync()
    {
        NoteMail();
        double pressure = Pressure;
        return pressure <= 0 ? default : new ValueTask(Task.Delay(LongestDelay * Math.Min(1, pressure), _time));
    }

    public void Dispose()
    {
        _timer.Dispose();
        lock (_pressures)
        {
            _closed = true;
            _resident.Dispose();
        }

        _meter.Dispose();
    }

    /// <summary>Mail comes: from now on each second counts. Written once between two looks, so that the sessions keep their copy of it.</summary>
    private void NoteMail()
    {
        if (Volatile.Read(ref _asked))
        {
            return;
        }

        Volatile.Write(ref _asked, true);
        EndRest(asked: true);
    }

    private void Look()
    {
        lock (_pressures)
        {
            if (_closed)
            {
                return;
            }

            bool asked = Volatile.Read(ref _asked);
            Volatile.Write(ref _asked, false);
            LookOnce();
            TimeSpan next = _slack.Next(!asked && Pressure <= 0 && _pressures.Max() <= 0);
            _timer.Change(next, Timeout.InfiniteTimeSpan);
            Interlocked.Exchange(ref _resting, next > Interval ? 1 : 0);

            // Mail that came during the look has seen no rest that it could have ended.
            EndRest(Volatile.Read(ref _asked));
        }
    }

    private void EndRest(bool asked)
    {
        if (asked && Interlocked.Exchange(ref _resting, 0) != 0)
        {
            _timer.Change(Interval, Timeout.InfiniteTimeSpan);
        }
    }

    private void LookOnce()
    {
        QueueStatistics statistics = _queue.Statistics;
        TimeSpan commit = CommitTime(statistics.CommitTime);
        _pressures[0] = Share(_memory(), SlowShare * _limit, _limit);
        _pressures[1] = _options.DiskLowWater == 0 ? 0 : Share(-(double)statistics.FreeBytes, -2.0 * _options.DiskLowWater, -(double)_options.DiskLowWater);
        _pressures[2] = Share(commit.TotalSeconds, _options.CommitSlow.TotalSeconds, _options.CommitRefuse.TotalSeconds);
        int worst = Array.IndexOf(_pressures, _pressures.Max());
        double before = Pressure;
        double now = _pressures[worst];
        if (Grade(now) < Grade(before) && ++_better < Patience)
        {
            return;
        }

        _better = 0;
        Volatile.Write(ref _pressure, now);
        if (Grade(now) != Grade(before))
        {
            Tell(Grade(now), Causes[worst], statistics);
        }
    }

    /// <summary>
    /// The queue tells how long its last commits took. When mail is refused there may be none any more: a figure that does not change fades, so that mail comes again and shows how the disk is.
    /// </summary>
    private TimeSpan CommitTime(TimeSpan told)
    {
        _commit = told == _commitTold ? _commit * Fade : told;
        _commitTold = told;
        return _commit;
    }

    private void Tell(int grade, string cause, QueueStatistics statistics)
    {
        long memory = _memory() >> 20;
        long free = statistics.FreeBytes == long.MaxValue ? -1 : statistics.FreeBytes >> 20;
        double commit = statistics.CommitTime.TotalMilliseconds;
        switch (grade)
        {
            case 0:
                Free(_logger);
                break;
            case 1:
                Slowed(_logger, cause, memory, _limit >> 20, free, commit);
                break;
            default:
                Refused(_logger, cause, memory, _limit >> 20, free, commit);
                break;
        }
    }

    private static int Grade(double pressure) => pressure >= 1 ? 2 : pressure > 0 ? 1 : 0;

    private static double Share(double value, double slow, double refuse) => Math.Max(0, (value - slow) / (refuse - slow));

    private IEnumerable<Measurement<double>> Observe()
    {
        for (int i = 0; i < Causes.Length; i++)
        {
            yield return new Measurement<double>(Volatile.Read(ref _pressures[i]), new KeyValuePair<string, object?>("cause", Causes[i]));
        }
    }

    [LoggerMessage(10, LogLevel.Information, "New mail flows freely again")]
    private static partial void Free(ILogger logger);

    [LoggerMessage(11, LogLevel.Warning, "New mail is slowed because of {Cause}: {Memory} of {Limit} MiB of memory in use, {Free} MiB of disk free, a commit takes {Commit:0} ms")]
    private static partial void Slowed(ILogger logger, string cause, long memory, long limit, long free, double commit);

    [LoggerMessage(12, LogLevel.Error, "New mail is refused because of {Cause}: {Memory} of {Limit} MiB of memory in use, {Free} MiB of disk free, a commit takes {Commit:0} ms")]
    private static partial void Refused(ILogger logger, string cause, long memory, long limit, long free, double commit);
}
