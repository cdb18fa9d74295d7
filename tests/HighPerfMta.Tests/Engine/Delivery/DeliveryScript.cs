using System.Collections.Concurrent;
using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public enum StepKind
{
    Send, SendMany, SendNullSender, Advance, Wait, Retry, Hold, Release, Drop, Bounce, Reroute, Mood, Hang, LetGo, SiteDown, SiteUp, ReportsFail, ReportsWork, Restart,
}

public readonly record struct Step(StepKind Kind, int A, int B);

/// <summary>Runs steps against a delivery room and keeps account of what the couriers and reports saw.</summary>
internal sealed class DeliveryScript
{
    private const int Domains = 6;

    private readonly ConcurrentDictionary<(MessageId, int), bool> _inFlight = [];
    private readonly ConcurrentDictionary<(MessageId, int), int> _deliveries = [];
    private readonly ConcurrentDictionary<string, bool> _down = [];
    private readonly List<Task> _operators = [];
    private readonly List<string> _errors;
    private TaskCompletionSource? _hang;
    private volatile int _mood;
    private volatile bool _reportsFail;
    private int _attempts;
    private int _lastRecipient;

    public DeliveryScript(int seed)
    {
        HighPerfMta.TestKit.Simulation.SimulatedLogs loggers = new();
        _errors = loggers.Errors;
        Bench = new DeliveryBench
        {
            Options = new DeliveryOptions { Hostname = "mta.example", Shards = 2, Connections = 4, ConnectionsPerSite = 2, RecipientsPerTransaction = 3 },
            Random = new Random(seed),
            Loggers = loggers,
        };
        Bench.Couriers.Connect = site => _down.ContainsKey(site.Key) ? ScriptedCouriers.SiteDown : null;
        Bench.Couriers.Before = TransactAsync;
        Bench.Couriers.Outcome = Decide;
        Bench.Reports.Before = _ =>
        {
            if (_reportsFail)
            {
                throw new LogUnavailableException("told to fail", LogCondition.Failing);
            }
        };
    }

    public DeliveryBench Bench { get; }

    public List<QueuedMessage> Sent { get; } = [];

    public ConcurrentQueue<string> Violations { get; } = [];

    public IReadOnlyDictionary<(MessageId, int), int> Deliveries => _deliveries;

    public Dictionary<(MessageId, int), int> Reported(ReportKind kind)
    {
        Dictionary<(MessageId, int), int> counts = [];
        foreach ((_, QueuedMessage message, (int Recipient, DeliveryOutcome Outcome)[] recipients) in Bench.Reports.Sent.Where(r => r.Kind == kind))
        {
            foreach ((int recipient, _) in recipients)
            {
                counts[(message.Id, recipient)] = counts.GetValueOrDefault((message.Id, recipient)) + 1;
            }
        }

        return counts;
    }

    public async Task DoAsync(Step step)
    {
        switch (step.Kind)
        {
            case StepKind.Send:
                Send("s@from.example", 1 + (step.A % 3), step.B);
                break;
            case StepKind.SendMany:
                Send("s@from.example", 1 + (step.A % 20), step.B);
                break;
            case StepKind.SendNullSender:
                Send(null, 1 + (step.A % 3), step.B);
                break;
            case StepKind.Advance:
                Bench.Time.Advance(TimeSpan.FromMinutes(step.A));
                break;
            case StepKind.Wait:
                Bench.Time.Advance(TimeSpan.FromSeconds(step.A % 60));
                await RestAsync();
                break;
            case StepKind.Mood:
                _mood = step.A % 5;
                break;
            case StepKind.Hang:
                _hang ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                break;
            case StepKind.LetGo:
                LetGo();
                break;
            case StepKind.SiteDown:
                _down[$"mx:to{step.A % Domains}.example"] = true;
                break;
            case StepKind.SiteUp:
                _down.TryRemove($"mx:to{step.A % Domains}.example", out _);
                break;
            case StepKind.ReportsFail or StepKind.ReportsWork:
                _reportsFail = step.Kind == StepKind.ReportsFail;
                break;
            case StepKind.Restart:
                await Bench.RestartAsync();
                break;
            default:
                if (Sent.Count > 0)
                {
                    QueuedMessage message = Sent[step.A % Sent.Count];
                    _operators.Add(Task.Run(() => OperateAsync(step.Kind, message, step.B % 2 == 0 ? null : step.B % message.RecipientCount)));
                }

                break;
        }
    }

