using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Delivery;

internal enum SettlementKind : byte
{
    /// <summary>The route discards: delivered to nowhere.</summary>
    Discard,

    /// <summary>The route holds.</summary>
    Hold,

    /// <summary>One outcome for all recipients that are due: a reject route, a DNS failure.</summary>
    Outcome,

    /// <summary>Recipients that a peer refused for good, and delivered ones of which the sender is to be told.</summary>
    Failures,

    /// <summary>The message is too old.</summary>
    Expire,

    /// <summary>The sender is told of the delay.</summary>
    Notice,

    /// <summary>An operator returns the job to the sender.</summary>
    Bounce,

    /// <summary>The message cannot be delivered as it is: held for the operator.</summary>
    SetAside,

    /// <summary>An operator's change that waited for the job.</summary>
    Steer,
}

/// <summary>
/// A change of a job's state outside a transaction, with the report that goes before it. The report is durable before the recipients become final, so
/// that a crash between makes a second report and never loses one. What cannot be written is tried again later: in the due heap, holding nothing but what was reported.
/// </summary>
internal sealed partial class Settlement(DeliveryServices services, int slot, SettlementKind kind) : Timed
{
    private const string DiscardSite = "discard";

    private readonly List<RecipientUpdate> _updates = [];
    private List<(int Recipient, DeliveryOutcome Outcome)>? _reported;
    private bool _successReported;

    public int Slot { get; } = slot;

    public MessageId Id { get; } = services.Queue.Jobs[slot].MessageId;

    public SettlementKind Kind { get; } = kind;

    public SiteQueue? Site { get; } = services.Registry[services.Queue.Jobs[slot].Site];

    /// <summary>What is known of the message already; loaded when it is wanted otherwise.</summary>
    public QueuedMessage? Message { get; set; }

    /// <summary>For <see cref="SettlementKind.Outcome"/>.</summary>
    public DeliveryOutcome? Outcome { get; init; }

    /// <summary>For <see cref="SettlementKind.Failures"/>.</summary>
    public List<(int Recipient, DeliveryOutcome Outcome)>? Failures { get; init; }

    /// <summary>There are delivered ones among <see cref="Failures"/>.</summary>
    public bool HasDeliveries { get; init; }

    /// <summary>For <see cref="SettlementKind.SetAside"/>.</summary>
    public string Reason { get; init; } = "";

    /// <summary>For <see cref="SettlementKind.Steer"/>.</summary>
    public PendingSteering Steering { get; init; }

    /// <summary>For a job that is set aside because its end cannot be told: it rests instead of being tried again at once.</summary>
    public bool RestsAfter { get; init; }

    /// <summary>The job has left the queue; its slot may be another's.</summary>
    public bool Finished { get; private set; }

    /// <summary>Runs that ended in failure; the pause before the next grows with it.</summary>
    public int Tries { get; private set; }

    /// <summary>Why the job has to be set aside instead; null: it need not.</summary>
    public string? Unusable { get; private set; }

    /// <summary>It knows nothing that the job's entry and route do not say.</summary>
    public bool CanBeForgotten => _reported is null && !_successReported && Kind is not (SettlementKind.Failures or SettlementKind.SetAside or SettlementKind.Steer);

    public TimeSpan Pause => TimeSpan.FromSeconds(Math.Min(300, 5 * Math.Pow(2, Math.Clamp(Tries - 1, 0, 10))));

    private string? SiteKey => Site?.Key;

    /// <summary>True when it is done; false when it has to be tried again, or the job set aside. Never throws.</summary>
    public async ValueTask<bool> RunAsync()
    {
        try
        {
            await SettleAsync();
            Finished |= Message is { Slot: 0 };
            Message = null;
            return true;
        }
        catch (Exception error) when (Steering.Recipients is { } some)
        {
            // The one who asked decides whether to try again.
            some.Fail(error);
            return true;
        }
        catch (LogUnavailableException error)
        {
            services.Logger.SettlementDelayed(Id, error.Message);
        }
        catch (OperationCanceledException) when (services.Cancellation.IsCancellationRequested)
        {
        }
        catch (RecordUnreadableException error) when (error.IsUnserved || (error.IsRefusedByDisk && !services.ReadsFailed(Slot, Id, out _)))
        {
            services.Logger.SettlementDelayed(Id, error.Message);
        }
        catch (RecordUnreadableException error) when (Kind != SettlementKind.SetAside)
        {
            Unusable = $"the message cannot be read back: {error.Message}";
        }
        catch (Exception error)
        {
            services.Logger.SettlementThrew(error, Id);
            if (services.Troubles.Threw(Slot, Id) && Kind != SettlementKind.SetAside)
            {
                Unusable = $"{Kind} failed {JobTroubles.MaxThrows} times with an internal error: {error.GetType().Name}";
            }
        }

        Tries++;
        if (_reported is null && Kind != SettlementKind.Failures)
        {
            // It may wait for long; its log record has all of it.
            Finished |= Message is { Slot: 0 };
            Message = null;
        }

        return Finished;
    }

