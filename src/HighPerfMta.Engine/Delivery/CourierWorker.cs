using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// One connection permit and the loop that works for it. The shard hands it a batch of jobs of one site; it does them one after the other,
/// records outcomes, and reports once for the whole batch. Between <see cref="Start"/> and its report the batch belongs to the worker,
/// otherwise to the shard.
/// </summary>
internal sealed partial class CourierWorker : IValueTaskSource<bool>
{
    /// <summary>Jobs of one batch; several only when the site's queue is long.</summary>
    public const int MaxBatch = 8;

    /// <summary>Transactions that one job may have before others that wait for its site: reading a list of a thousand recipients anew for each hundred of them would cost more than they do.</summary>
    public const int TransactionsInARow = 10;

    private const int MaxRequeues = 3;

    private readonly DeliveryShard _shard;
    private readonly DeliveryServices _services;
    private readonly ICourier _courier;
    private readonly DeliveryTask[] _tasks = new DeliveryTask[MaxBatch];
    private readonly List<int> _todo = [];
    private DateTimeOffset _due;
    private RecipientUpdate[] _updates = [];
    private ManualResetValueTaskSourceCore<bool> _signal = new() { RunContinuationsAsynchronously = true };
    private Task _loop = Task.CompletedTask;

    public CourierWorker(DeliveryShard shard, DeliveryServices services, SiteQueue site)
    {
        _shard = shard;
        _services = services;
        Site = site;
        _courier = services.Couriers.Create(site.Site);
    }

    public SiteQueue Site { get; }

    public DeliveryJob[] Batch { get; } = new DeliveryJob[MaxBatch];

    public int Count { get; set; }

    /// <summary>Deliveries in the batch that the site answered, whatever the answer was for the recipient.</summary>
    public int Answers { get; private set; }

    /// <summary>A failure of the site as a whole; the rest of the batch was not tried.</summary>
    public DeliveryOutcome? SiteFailure { get; private set; }

    /// <summary>When the batch's failing transaction began, UTC ticks.</summary>
    public long AttemptBegan { get; private set; }

    /// <summary>The site would not take this connection while others work.</summary>
    public bool Refused { get; private set; }

    /// <summary>The courier threw and must not be used again.</summary>
    public bool Broken { get; private set; }

    /// <summary>Several jobs are on their way at once over its connection.</summary>
    public bool SendsAhead => _courier.SendsAhead;

    public bool IsClosed => Broken || _courier.State == CourierState.Closed;

    /// <summary>The connection has carried a message.</summary>
    public bool Established { get; set; }

    /// <summary>Jobs done over this permit.</summary>
    public int Served { get; set; }

    public long IdleSince { get; set; }

    public long HandedOverAt { get; set; }

    /// <summary>The peer answered the last batch at once.</summary>
    public bool Brisk { get; set; }

    /// <summary>Links of the shard's list of idle couriers.</summary>
    public CourierWorker? Older { get; set; }

    public CourierWorker? Newer { get; set; }

    public void Launch() => _loop = RunAsync();

    /// <summary>The batch is filled: go.</summary>
    public void Start() => _signal.SetResult(true);

    /// <summary>Only when idle: says QUIT and reports that the permit is free.</summary>
    public void Retire() => _signal.SetResult(false);

    bool IValueTaskSource<bool>.GetResult(short token) => _signal.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _signal.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _signal.OnCompleted(continuation, state, token, flags);

