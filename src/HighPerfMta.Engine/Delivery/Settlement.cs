using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
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

    /// <summary>Recipients that a peer refused for good.</summary>
    Failures,

    /// <summary>The message is too old.</summary>
    Expire,

    /// <summary>The sender is told of the delay.</summary>
    Notice,

    /// <summary>The message cannot be delivered as it is: held for the operator.</summary>
    SetAside,
}

/// <summary>
/// A change of state outside a transaction, with the report that goes before it. The report is durable before the recipients become final, so
/// that a crash between makes a second report and never loses one. What cannot be written is tried again later: in the due heap, holding nothing.
/// </summary>
internal sealed class Settlement(DeliveryServices services, DeliveryJob job, SettlementKind kind) : Timed
{
    private const string DiscardSite = "discard";

    private readonly List<RecipientUpdate> _updates = [];
    private List<(int Recipient, DeliveryOutcome Outcome)>? _reported;

    public DeliveryJob Job { get; } = job;

    public SettlementKind Kind { get; } = kind;

    /// <summary>For <see cref="SettlementKind.Outcome"/>.</summary>
    public DeliveryOutcome? Outcome { get; init; }

    /// <summary>For <see cref="SettlementKind.Failures"/>.</summary>
    public List<(int Recipient, DeliveryOutcome Outcome)>? Failures { get; init; }

    /// <summary>For <see cref="SettlementKind.SetAside"/>.</summary>
    public string Reason { get; init; } = "";

    /// <summary>Runs that ended in failure; the pause before the next grows with it.</summary>
    public int Tries { get; private set; }

    public TimeSpan Pause => TimeSpan.FromSeconds(Math.Min(300, 5 * Math.Pow(2, Math.Clamp(Tries - 1, 0, 10))));

    private QueuedMessage Message => Job.Message;

    private string? SiteKey => Job.Site?.Key;

    /// <summary>True when it is done; false when it has to be tried again.</summary>
    public async ValueTask<bool> RunAsync()
    {
        try
        {
            switch (Kind)
            {
                case SettlementKind.Discard:
                    await DiscardAsync();
                    break;
                case SettlementKind.Hold:
                    await HoldAsync();
                    break;
                case SettlementKind.Outcome:
                    await ApplyOutcomeAsync(Outcome!);
                    break;
                case SettlementKind.Failures:
                    await FailAsync(Failures!, MailEventKind.Bounced);
                    break;
                case SettlementKind.Expire:
                    await FailAsync(Expired(), MailEventKind.Expired);
                    break;
                case SettlementKind.Notice:
                    await NotifyAsync();
                    break;
                default:
                    await SetAsideAsync();
                    break;
            }

            return true;
        }
        catch (LogUnavailableException error)
        {
            Tries++;
            services.Logger.SettlementDelayed(Message.Id, error.Message);
        }
        catch (OperationCanceledException) when (services.Cancellation.IsCancellationRequested)
        {
            Tries++;
        }
        catch (Exception error)
        {
            Tries++;
            services.Logger.SettlementThrew(error, Message.Id);
        }

        return false;
    }

    private async ValueTask DiscardAsync()
    {
        DateTimeOffset now = services.Time.GetUtcNow();
        DeliveryOutcome outcome = RouteOutcomes.Discarded;
        foreach (int recipient in Job.Recipients)
        {
            RecipientState before = Message.GetRecipient(recipient);
            if (IsDue(before, now))
            {
                Add(recipient, OutcomeRecorder.Delivered(before, outcome, now));
                services.Recorder.Write(MailEventKind.Delivered, Message, recipient, DiscardSite, outcome, before.Attempts + 1, now);
            }
        }

        await UpdateAsync();
    }

    private async ValueTask HoldAsync()
    {
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach (int recipient in Job.Recipients)
        {
            RecipientState before = Message.GetRecipient(recipient);
            if (IsDue(before, now))
            {
                Add(recipient, before with { Status = RecipientStatus.Held, LastOutcome = before.LastOutcome ?? RouteOutcomes.Held });
                services.Recorder.Write(MailEventKind.Held, Message, recipient, null, RouteOutcomes.Held, before.Attempts, now);
            }
        }

        await UpdateAsync();
    }

