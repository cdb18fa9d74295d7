using System.Globalization;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Why a job is where it is.</summary>
internal sealed partial class DeliveryShard
{
    private void Explain(Explaining question)
    {
        try
        {
            question.Answer(_jobs.TryRead(question.Job.Slot, out Job job) && job.MessageId == question.Job.Id ? Explain(question.Job.Slot, job) : null);
        }
        finally
        {
            question.Answer(null);
        }
    }

    private JobExplanation Explain(int slot, in Job job)
    {
        SiteQueue? site = SiteOf(job);
        SiteExplanation? state = site is null ? null : ExplainSite(site);
        JobExplanation explanation = job.Place switch
        {
            JobPlace.Waiting when site is not null => ExplainWaiting(slot, site, state!),
            JobPlace.Parked => ExplainParked(job),
            JobPlace.InFlight => new JobExplanation(job.Place, JobWait.Nothing, $"it is being sent to {site?.Key}"),
            JobPlace.Settling or JobPlace.ToSettle => ExplainSettling(slot, job),
            _ => new JobExplanation(job.Place, JobWait.Dns, $"its destination is being looked up: {_names.Domains.Get(job.Domain) ?? "several domains"}"),
        };
        return explanation with
        {
            Site = site?.Key,
            SiteState = state,
            Reason = _names.Reasons.Get(job.Reason),
        };
    }

    private JobExplanation ExplainWaiting(int slot, SiteQueue site, SiteExplanation state)
    {
        int ahead = IsMine(slot) ? SiteJobs.CountAhead(_jobs, slot, JobExplanation.MostAhead) : 0;
        string turn = $"{(ahead == JobExplanation.MostAhead ? "at least " : "")}{ahead} jobs of the same senders' group go before it, {site.Waiting - 1} others wait for the site";
        JobWait wait = _draining ? JobWait.Shutdown
            : !_services.Queue.MayAttempt ? JobWait.Log
            : site.Resting ? JobWait.BackOff
            : site.Probing && site.Busy > 0 ? JobWait.Probe
            : site.Starved ? JobWait.Permits
            : site.Connections >= state.ConnectionLimit ? JobWait.SiteConnections
            : JobWait.Turn;
        string words = wait switch
        {
            JobWait.Shutdown => "the server stops and begins no transaction",
            JobWait.Log => "the log is failing: no attempt begins whose end could not be written down",
            _ => $"it is due; {state.Words}; {turn}",
        };
        return new JobExplanation(JobPlace.Waiting, wait, words) { Ahead = ahead, Until = wait == JobWait.BackOff ? state.Status.BackOffUntil : null };
    }

    private JobExplanation ExplainParked(in Job job)
    {
        DateTimeOffset expires = new(_services.Retry.ExpiresAt(job), TimeSpan.Zero);
        if (job.IsHeld)
        {
            return new JobExplanation(JobPlace.Parked, JobWait.Release, $"it is held ({_names.Reasons.Get(job.Reason) ?? "by an operator"}) until an operator releases it; it expires at {expires:u}") { Until = expires };
        }

        DateTimeOffset due = new(job.DueAt, TimeSpan.Zero);
        string last = _names.Reasons.Get(job.Reason) is { } reason ? $"; the last attempt ended with: {reason}" : "";
        return new JobExplanation(
            JobPlace.Parked, JobWait.DueTime, string.Create(CultureInfo.InvariantCulture, $"its next attempt, number {job.Attempts + 1}, is due at {due:u}{last}; it expires at {expires:u}"))
        { Until = due };
    }

    private JobExplanation ExplainSettling(int slot, in Job job)
    {
        if (_paused.TryGetValue(slot, out Settlement? paused))
        {
            return new JobExplanation(job.Place, JobWait.Report, $"a report or state of it could not be written {paused.Tries} times and is tried again") { Until = new DateTimeOffset(paused.Due, TimeSpan.Zero) };
        }

        if (_resting.TryGetValue(slot, out RestingJob? resting))
        {
            return new JobExplanation(job.Place, JobWait.Release, "its end could not be told to the sender; it is tried again later, or when an operator acts") { Until = new DateTimeOffset(resting.Due, TimeSpan.Zero) };
        }

        return job.Place == JobPlace.ToSettle
            ? new JobExplanation(job.Place, JobWait.Report, $"a report or state of it is to be written, behind {_settling + _failing.Count} that are under way")
            : new JobExplanation(job.Place, JobWait.Nothing, "a report or state of it is being written");
    }

    /// <summary>Also for other threads, which see each number of another moment.</summary>
    public SiteExplanation ExplainSite(SiteQueue site)
    {
        int limit = ConnectionLimit(site);
        string error = site.LastError is { } last ? $"; its last failure: {last.Text}" : "";
        (int used, int most) = (_services.Permits.Used, _services.Options.Connections);
        SiteStatus status = site.Status();
        string words = status.BackOffUntil is { } until ? $"the site rests until {until:u} after {site.Failures} failures in a row{error}"
            : site.Probing ? $"one attempt at a time finds out whether the site is well again{error}"
            : site.Starved ? $"the site waits for a connection permit: {used} of {most} are taken"
            : site.Connections >= limit ? $"the site has {site.Connections} connections of {limit} that it may have now ({Limiter(site, limit)})"
            : site.Waiting > 0 ? "the site takes its jobs in turn"
            : "nothing limits the site";
        return new SiteExplanation(status, words, limit, site.Failures, site.Probing, site.Starved, (used, most), []);
    }

    private string Limiter(SiteQueue site, int limit) =>
        limit >= _services.Options.ConnectionsPerSite ? "delivery.connections_per_site"
        : limit == site.Ceiling ? "the site takes no more"
        : "every batch that is answered allows one more";
}
