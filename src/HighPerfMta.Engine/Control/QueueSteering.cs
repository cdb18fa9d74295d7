using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Engine.Routing;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Control;

/// <summary>
/// One operator's action on what a selector yields: whole jobs by their entries, in batches, single recipients of a job through their job's owner. Used once.
/// </summary>
internal sealed class QueueSteering
{
    /// <summary>Messages of a batch: bounds memory, and what waits for the log at once.</summary>
    private const int BatchMessages = 16_384;

    /// <summary>An action on no more jobs than this writes an event for each recipient, and reads their records for it; a larger one an event for each job.</summary>
    public const int MostNamed = 256;

    /// <summary>Jobs that are split at once.</summary>
    private const int PartsAtOnce = 16;

    private readonly QueueSelector _selector;
    private readonly IMailQueue _queue;
    private readonly IDelivery _delivery;
    private readonly IEventLog _events;
    private readonly TimeProvider _time;
    private readonly Steering _steering;
    private readonly MailEventKind? _kind;
    private readonly bool _dryRun;
    private readonly List<int> _whole = [];
    private readonly List<(int At, int[] Recipients)> _parts = [];
    private int[] _changed = [];
    private int _messages;
    private long _recipients;
    private int _unreadable;

    public QueueSteering(QueueSelector selector, Steering steering, bool dryRun, IMailQueue queue, IDelivery delivery, IEventLog events, TimeProvider time)
    {
        _selector = selector;
        _steering = steering;
        _dryRun = dryRun;
        _queue = queue;
        _delivery = delivery;
        _events = events;
        _time = time;
        _kind = steering.Kind switch
        {
            SteeringKind.Hold => MailEventKind.Held,
            SteeringKind.Release => MailEventKind.Released,
            SteeringKind.Drop => MailEventKind.Dropped,
            SteeringKind.Reroute => MailEventKind.Rerouted,
            _ => null,
        };
    }

    /// <summary>What an action means for jobs.</summary>
    /// <exception cref="FilterException">The next hop is none, or is missing.</exception>
    public static Steering Of(QueueAction action, string? to, DateTimeOffset now)
    {
        if (action != QueueAction.Route)
        {
            return new Steering(
                action switch
                {
                    QueueAction.Retry => SteeringKind.Retry,
                    QueueAction.Hold => SteeringKind.Hold,
                    QueueAction.Release => SteeringKind.Release,
                    QueueAction.Drop => SteeringKind.Drop,
                    _ => SteeringKind.Bounce,
                },
                now);
        }

        return NextHop.TryParse(to ?? "", out NextHop? hop, out string error) ? new Steering(SteeringKind.Reroute, now, hop.ToString()) : throw new FilterException($"to: {error}");
    }

    /// <exception cref="LogUnavailableException">Not all of it is durable.</exception>
    public async ValueTask<QueueActed> RunAsync(CancellationToken cancellation)
    {
        int named = 0;
        while (!_selector.IsOver)
        {
            Memory<SeenJob> batch = _selector.Next(BatchMessages, cancellation);
            named += batch.Length;
            bool few = named <= MostNamed && (_selector.IsOver || _selector.Left <= MostNamed);
            foreach (ref SeenJob seen in batch.Span)
            {
                seen.Wanted |= few && _kind is not null && !_dryRun;
            }

            await _selector.ReadAsync(batch, cancellation);
            Choose(batch.Span);
            if (_dryRun)
            {
                Foresee(batch.Span);
            }
            else
            {
                await SteerWholeAsync(batch, cancellation);
                await SteerPartsAsync(batch, cancellation);
            }

            Count(batch.Span);
        }

        return new QueueActed(_messages, (int)Math.Min(int.MaxValue, _recipients), _unreadable + _selector.Undecided);
    }

    /// <summary>What of the batch is selected and would change.</summary>
    private void Choose(Span<SeenJob> batch)
    {
        _whole.Clear();
        _parts.Clear();
        if (_changed.Length < batch.Length)
        {
            _changed = new int[Math.Max(64, batch.Length)];
        }

        Array.Clear(_changed, 0, batch.Length);
        for (int from = 0, end; from < batch.Length; from = end)
        {
            end = QueueSelector.EndOfMessage(batch, from);
            bool selected = false;
            for (int i = from; i < end; i++)
            {
                int[]? recipients = _selector.Resolve(batch[i]);
                selected |= recipients is null or { Length: > 0 };
                if (recipients is { Length: 0 } || !_steering.Applies(batch[i].Job))
                {
                    continue;
                }

                if (recipients is null)
                {
                    _whole.Add(i);
                }
                else
                {
                    _parts.Add((i, recipients));
                }
            }

            if (selected)
            {
                _selector.Took();
            }
        }
    }

