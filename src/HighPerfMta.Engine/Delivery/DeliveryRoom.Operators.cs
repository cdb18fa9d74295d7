using System.Runtime.ExceptionServices;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Engine.Delivery;

/// <summary>What operators want: asked of the shards in batches, made durable at the end.</summary>
public sealed partial class DeliveryRoom
{
    /// <summary>Jobs change hands while they are asked for: those that were found with the wrong shard, or with nobody, are asked for again.</summary>
    private const int MaxRounds = 200;

    private const int QuickRounds = 32;

    private const int TopHolders = 5;

    private static readonly TimeSpan RoundPause = TimeSpan.FromMilliseconds(250);

    /// <summary>For a job that is being sent to come back.</summary>
    private static readonly TimeSpan RecipientsWait = TimeSpan.FromMinutes(1);

    public async ValueTask<int> SteerAsync(ReadOnlyMemory<JobRef> jobs, Steering steering, Memory<bool> changed, CancellationToken cancellation)
    {
        if (changed.Length is not 0 && changed.Length < jobs.Length)
        {
            throw new ArgumentException("There is not room for an answer for each job.", nameof(changed));
        }

        Steerer steerer = new(this, jobs, RoundDown(steering), changed);
        await steerer.AskAllAsync(cancellation);
        for (int round = 0; round < MaxRounds && steerer.Left > 0 && !_services.Stopping; round++)
        {
            if (round < QuickRounds)
            {
                await Task.Yield();
            }
            else
            {
                await Task.Delay(RoundPause, _services.Time, cancellation);
            }

            await steerer.AskAgainAsync(cancellation);
        }

        if (steerer.Error is { } error)
        {
            ExceptionDispatchInfo.Throw(error);
        }

        if (steerer.Last.Length > 0)
        {
            await _services.Queue.WaitDurableAsync(steerer.Last);
        }

        return steerer.Changed;
    }

    public async ValueTask<int> SteerRecipientsAsync(JobRef job, IReadOnlyList<int> recipients, Steering steering, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(recipients);
        int changed = await SteerPartAsync(job, recipients, steering, cancellation);
        if (changed <= 0)
        {
            // It was split meanwhile, or has changed hands: its recipients are in some of the message's jobs.
            changed = 0;
            foreach (int slot in _services.Queue.FindJobs(job.Id))
            {
                int part = RecipientSteering.LookAgain;
                for (int round = 0; round < QuickRounds && part == RecipientSteering.LookAgain; round++)
                {
                    await Task.Yield();
                    part = await SteerPartAsync(new JobRef(slot, job.Id), recipients, steering, cancellation);
                }

                changed += Math.Max(0, part);
            }
        }

        return changed;
    }

