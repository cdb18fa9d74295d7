using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What a job needs next.</summary>
internal enum JobNeed : byte
{
    /// <summary>Nothing before <see cref="RetryPolicy.WakeTime"/>.</summary>
    Time,

    Attempt,

    /// <summary>The sender is told of the delay.</summary>
    Notice,

    /// <summary>It is too old.</summary>
    Expiry,

    /// <summary>An operator returns it to its sender.</summary>
    Bounce,
}

/// <summary>When things are due: the retry schedule, expiry, delay notices and a site's back-off. Times are UTC ticks. Safe for concurrent use.</summary>
internal sealed class RetryPolicy
{
    private const double Jitter = 0.2;

    // Short: one broken connection must not hold up a site that is well, and a site that is down costs one attempt each time.
    private static readonly TimeSpan FirstBackOff = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan FirstReadWait = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan LongestReadWait = TimeSpan.FromMinutes(10);

    private readonly TimeSpan[] _schedule;
    private readonly long _expire;
    private readonly long _delayNotice;
    private readonly Random _random;
    private readonly Lock _gate = new();

    public RetryPolicy(RetryOptions options, Random? random)
    {
        if (options.Schedule.Count == 0)
        {
            throw new ArgumentException("The retry schedule is empty.", nameof(options));
        }

        _schedule = [.. options.Schedule];
        _expire = options.Expire.Ticks;
        _delayNotice = options.DelayNotice?.Ticks ?? long.MaxValue;
        _random = random ?? Random.Shared;
        Expire = options.Expire;
    }

    public TimeSpan Expire { get; }

    /// <summary>The wait after the attempt that made it <paramref name="attempts"/> in all (1 or more): the schedule's entry, the last repeating, ± 20 %.</summary>
    public TimeSpan WaitAfter(int attempts) => Scatter(_schedule[Math.Clamp(attempts - 1, 0, _schedule.Length - 1)]);

    /// <summary>How long a job rests whose message the disk has refused to read so many times in a row: 30 s doubling, at most 10 minutes, ± 20 %.</summary>
    public TimeSpan ReadWait(int times)
    {
        TimeSpan wait = FirstReadWait * Math.Pow(2, Math.Clamp(times - 1, 0, 10));
        return Scatter(wait < LongestReadWait ? wait : LongestReadWait);
    }

    /// <summary>
    /// How long a site rests after so many failures in a row: 2 s doubling, never more than the schedule's entry for that many attempts, ± 20 %.
    /// </summary>
    public TimeSpan BackOff(int failures)
    {
        TimeSpan cap = _schedule[Math.Clamp(failures - 1, 0, _schedule.Length - 1)];
        TimeSpan wait = FirstBackOff * Math.Pow(2, Math.Clamp(failures - 1, 0, 20));
        return Scatter(wait < cap ? wait : cap);
    }

    /// <summary>When the job's recipients fail whatever their state.</summary>
    public long ExpiresAt(in Job job)
    {
        long expires = Saturated(job.ReceivedAt, _expire);
        return job.HasDeadline && !job.DeadlineNotifies ? Math.Min(expires, job.DeadlineAt) : expires;
    }

    /// <summary>When the sender is to be told of the delay; <see cref="long.MaxValue"/> for never (turned off, told already, null sender, or not before expiry).</summary>
    /// <remarks>
    /// A deadline after which the sender is told (RFC 2852) is in the place of the usual notice. A message that waits for its release is not late before it.
    /// </remarks>
    public long NoticeAt(in Job job)
    {
        if (job.Sender == 0 || job.Has(JobFlags.NoticeSent))
        {
            return long.MaxValue;
        }

        if (job.DeadlineNotifies)
        {
            return job.DeadlineAt < Saturated(job.ReceivedAt, _expire) ? job.DeadlineAt : long.MaxValue;
        }

        if (_delayNotice >= _expire)
        {
            return long.MaxValue;
        }

        long notice = Saturated(job.ReceivedAt, _delayNotice);
        return job.Attempts == 0 ? Math.Max(notice, job.DueAt) : notice;
    }

    /// <summary>When a job that is not being worked on has to be looked at: its next attempt, notice or expiry, in <see cref="DueTime"/> units.</summary>
    public uint WakeTime(in Job job)
    {
        if (job.Has(JobFlags.Bouncing))
        {
            return 0;
        }

        uint expires = DueTime.FromTicks(ExpiresAt(job));
        if (job.IsHeld)
        {
            return expires;
        }

        long notice = NoticeAt(job);
        uint wake = Math.Min(job.Due, expires);
        return notice == long.MaxValue ? wake : Math.Min(wake, DueTime.FromTicks(notice));
    }

    /// <summary>What the job needs at <paramref name="now"/>, UTC ticks.</summary>
    public JobNeed NeedOf(in Job job, long now)
    {
        if (job.Has(JobFlags.Bouncing))
        {
            return JobNeed.Bounce;
        }

        if (ExpiresAt(job) <= now)
        {
            return JobNeed.Expiry;
        }

        if (job.IsHeld)
        {
            return JobNeed.Time;
        }

        return NoticeAt(job) <= now ? JobNeed.Notice : job.Due <= DueTime.Reached(now) ? JobNeed.Attempt : JobNeed.Time;
    }

    private static long Saturated(long start, long span) => span > DateTimeOffset.MaxValue.UtcTicks - start ? DateTimeOffset.MaxValue.UtcTicks : start + span;

    private TimeSpan Scatter(TimeSpan wait)
    {
        lock (_gate)
        {
            return wait * (1 - Jitter + (2 * Jitter * _random.NextDouble()));
        }
    }
}