    private async ValueTask SettleAsync()
    {
        if (Kind == SettlementKind.SetAside)
        {
            await SetAsideAsync();
            return;
        }

        if (Kind == SettlementKind.Steer)
        {
            await SteerAsync();
            return;
        }

        QueuedMessage message = Message ??= await services.LoadAsync(Slot);
        switch (Kind)
        {
            case SettlementKind.Discard:
                await DiscardAsync(message);
                break;
            case SettlementKind.Hold:
                await HoldAsync(message);
                break;
            case SettlementKind.Outcome:
                await ApplyOutcomeAsync(message, Outcome!);
                break;
            case SettlementKind.Failures:
                await EndAsync(message);
                break;
            case SettlementKind.Expire:
                await FailAsync(message, Open(message, s => ExpiryOf(message, s)), MailEventKind.Expired);
                break;
            case SettlementKind.Bounce:
                await FailAsync(message, Open(message, static _ => RouteOutcomes.Bounced), MailEventKind.Bounced);
                break;
            default:
                await NotifyAsync(message);
                break;
        }
    }

    private async ValueTask DiscardAsync(QueuedMessage message)
    {
        DeliveryOutcome outcome = RouteOutcomes.Discarded;
        await ReportSuccessAsync(message, ReportKind.Delivered, [.. DueOf(message).Where(r => ReportPolicy.IsWanted(ReportKind.Delivered, message.Envelope, r)).Select(r => (r, outcome))]);
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach (int recipient in message.Recipients)
        {
            RecipientState before = message.GetRecipient(recipient);
            if (IsDue(before, now))
            {
                Add(recipient, OutcomeRecorder.Delivered(before, outcome, now));
                services.Recorder.Write(MailEventKind.Delivered, message, recipient, DiscardSite, outcome, before.Attempts + 1, now);
            }
        }

        await UpdateAsync(message);
    }

    private async ValueTask HoldAsync(QueuedMessage message)
    {
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach (int recipient in message.Recipients)
        {
            RecipientState before = message.GetRecipient(recipient);
            if (before.Status == RecipientStatus.Pending)
            {
                Add(recipient, before with { Status = RecipientStatus.Held, LastOutcome = before.LastOutcome ?? RouteOutcomes.Held });
                services.Recorder.Write(MailEventKind.Held, message, recipient, null, RouteOutcomes.Held, before.Attempts, now);
            }
        }

        await UpdateAsync(message);
    }

    private async ValueTask ApplyOutcomeAsync(QueuedMessage message, DeliveryOutcome outcome)
    {
        DateTimeOffset now = services.Time.GetUtcNow();
        if (outcome.IsPermanent)
        {
            List<(int, DeliveryOutcome)> failures = [];
            foreach (int recipient in message.Recipients)
            {
                if (IsDue(message.GetRecipient(recipient), now))
                {
                    failures.Add((recipient, outcome));
                }
            }

            await FailAsync(message, failures, MailEventKind.Bounced);
            return;
        }

        DateTimeOffset due = default;
        foreach (int recipient in message.Recipients)
        {
            RecipientState before = message.GetRecipient(recipient);
            if (IsDue(before, now))
            {
                due = due == default ? now + services.Retry.WaitAfter(before.Attempts + 1) : due;
                Add(recipient, OutcomeRecorder.Deferred(before, outcome, due));
                services.Recorder.Write(MailEventKind.Deferred, message, recipient, SiteKey, outcome, before.Attempts + 1, now);
            }
        }

        await UpdateAsync(message);
    }

    /// <summary>What a courier brought back: both reports first, then the final states of all at once.</summary>
    private async ValueTask EndAsync(QueuedMessage message)
    {
        List<(int Recipient, DeliveryOutcome Outcome)> delivered = Failures!.FindAll(static e => e.Outcome.Status == DeliveryStatus.Delivered);
        List<(int Recipient, DeliveryOutcome Outcome)> failed = Failures.FindAll(static e => e.Outcome.Status != DeliveryStatus.Delivered);
        await ReportSuccessAsync(message, ReportKind.Relayed, delivered);
        failed = await ReportOnceAsync(message, ReportKind.Failure, failed);
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach ((int recipient, DeliveryOutcome outcome) in delivered)
        {
            RecipientState before = message.GetRecipient(recipient);
            Add(recipient, OutcomeRecorder.Delivered(before, outcome, now));
            services.Recorder.Write(MailEventKind.Delivered, message, recipient, SiteKey, outcome, before.Attempts + 1, now);
        }

        await FailAsync(message, failed, MailEventKind.Bounced);
    }

    private async ValueTask ReportSuccessAsync(QueuedMessage message, ReportKind kind, List<(int Recipient, DeliveryOutcome Outcome)> delivered)
    {
        if (!_successReported && delivered.Count > 0)
        {
            await services.Reports.SendAsync(kind, message, delivered, services.Cancellation);
            _successReported = true;
        }
    }