    private async Task RunAsync()
    {
        while (await new ValueTask<bool>(this, _signal.Version))
        {
            await DoBatchAsync();

            // Reset before the report: the shard may start the next batch at once.
            _signal.Reset();
            _shard.Post(new DeliveryEvent(DeliveryEventKind.WorkerDone, this));
        }

        try
        {
            if (!Broken)
            {
                await _courier.QuitAsync();
            }

            await _courier.DisposeAsync();
        }
        catch (Exception error)
        {
            _services.Logger.CourierFailed(error, Site.Key);
        }

        _shard.Post(new DeliveryEvent(DeliveryEventKind.WorkerGone, this));
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private async ValueTask DoBatchAsync()
    {
        Answers = 0;
        SiteFailure = null;
        for (int i = 0; i < Count; i++)
        {
            bool stop = SiteFailure is not null || Broken || _services.Stopping || Refused || (i > 0 && Site.Resting);
            if ((stop || _services.Pending.Has(Batch[i].Slot, Batch[i].Id)) && _tasks[i] is not { Ahead: SentAhead.Whole })
            {
                await LeaveJobAsync(i);
                continue;
            }

            await DoJobAsync(i);
        }
    }

    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder))]
    private async ValueTask DoJobAsync(int i)
    {
        try
        {
            QueuedMessage message = Batch[i].Message ?? await LoadAsync(i);
            Batch[i].Message = message;
            Batch[i].Result = await DeliverAsync(message, i);
        }
        catch (OperationCanceledException) when (_services.Cancellation.IsCancellationRequested)
        {
            Batch[i].Result = JobResult.Untried;
        }
        catch (RecordUnreadableException error)
        {
            // The courier may have stopped within the message's octets; its connection cannot carry another.
            Broken = Batch[i].Message is not null;
            Batch[i].Result = error.IsUnserved ? JobResult.Unserved : error.IsRefusedByDisk ? JobResult.Unread : JobResult.Unusable;
            Batch[i].Reason = $"the message cannot be read back: {error.Message}";
        }
        catch (Exception error)
        {
            _services.Logger.DeliveryThrew(error, Batch[i].Id, Site.Key);
            Broken = Batch[i].Message is not null;
            Batch[i].Result = JobResult.Threw;
            Batch[i].Reason = $"delivery failed {JobTroubles.MaxThrows} times with an internal error: {error.GetType().Name}";
        }

        if (Batch[i].Message is { Slot: 0 })
        {
            Batch[i].Result = JobResult.Finished;
        }
    }

    /// <summary>As many transactions as the job's recipients need; after <see cref="TransactionsInARow"/> of them other jobs of the site have their turn.</summary>
    [AsyncMethodBuilder(typeof(SharedBoxMethodBuilder<>))]
    private async ValueTask<JobResult> DeliverAsync(QueuedMessage message, int i)
    {
        DeliveryTask task = TaskOf(i);
        bool begun = task.Ahead != SentAhead.None;
        if (begun)
        {
            // What the job before has left is its own.
            _todo.Clear();
        }
        else if (!FindDue(message))
        {
            PutOff(message);
        }

        _due = default;
        for (int done = 1; begun || _todo.Count > 0; done++)
        {
            if (!begun)
            {
                FillTask(task, message);
            }

            PrepareNext(i);
            AttemptBegan = begun ? AttemptBegan : _services.Time.GetUtcNow().UtcTicks;
            begun = false;
            _services.TransactionBegan();
            try
            {
                await _courier.DeliverAsync(task, _services.Cancellation);
            }
            finally
            {
                _services.TransactionEnded();
            }

            if (IsRefusal(task, Batch[i].Requeues))
            {
                Refused = true;
                _services.Queue.Keep(message);
                return JobResult.Refused;
            }

            int count = Judge(task, message, i);
            if (count > 0)
            {
                await _services.Queue.UpdateAsync(message, _updates.AsMemory(0, count));
            }

            if (SiteFailure is not null || _services.Stopping || message.Slot == 0)
            {
                break;
            }

            bool nextSent = task.Next is { Ahead: not SentAhead.None };
            bool othersTurn = Site.Waiting > 0 && done >= TransactionsInARow;
            if (_todo.Count > 0 && (nextSent || othersTurn || _services.Pending.Has(message.Slot, message.Id)))
            {
                // Another transaction now would give up what was sent ahead. Failures are told first, and that needs the message as it is.
                _services.Queue.Keep(message);
                break;
            }
        }

        return JobResult.Tried;
    }

    /// <summary>The recipients that are due: all but those that were tried for themselves when the job was interrupted. False when there are none.</summary>
    private bool FindDue(QueuedMessage message)
    {
        long now = _services.Time.GetUtcNow().UtcTicks + DueTime.Unit;
        _todo.Clear();
        foreach (int recipient in message.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            if (!state.IsFinal && state.DueAt.UtcTicks <= now)
            {
                _todo.Add(recipient);
            }
        }

        return _todo.Count > 0;
    }

    /// <summary>The entry said that the job is due and its states do not: it waits for what they say, for else it would be asked again at once, and for ever.</summary>
    private void PutOff(QueuedMessage message)
    {
        long due = long.MaxValue;
        foreach (int recipient in message.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            due = state.IsFinal ? due : Math.Min(due, state.DueAt.UtcTicks);
        }

        if (message.Slot != 0)
        {
            _services.Queue.Jobs[message.Slot].Due = DueTime.FromTicks(due);
        }
    }

    private int MostRecipients => Math.Min(_services.Options.RecipientsPerTransaction, _courier.RecipientLimit);

    private DeliveryTask TaskOf(int i) => _tasks[i] ??= new DeliveryTask();

    private void FillTask(DeliveryTask task, QueuedMessage message)
    {
        int count = Math.Min(_todo.Count, MostRecipients);
        if (task.RecipientIndexes.Length < count)
        {
            task.RecipientIndexes = new int[count];
            task.Outcomes = new DeliveryOutcome[count];
        }

        task.Message = message;
        task.RecipientCount = count;
        _todo.CopyTo(0, task.RecipientIndexes, 0, count);
        Array.Clear(task.Outcomes);
        _todo.RemoveRange(0, count);
    }

    /// <summary>No session came about although other sessions with the site work: the site is full, not down.</summary>
    private bool IsRefusal(DeliveryTask task, int requeues)
    {
        DeliveryOutcome first = task.Outcomes[0];
        return first is { Status: DeliveryStatus.Deferred, Fault: FaultOwner.Site, Stage: DeliveryStage.Connect or DeliveryStage.Tls or DeliveryStage.Greeting or DeliveryStage.Hello }
            && !Established && Site.Established > 0 && requeues < MaxRequeues;
    }

    /// <summary>Turns the transaction's outcomes into updates and events; returns how many updates there are.</summary>
    private int Judge(DeliveryTask task, QueuedMessage message, int place)
    {
        if (_updates.Length < task.RecipientCount)
        {
            _updates = new RecipientUpdate[task.RecipientCount];
        }

        DateTimeOffset now = _services.Time.GetUtcNow();
        bool progress = false;
        for (int i = 0; i < task.RecipientCount; i++)
        {
            progress |= !IsTooManyRecipients(task.Outcomes[i]);
        }

        int count = 0;
        for (int i = 0; i < task.RecipientCount; i++)
        {
            int recipient = task.RecipientIndexes[i];
            DeliveryOutcome outcome = task.Outcomes[i];
            RecipientState before = message.GetRecipient(recipient);
            NoteSite(outcome);
            if (outcome.Status == DeliveryStatus.Delivered && ReportPolicy.IsRelayTold(message.Envelope, recipient, task.PassesDsn))
            {
                (Batch[place].Failures ??= []).Add((recipient, outcome));
                Batch[place].HasDeliveries = true;
            }
            else if (outcome.Status == DeliveryStatus.Delivered)
            {
                _updates[count++] = new RecipientUpdate(recipient, OutcomeRecorder.Delivered(before, outcome, now));
                _services.Recorder.Write(MailEventKind.Delivered, message, recipient, Site.Key, outcome, before.Attempts + 1, now);
            }
            else if (before.IsFinal || WasCancelled(outcome))
            {
                // Dropped meanwhile, or ended by our own stop: nothing was learnt about the recipient.
            }
            else if (outcome.Status == DeliveryStatus.Failed)
            {
                (Batch[place].Failures ??= []).Add((recipient, outcome));
            }
            else if (progress && IsTooManyRecipients(outcome))
            {
                _todo.Add(recipient);
            }
            else
            {
                // One time for all recipients of the attempt: they are one job.
                _due = _due == default ? now + _services.Retry.WaitAfter(before.Attempts + 1) : _due;
                RecipientState after = OutcomeRecorder.Deferred(before, outcome, _due);
                _updates[count++] = new RecipientUpdate(recipient, after);
                _services.Recorder.Write(MailEventKind.Deferred, message, recipient, Site.Key, outcome, after.Attempts, now);
            }
        }

        return count;
    }

    private void NoteSite(DeliveryOutcome outcome)
    {
        if (outcome is { Status: DeliveryStatus.Deferred, Fault: FaultOwner.Site })
        {
            SiteFailure = outcome;
        }
        else if (outcome.Fault != FaultOwner.Local)
        {
            Answers++;
        }
    }

    private bool WasCancelled(DeliveryOutcome outcome) => outcome is { Status: DeliveryStatus.Deferred, Fault: FaultOwner.Local } && _services.Cancellation.IsCancellationRequested;

    /// <summary>RFC 5321 §4.5.3.1.10: the rest goes in another transaction, at once.</summary>
    private static bool IsTooManyRecipients(DeliveryOutcome outcome) =>
        outcome is { Status: DeliveryStatus.Deferred, Stage: DeliveryStage.RcptTo, Code: 452 } && (outcome.Enhanced.IsNone || outcome.Enhanced == new EnhancedCode(4, 5, 3));
}