    private async ValueTask ApplyOutcomeAsync(DeliveryOutcome outcome)
    {
        DateTimeOffset now = services.Time.GetUtcNow();
        if (outcome.IsPermanent)
        {
            List<(int, DeliveryOutcome)> failures = [];
            foreach (int recipient in Job.Recipients)
            {
                if (IsDue(Message.GetRecipient(recipient), now))
                {
                    failures.Add((recipient, outcome));
                }
            }

            await FailAsync(failures, MailEventKind.Bounced);
            return;
        }

        DateTimeOffset due = now + services.Retry.WaitAfter(Message.GetRecipient(Job.Recipients[0]).Attempts + 1);
        foreach (int recipient in Job.Recipients)
        {
            RecipientState before = Message.GetRecipient(recipient);
            if (IsDue(before, now))
            {
                Add(recipient, OutcomeRecorder.Deferred(before, outcome, due));
                services.Recorder.Write(MailEventKind.Deferred, Message, recipient, SiteKey, outcome, before.Attempts + 1, now);
            }
        }

        await UpdateAsync();
    }

    /// <summary>The report first, then the final states. A recipient that an operator dropped meanwhile is left alone.</summary>
    private async ValueTask FailAsync(List<(int Recipient, DeliveryOutcome Outcome)> failures, MailEventKind kind)
    {
        // What a run before this one reported is not reported again, and what became final or due since is not in it.
        failures = await ReportOnceAsync(Reports.ReportKind.Failure, failures);
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach ((int recipient, DeliveryOutcome outcome) in failures)
        {
            RecipientState before = Message.GetRecipient(recipient);
            if (before.IsFinal)
            {
                continue;
            }

            int attempts = before.Attempts + (kind == MailEventKind.Bounced ? 1 : 0);
            Add(recipient, before with { Status = RecipientStatus.Failed, Attempts = attempts, DueAt = now, LastOutcome = outcome });
            services.Recorder.Write(kind, Message, recipient, SiteKey, outcome, attempts, now);
        }

        await UpdateAsync();
    }

    private async ValueTask<List<(int Recipient, DeliveryOutcome Outcome)>> ReportOnceAsync(
        Reports.ReportKind kind, List<(int Recipient, DeliveryOutcome Outcome)> recipients)
    {
        if (_reported is null)
        {
            recipients.RemoveAll(r => Message.GetRecipient(r.Recipient).IsFinal);
            if (recipients.Count > 0)
            {
                await services.Reports.SendAsync(kind, Message, recipients, services.Cancellation);
            }

            _reported = recipients;
        }

        return _reported;
    }

    private List<(int Recipient, DeliveryOutcome Outcome)> Expired()
    {
        List<(int, DeliveryOutcome)> failures = [];
        foreach (int recipient in Job.Recipients)
        {
            RecipientState state = Message.GetRecipient(recipient);
            if (!state.IsFinal)
            {
                failures.Add((recipient, RouteOutcomes.Expired(state, services.Retry.Expire)));
            }
        }

        return failures;
    }

    private async ValueTask NotifyAsync()
    {
        List<(int Recipient, DeliveryOutcome Outcome)> delayed = [];
        foreach (int recipient in Job.Recipients)
        {
            RecipientState state = Message.GetRecipient(recipient);
            if (state is { Status: RecipientStatus.Pending, DelayNoticeSent: false })
            {
                delayed.Add((recipient, state.LastOutcome ?? Job.Site?.LastError ?? RouteOutcomes.Waiting));
            }
        }

        delayed = await ReportOnceAsync(Reports.ReportKind.Delay, delayed);
        DateTimeOffset now = services.Time.GetUtcNow();
        foreach ((int recipient, DeliveryOutcome outcome) in delayed)
        {
            RecipientState before = Message.GetRecipient(recipient);
            if (!before.IsFinal)
            {
                Add(recipient, before with { DelayNoticeSent = true });
                services.Recorder.Write(MailEventKind.Delayed, Message, recipient, SiteKey, outcome, before.Attempts, now);
            }
        }

        await UpdateAsync();
    }