    /// <summary>Everything works again, and what an operator held is released: whatever is left has to come to its end.</summary>
    public async Task FinishAsync()
    {
        LetGo();
        _mood = 0;
        _down.Clear();
        _reportsFail = false;
        Task operators = Task.WhenAll(_operators);

        // Some wait for a job that waits for its report to be tried again.
        await Bench.Time.PassUntilAsync(operators, TimeSpan.FromSeconds(10));

        for (int i = 0; i < 200 && Bench.Queue.Count > 0; i++)
        {
            await Bench.AdvanceAsync(TimeSpan.FromHours(1));
            foreach (QueuedMessage message in Bench.Queue.Messages)
            {
                await OperateAsync(StepKind.Release, message, null);
            }
        }

        await Bench.CalmAsync();
        foreach (string error in _errors.ToArray())
        {
            if (!error.Contains("the courier crashes", StringComparison.Ordinal))
            {
                Violations.Enqueue($"logged: {error}");
            }
        }

        foreach (int slot in Bench.Queue.Slots())
        {
            Job job = Bench.Queue.Jobs[slot];
            Violations.Enqueue($"job {slot} of {job.MessageId} is left: {job.Place} {job.Flags}, site {job.Site}, {job.Attempts} attempts, due {job.DueAt - Bench.Time.GetUtcNow().UtcTicks} ticks from now");
        }

        foreach (QueuedMessage message in Bench.Queue.Messages)
        {
            Violations.Enqueue($"{message.Id} is left with {message.OpenRecipients} open recipients and {Bench.Queue.FindJobs(message.Id).Count} jobs");
        }

        foreach (SiteStatus site in Bench.Room.Sites().Where(static s => s.Waiting + s.Deferred + s.InFlight > 0))
        {
            Violations.Enqueue($"something is left at {site}");
        }

        await Bench.Room.DrainAsync(CancellationToken.None);
    }

    private void LetGo()
    {
        _hang?.SetResult();
        _hang = null;
    }

    private async Task RestAsync()
    {
        if (_hang is null)
        {
            await Bench.CalmAsync();
        }
        else
        {
            await Bench.Room.WorkedOffAsync();
        }
    }

    private void Send(string? sender, int recipients, int start)
    {
        string[] addresses = [.. Enumerable.Range(start, recipients).Select(i => $"r{_lastRecipient++}@to{i * (1 + (start % 3)) % Domains}.example")];
        Sent.Add(Bench.Send(sender, addresses));
    }

    /// <summary>As the control room does it: to what was found in the table, which may be old by now.</summary>
    private async Task OperateAsync(StepKind kind, QueuedMessage message, int? only)
    {
        SteeringKind steering = kind switch
        {
            StepKind.Retry => SteeringKind.Retry,
            StepKind.Hold => SteeringKind.Hold,
            StepKind.Release => SteeringKind.Release,
            StepKind.Bounce => SteeringKind.Bounce,
            StepKind.Reroute => SteeringKind.Reroute,
            _ => SteeringKind.Drop,
        };
        try
        {
            if (only is { } one && steering != SteeringKind.Reroute)
            {
                await Bench.SteerSomeAsync(message.Id, steering, one);
            }
            else
            {
                await Bench.SteerAsync(message.Id, steering, steering == SteeringKind.Reroute ? "smtp://relay.example:25" : null);
            }
        }
        catch (Exception error) when (error is OperationCanceledException or TimeoutException)
        {
            // The server was restarted, or the clock leapt past the wait.
        }
    }

    private async ValueTask TransactAsync(Site site, DeliveryTask task, CancellationToken stop)
    {
        List<(MessageId, int)> mine = [];
        for (int i = 0; i < task.RecipientCount; i++)
        {
            (MessageId, int) key = (task.Message.Id, task.RecipientIndexes[i]);
            mine.Add(key);
            if (!_inFlight.TryAdd(key, true))
            {
                Violations.Enqueue($"two attempts at once at {key}");
            }
        }

        try
        {
            if (Bench.Room.Activity.Connections > Bench.Options.Connections)
            {
                Violations.Enqueue("more permits than there are");
            }

            await Task.Yield();
            if (_hang is { } hang)
            {
                await hang.Task.WaitAsync(stop);
            }

            if (_mood == 4 && Interlocked.Increment(ref _attempts) % 4 == 0)
            {
                throw new InvalidOperationException("the courier crashes");
            }
        }
        finally
        {
            foreach ((MessageId, int) key in mine)
            {
                _inFlight.TryRemove(key, out _);
            }
        }
    }

    private DeliveryOutcome Decide(Site site, DeliveryTask task, int position)
    {
        int turn = Interlocked.Increment(ref _attempts);
        DeliveryOutcome outcome = (_mood, turn % 6) switch
        {
            (0, _) or (_, 0) => ScriptedCouriers.Delivered,
            (1, _) => ScriptedCouriers.Failed,
            (2, _) => ScriptedCouriers.Deferred,
            (_, 1) => ScriptedCouriers.SiteDown with { Stage = DeliveryStage.FinalDot },
            (_, 2) => ScriptedCouriers.Failed,
            (_, 3) => ScriptedCouriers.TooManyRecipients,
            (_, 4) => ScriptedCouriers.Deferred,
            _ => ScriptedCouriers.Delivered,
        };
        if (outcome.Status == DeliveryStatus.Delivered)
        {
            _deliveries.AddOrUpdate((task.Message.Id, task.RecipientIndexes[position]), 1, static (_, n) => n + 1);
        }

        return outcome;
    }
}