    private void Foresee(ReadOnlySpan<SeenJob> batch)
    {
        foreach (int at in _whole)
        {
            _changed[at] = OpenOf(batch[at]);
        }

        foreach ((int at, int[] recipients) in _parts)
        {
            _changed[at] = recipients.Length;
        }
    }

    private async ValueTask SteerWholeAsync(Memory<SeenJob> batch, CancellationToken cancellation)
    {
        if (_whole.Count == 0)
        {
            return;
        }

        JobRef[] jobs = new JobRef[_whole.Count];
        for (int i = 0; i < jobs.Length; i++)
        {
            jobs[i] = batch.Span[_whole[i]].Ref;
        }

        bool[] changed = new bool[jobs.Length];
        try
        {
            await _delivery.SteerAsync(jobs, _steering, changed, cancellation);
        }
        finally
        {
            // What was changed stays so even when the log fails.
            for (int i = 0; i < jobs.Length; i++)
            {
                if (changed[i])
                {
                    ref readonly SeenJob seen = ref batch.Span[_whole[i]];
                    _changed[_whole[i]] = OpenOf(seen);
                    Tell(seen, null);
                }
            }
        }
    }

    private async ValueTask SteerPartsAsync(Memory<SeenJob> batch, CancellationToken cancellation)
    {
        for (int from = 0; from < _parts.Count; from += PartsAtOnce)
        {
            int count = Math.Min(PartsAtOnce, _parts.Count - from);
            Task<int>[] steering = new Task<int>[count];
            for (int i = 0; i < count; i++)
            {
                (int at, int[] recipients) = _parts[from + i];
                steering[i] = SteerPartAsync(batch.Span[at].Ref, recipients, cancellation);
            }

            // All are awaited before the first failure is told: none goes on behind the caller's back.
            await Task.WhenAll(steering);
            for (int i = 0; i < count; i++)
            {
                (int at, int[] recipients) = _parts[from + i];
                _changed[at] = await steering[i];
                if (_changed[at] > 0)
                {
                    Tell(batch.Span[at], _changed[at] == recipients.Length ? recipients : []);
                }
            }
        }
    }

    private async Task<int> SteerPartAsync(JobRef job, int[] recipients, CancellationToken cancellation)
    {
        try
        {
            return await _delivery.SteerRecipientsAsync(job, recipients, _steering, cancellation);
        }
        catch (RecordUnreadableException)
        {
            Interlocked.Increment(ref _unreadable);
            return 0;
        }
    }

    private void Count(ReadOnlySpan<SeenJob> batch)
    {
        for (int from = 0, end; from < batch.Length; from = end)
        {
            end = QueueSelector.EndOfMessage(batch, from);
            int changed = 0;
            for (int i = from; i < end; i++)
            {
                changed += _changed[i];
            }

            _recipients += changed;
            _messages += changed > 0 ? 1 : 0;
        }
    }

    private static int OpenOf(in SeenJob seen) => seen.Message?.OpenRecipients ?? seen.Job.Count;

    /// <summary>An event for each recipient that is known (null: all of the job), else one for the job.</summary>
    private void Tell(in SeenJob seen, int[]? recipients)
    {
        if (_kind is not { } kind)
        {
            return;
        }

        DateTimeOffset now = _time.GetUtcNow();
        ref readonly Job job = ref seen.Job;
        MailEvent told = new()
        {
            Time = now,
            Kind = kind,
            Id = job.MessageId,
            Sender = seen.Message is { } known ? known.Envelope.Sender?.ToString() ?? "" : job.Sender == 0 ? "" : _queue.Names.Senders.Get(job.Sender),
            Site = _delivery.SiteKey(job.Site),
            Attempt = job.Attempts,
            Size = job.Size,
            QueuedSeconds = TimeSpan.FromTicks(now.UtcTicks - job.ReceivedAt).TotalSeconds,
            Stage = "operator",
            Reply = kind == MailEventKind.Rerouted ? "next hop: " + _steering.NextHop : null,
        };
        if (seen.Message is not { } message || recipients is { Length: 0 })
        {
            _events.Write(told);
            return;
        }

        foreach (int index in recipients ?? message.Recipients)
        {
            RecipientState state = message.GetRecipient(index);
            if (!state.IsFinal)
            {
                _events.Write(told with { Recipient = message.Envelope.Recipients[index].ToString(), Attempt = state.Attempts });
            }
        }
    }
}