    private async ValueTask SetAsideAsync()
    {
        services.Logger.SetAside(Message.Id, Reason);
        DateTimeOffset now = services.Time.GetUtcNow();
        DeliveryOutcome outcome = RouteOutcomes.SetAside(Reason);
        foreach (int recipient in Job.Recipients)
        {
            RecipientState before = Message.GetRecipient(recipient);
            if (before.Status == RecipientStatus.Pending)
            {
                Add(recipient, before with { Status = RecipientStatus.Held, LastOutcome = outcome });
                services.Recorder.Write(MailEventKind.Quarantined, Message, recipient, SiteKey, outcome, before.Attempts, now);
            }
        }

        await UpdateAsync();
    }

    private static bool IsDue(RecipientState state, DateTimeOffset now) => state.Status == RecipientStatus.Pending && state.DueAt <= now;

    private void Add(int recipient, RecipientState state) => _updates.Add(new RecipientUpdate(recipient, state));

    private async ValueTask UpdateAsync()
    {
        if (_updates.Count > 0)
        {
            RecipientUpdate[] updates = [.. _updates];
            _updates.Clear();
            await services.Queue.UpdateAsync(Message, updates);
        }
    }
}

/// <summary>Outcomes that no peer gave.</summary>
internal static class RouteOutcomes
{
    public static DeliveryOutcome Discarded { get; } =
        new(DeliveryStatus.Delivered, DeliveryStage.Routing, FaultOwner.None, 0, new EnhancedCode(2, 0, 0), "discarded by its route");

    public static DeliveryOutcome Held { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Routing, FaultOwner.None, 0, EnhancedCode.None, "held by its route");

    public static DeliveryOutcome Rejected { get; } =
        new(DeliveryStatus.Failed, DeliveryStage.Routing, FaultOwner.Recipient, 0, new EnhancedCode(5, 7, 1), "mail for this address is rejected by a route");

    /// <summary>The answer when the resolver itself broke.</summary>
    public static DeliveryOutcome ResolverFailed { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Routing, FaultOwner.Local, 0, new EnhancedCode(4, 3, 0), "the next hop could not be found because of an internal error");

    /// <summary>Never attempted so far.</summary>
    public static DeliveryOutcome Waiting { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Routing, FaultOwner.None, 0, new EnhancedCode(4, 4, 7), "the message waits for a connection to its destination");

    public static DeliveryOutcome Threw { get; } =
        new(DeliveryStatus.Deferred, DeliveryStage.Connect, FaultOwner.Local, 0, new EnhancedCode(4, 3, 0), "delivery failed with an internal error");

    public static DeliveryOutcome SetAside(string reason) =>
        new(DeliveryStatus.Deferred, DeliveryStage.Operator, FaultOwner.Message, 0, new EnhancedCode(4, 3, 0), Cut($"set aside: {reason}"));

    /// <summary>4.4.7 with what the last attempt ended with, so that the report says why.</summary>
    public static DeliveryOutcome Expired(RecipientState state, TimeSpan age)
    {
        DeliveryOutcome? last = state.LastOutcome;
        string text = $"expired: not delivered within {InWords(age)} and {state.Attempts} attempts";
        if (last is not null)
        {
            string code = last.Code == 0 ? "" : last.Enhanced.IsNone ? $"{last.Code} " : $"{last.Code} {last.Enhanced} ";
            text = $"{text}; the last ended with: {code}{last.Text}";
        }

        return new DeliveryOutcome(DeliveryStatus.Failed, DeliveryStage.Expiry, FaultOwner.None, 0, new EnhancedCode(4, 4, 7), Cut(text), last?.Peer ?? "", last?.Tls ?? "");
    }

    private static string Cut(string text) => text.Length <= DeliveryOutcome.MaxText ? text : text[..DeliveryOutcome.MaxText];

    private static string InWords(TimeSpan age) =>
        age.TotalDays >= 2 ? $"{age.TotalDays:0.#} days" : age.TotalHours >= 2 ? $"{age.TotalHours:0.#} hours" : age.TotalMinutes >= 2 ? $"{age.TotalMinutes:0.#} minutes" : $"{age.TotalSeconds:0.#} seconds";
}