    private IEnumerable<int> DueOf(QueuedMessage message)
    {
        DateTimeOffset now = services.Time.GetUtcNow();
        return message.Recipients.ToArray().Where(r => IsDue(message.GetRecipient(r), now));
    }

    /// <summary>The report first, then the final states.</summary>
    private async ValueTask FailAsync(QueuedMessage message, List<(int Recipient, DeliveryOutcome Outcome)> failures, MailEventKind kind)
    {
        // What a run before this one reported is not reported again, and what became final or due since is not in it.
        failures = await ReportOnceAsync(message, ReportKind.Failure, failures);
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach ((int recipient, DeliveryOutcome outcome) in failures)
        {
            RecipientState before = message.GetRecipient(recipient);
            if (before.IsFinal)
            {
                continue;
            }

            int attempts = before.Attempts + (Kind is SettlementKind.Expire or SettlementKind.Bounce ? 0 : 1);
            Add(recipient, before with { Status = RecipientStatus.Failed, Attempts = attempts, DueAt = now, LastOutcome = outcome });
            services.Recorder.Write(kind, message, recipient, SiteKey, outcome, attempts, now);
        }

        await UpdateAsync(message);
    }

    /// <summary>Too old, or not delivered by the time that its sender gave (RFC 2852).</summary>
    private DeliveryOutcome ExpiryOf(QueuedMessage message, RecipientState state) =>
        message.Envelope.Parameters?.DeliverBy is { Notify: false } by && by.At <= services.Time.GetUtcNow()
            ? RouteOutcomes.NotInTime(state)
            : RouteOutcomes.Expired(state, services.Retry.Expire);

    private async ValueTask<List<(int Recipient, DeliveryOutcome Outcome)>> ReportOnceAsync(
        QueuedMessage message, ReportKind kind, List<(int Recipient, DeliveryOutcome Outcome)> recipients)
    {
        if (_reported is null)
        {
            recipients.RemoveAll(r => message.GetRecipient(r.Recipient).IsFinal);
            if (recipients.Count > 0)
            {
                await services.Reports.SendAsync(kind, message, recipients, services.Cancellation);
            }

            _reported = recipients;
        }

        return _reported;
    }

    private static List<(int Recipient, DeliveryOutcome Outcome)> Open(QueuedMessage message, Func<RecipientState, DeliveryOutcome> outcome)
    {
        List<(int, DeliveryOutcome)> open = [];
        foreach (int recipient in message.Recipients)
        {
            RecipientState state = message.GetRecipient(recipient);
            if (!state.IsFinal)
            {
                open.Add((recipient, outcome(state)));
            }
        }

        return open;
    }

    private async ValueTask NotifyAsync(QueuedMessage message)
    {
        DeliverBy? by = message.Envelope.Parameters?.DeliverBy;
        List<(int Recipient, DeliveryOutcome Outcome)> delayed = Open(message, state => by is null ? state.LastOutcome ?? Site?.LastError ?? RouteOutcomes.Waiting : RouteOutcomes.Late(state));
        delayed.RemoveAll(d => message.GetRecipient(d.Recipient).DelayNoticeSent);
        if (message.Envelope.Parameters?.ReleaseAt is not null && by is null)
        {
            // It was its sender who wanted it late.
            delayed.ForEach(d => Add(d.Recipient, message.GetRecipient(d.Recipient) with { DelayNoticeSent = true }));
            await UpdateAsync(message);
            return;
        }

        delayed = await ReportOnceAsync(message, ReportKind.Delay, delayed);
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach ((int recipient, DeliveryOutcome outcome) in delayed)
        {
            RecipientState before = message.GetRecipient(recipient);
            if (before.IsFinal)
            {
                continue;
            }

            // Also of those who do not want to be told: the question is settled.
            Add(recipient, before with { DelayNoticeSent = true });
            if (ReportPolicy.IsWanted(ReportKind.Delay, message.Envelope, recipient))
            {
                services.Recorder.Write(MailEventKind.Delayed, message, recipient, SiteKey, outcome, before.Attempts, now);
            }
        }

        await UpdateAsync(message);
    }

    /// <summary>What is due within the entry's rounding of times.</summary>
    private static bool IsDue(RecipientState state, DateTimeOffset now) => !state.IsFinal && state.DueAt.UtcTicks <= now.UtcTicks + DueTime.Unit;

    private void Add(int recipient, RecipientState state) => _updates.Add(new RecipientUpdate(recipient, state));

    private async ValueTask UpdateAsync(QueuedMessage message)
    {
        if (_updates.Count > 0)
        {
            RecipientUpdate[] updates = [.. _updates];
            _updates.Clear();
            await services.Queue.UpdateAsync(message, updates);
        }
    }
}