    private async ValueTask<int> SteerPartAsync(JobRef job, IReadOnlyList<int> recipients, Steering steering, CancellationToken cancellation)
    {
        if (!_services.Queue.Jobs.TryRead(job.Slot, out Job entry) || entry.MessageId != job.Id || _services.Stopping)
        {
            return 0;
        }

        RecipientSteering request = new(job, recipients, RoundDown(steering));
        _router.OwnerOf(entry, job.Slot).Post(new DeliveryEvent(DeliveryEventKind.SteerRecipients, request));
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, _services.Cancellation);
        try
        {
            int changed = await request.Done.WithinAsync(RecipientsWait, _services.Time, either.Token);
            if (changed > 0 && request.Record.Length > 0)
            {
                await _services.Queue.WaitDurableAsync(request.Record);
            }

            return changed;
        }
        catch (Exception error) when (error is TimeoutException || (error is OperationCanceledException && _services.Stopping && !cancellation.IsCancellationRequested))
        {
            return 0;
        }
    }

    /// <summary>Entries round due times up: what is to be due now is due now.</summary>
    private static Steering RoundDown(in Steering steering) =>
        steering with { DueAt = new DateTimeOffset(DueTime.ToTicks(DueTime.Reached(steering.DueAt.UtcTicks)), TimeSpan.Zero) };

    public async ValueTask<JobExplanation?> ExplainAsync(JobRef job, CancellationToken cancellation)
    {
        if (job.Slot <= 0 || !_services.Queue.Jobs.TryRead(job.Slot, out Job entry) || entry.MessageId != job.Id)
        {
            return null;
        }

        Explaining question = new(job);
        _router.OwnerOf(entry, job.Slot).Post(new DeliveryEvent(DeliveryEventKind.Explain, question));
        JobExplanation? explanation = await question.Done.WithinAsync(RecipientsWait, _services.Time, cancellation);
        return explanation?.SiteState is { Starved: true } state ? explanation with { SiteState = state with { PermitHolders = Holders() } } : explanation;
    }

    public ValueTask<SiteExplanation?> ExplainSiteAsync(string key, CancellationToken cancellation)
    {
        SiteExplanation? state = _services.Registry.Find(key) is { } site ? site.Shard.ExplainSite(site) : null;
        return new ValueTask<SiteExplanation?>(state is { Starved: true } ? state with { PermitHolders = Holders() } : state);
    }

    private List<(string Site, int Connections)> Holders()
    {
        List<(string Site, int Connections)> holders = [];
        foreach (SiteStatus site in Sites())
        {
            if (site.Connections > 0)
            {
                holders.Add((site.Key, site.Connections));
            }
        }

        holders.Sort(static (a, b) => b.Connections.CompareTo(a.Connections));
        return holders.Count > TopHolders ? holders.GetRange(0, TopHolders) : holders;
    }

    /// <summary>One operator's change under way. Two batches for each shard: one is filled while the other is worked on.</summary>
    private sealed class Steerer(DeliveryRoom room, ReadOnlyMemory<JobRef> jobs, Steering steering, Memory<bool> changed)
    {
        private readonly Dictionary<DeliveryShard, SteerBatch> _filling = [];
        private readonly Dictionary<DeliveryShard, SteerBatch> _working = [];
        private List<int> _again = [];

        public int Changed { get; private set; }

        public int Left => _again.Count;

        public RecordRef Last { get; private set; }

        public Exception? Error { get; private set; }

        public async ValueTask AskAllAsync(CancellationToken cancellation)
        {
            for (int i = 0; i < jobs.Length; i++)
            {
                if (Add(i) is { } full)
                {
                    await SendAsync(full);
                    cancellation.ThrowIfCancellationRequested();
                }
            }

            await FlushAsync();
        }

        public async ValueTask AskAgainAsync(CancellationToken cancellation)
        {
            List<int> again = _again;
            _again = [];
            foreach (int i in again)
            {
                if (Add(i) is { } full)
                {
                    await SendAsync(full);
                    cancellation.ThrowIfCancellationRequested();
                }
            }

            await FlushAsync();
        }

        /// <summary>The shard whose batch is full now.</summary>
        private DeliveryShard? Add(int index)
        {
            JobRef job = jobs.Span[index];
            if (job.Slot <= 0 || !room._services.Queue.Jobs.TryRead(job.Slot, out Job entry) || entry.MessageId != job.Id)
            {
                return null;
            }

            DeliveryShard shard = room._router.OwnerOf(entry, job.Slot);
            if (!_filling.TryGetValue(shard, out SteerBatch? batch))
            {
                _filling.Add(shard, batch = new SteerBatch(steering));
            }

            batch.Asked.Add((job, index));
            return batch.Asked.Count == SteerBatch.Most ? shard : null;
        }

        private async ValueTask SendAsync(DeliveryShard shard)
        {
            if (_working.Remove(shard, out SteerBatch? before))
            {
                await CollectAsync(before);
            }

            if (_filling.Remove(shard, out SteerBatch? batch))
            {
                _working.Add(shard, batch);
                shard.Post(new DeliveryEvent(DeliveryEventKind.Steer, batch));
            }
        }

        private async ValueTask FlushAsync()
        {
            foreach (DeliveryShard shard in room._shards)
            {
                await SendAsync(shard);
            }

            foreach (DeliveryShard shard in room._shards)
            {
                await SendAsync(shard);
            }
        }

        private async ValueTask CollectAsync(SteerBatch batch)
        {
            await batch.Completed.Task.WithinAsync(RecipientsWait, room._services.Time, room._services.Cancellation);
            foreach (int asked in batch.Elsewhere)
            {
                _again.Add(batch.Asked[asked].Index);
            }

            if (batch.Error is { } error)
            {
                Error ??= error;
                return;
            }

            Last = batch.Record.Length > 0 && batch.Record.Address >= Last.Address ? batch.Record : Last;
            Count(batch, batch.SlotsAsked);
            Count(batch, batch.LentAsked);
        }

        private void Count(SteerBatch batch, List<int> done)
        {
            Changed += done.Count;
            if (!changed.IsEmpty)
            {
                foreach (int asked in done)
                {
                    changed.Span[batch.Asked[asked].Index] = true;
                }
            }
        }
    }
}
