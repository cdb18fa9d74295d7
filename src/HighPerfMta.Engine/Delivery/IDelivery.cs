using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Engine.Delivery;

/// <summary>The delivery room as others see it. It owns every job of the queue from the moment it is told of it.</summary>
public interface IDelivery : ISiteDirectory, IAsyncDisposable
{
    /// <summary>Takes over the one job of a message that became durable (<see cref="IMailQueue.Announce"/>); never blocks and keeps nothing of the message.</summary>
    void Enqueue(QueuedMessage message);

    /// <summary>Takes over a job from before the start (<see cref="IMailQueue.Restored"/>); never blocks and costs no memory but the job's own.</summary>
    void Restore(int slot);

    /// <summary>
    /// Changes whole jobs, without reading their messages, and returns when that is durable. Jobs that are gone, or to which the change does not apply, are left alone. For a job that is being sent
    /// the change is written down at once and holds when it comes back; what is delivered meanwhile stays delivered. A retry or release lifts the back-off of the jobs' sites. Writes no events.
    /// </summary>
    /// <param name="jobs">Jobs, in any number and from any scan of <see cref="IMailQueue.Jobs"/>.</param>
    /// <param name="steering">The change.</param>
    /// <param name="changed">Empty, or room for one answer for each job: whether it was changed.</param>
    /// <param name="cancellation">Ends it between two batches of 4,096 jobs.</param>
    /// <returns>Jobs that were changed.</returns>
    /// <exception cref="Queue.Log.LogUnavailableException">Not all is durable; what was changed stays so in memory.</exception>
    ValueTask<int> SteerAsync(ReadOnlyMemory<JobRef> jobs, Steering steering, Memory<bool> changed, CancellationToken cancellation);

    /// <summary>
    /// As <see cref="SteerAsync"/> for some recipients of one job: splits them off first. Waits until a job that is being sent has come back, at most a minute.
    /// </summary>
    /// <param name="job">The job.</param>
    /// <param name="recipients">Indexes into the envelope, ascending; final ones and other jobs' are passed over.</param>
    /// <param name="steering">The change.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <returns>Recipients that were changed; 0 when the job is gone, or is being sent for longer than the wait.</returns>
    /// <exception cref="Queue.Log.LogUnavailableException">Not all is durable.</exception>
    /// <exception cref="Queue.Log.RecordUnreadableException">The message cannot be read: only the whole job can be steered.</exception>
    ValueTask<int> SteerRecipientsAsync(JobRef job, IReadOnlyList<int> recipients, Steering steering, CancellationToken cancellation);

    /// <summary>Starts no new transaction, lets those in flight finish within the drain time-out, then closes all connections.</summary>
    Task DrainAsync(CancellationToken cancellation);

    /// <summary>Transactions under way and connections open, for metrics and commands.</summary>
    (int Transactions, int Connections) Activity { get; }

    /// <summary>A moment's view of the sites that have mail, connections or a recent failure, in no order.</summary>
    IReadOnlyList<SiteStatus> Sites();

    /// <summary>The number of a site that has jobs now; 0 when it has none. Numbers are used again when a site is empty.</summary>
    int SiteNumber(string key);

    /// <summary>Where a job is and what it waits for; null when it is gone.</summary>
    ValueTask<JobExplanation?> ExplainAsync(JobRef job, CancellationToken cancellation);

    /// <summary>How a site is and what limits it; null when there is nothing queued for it, no connection and no recent failure.</summary>
    ValueTask<SiteExplanation?> ExplainSiteAsync(string key, CancellationToken cancellation);
}

/// <summary>What delivery knows of one site.</summary>
/// <param name="Key">As <see cref="Site.Key"/>.</param>
/// <param name="Waiting">Jobs due and waiting for a connection.</param>
/// <param name="Deferred">Jobs waiting for their next attempt whose last one went to this site.</param>
/// <param name="InFlight">Jobs being sent, or whose report is being written.</param>
/// <param name="Connections">Connections open or being opened or closed.</param>
/// <param name="BackOffUntil">Nothing is tried before then; null when the site is not in back-off.</param>
/// <param name="LastError">What the site's last failure was; null after a success.</param>
public sealed record SiteStatus(
    string Key, int Waiting, int Deferred, int InFlight, int Connections, DateTimeOffset? BackOffUntil, DeliveryOutcome? LastError)
{
    /// <summary>Of the waiting ones, those never tried: they go first.</summary>
    public int Fresh { get; init; }

    /// <summary>Of the waiting ones, those tried before: at least one in four handed out is one of them.</summary>
    public int Tried { get; init; }
}

/// <summary>What a job waits for.</summary>
public enum JobWait
{
    /// <summary>Nothing: it is being sent, or a report or state is being written.</summary>
    Nothing,

    /// <summary>Its next attempt: <see cref="JobExplanation.Until"/>.</summary>
    DueTime,

    /// <summary>A release by an operator; it expires at <see cref="JobExplanation.Until"/>.</summary>
    Release,

    /// <summary>Its destination is being looked up.</summary>
    Dns,

    /// <summary>Its site rests after a failure: <see cref="JobExplanation.Until"/>.</summary>
    BackOff,

    /// <summary>One attempt finds out whether its site is well again.</summary>
    Probe,

    /// <summary>Its site has as many connections as it may: the jobs ahead go first.</summary>
    SiteConnections,

    /// <summary>All permits for connections are taken.</summary>
    Permits,

    /// <summary>Its turn: the jobs ahead go first.</summary>
    Turn,

    /// <summary>A report to be written, behind other reports.</summary>
    Report,

    /// <summary>The log: nothing is begun that could not be written down.</summary>
    Log,

    /// <summary>The end: this server stops.</summary>
    Shutdown,
}

/// <summary>Where a job is and why it is not delivered yet.</summary>
/// <param name="Place">Who has it.</param>
/// <param name="Wait">What it waits for.</param>
/// <param name="Words">The same as a sentence for people, with the limit that holds it.</param>
public sealed record JobExplanation(JobPlace Place, JobWait Wait, string Words)
{
    /// <summary>When the wait ends, where that is known.</summary>
    public DateTimeOffset? Until { get; init; }

    /// <summary>Its site, once it is known.</summary>
    public string? Site { get; init; }

    /// <summary>Jobs of the same kind and sender's group before it at its site; at most <see cref="MostAhead"/> are counted.</summary>
    public int? Ahead { get; init; }

    /// <summary>Its last reply as kept in memory; the record has the exact one.</summary>
    public string? Reason { get; init; }

    /// <summary>How its site is.</summary>
    public SiteExplanation? SiteState { get; init; }

    /// <summary>Where counting <see cref="Ahead"/> ends.</summary>
    public const int MostAhead = 10_000;
}

/// <summary>How a site is and what limits it now.</summary>
/// <param name="Status">The counts.</param>
/// <param name="Words">The rule that limits it, for people.</param>
/// <param name="ConnectionLimit">Connections it may have now.</param>
/// <param name="Failures">Failures in a row that count against it.</param>
/// <param name="Probing">Its rest is over and one job at a time finds out whether it is well.</param>
/// <param name="Starved">It waits for a permit.</param>
/// <param name="Permits">Connections of all sites together, and the most there may be.</param>
/// <param name="PermitHolders">While it waits for a permit: the sites that hold most, by connections.</param>
public sealed record SiteExplanation(
    SiteStatus Status, string Words, int ConnectionLimit, int Failures, bool Probing, bool Starved, (int Used, int Most) Permits, IReadOnlyList<(string Site, int Connections)> PermitHolders);
