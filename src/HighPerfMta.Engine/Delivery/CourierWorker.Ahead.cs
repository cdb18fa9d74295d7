using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>
/// What is known of a batch's next jobs before their turn, so that the courier may send them ahead. Only messages that are in memory are taken out early; one that has to be read from the
/// disk is being read meanwhile, and the messages behind it wait for their turn.
/// </summary>
internal sealed partial class CourierWorker
{
    private Task<QueuedMessage>? _loading;
    private int _loadingPlace;

    /// <summary>Links the jobs that may follow the job at the place, when that has nothing left to do after its transaction.</summary>
    private void PrepareNext(int place)
    {
        DeliveryTask last = _tasks[place];
        if (last.Next is { Ahead: not SentAhead.None })
        {
            return;
        }

        last.Next = null;
        int end = _todo.Count > 0 || _services.Stopping ? 0 : Math.Min(Count, place + _services.Options.PipelinedMessages);
        for (int i = place + 1; i < end && TryPrepare(i); i++)
        {
            last.Next = _tasks[i];
            last = _tasks[i];
        }
    }

    private bool TryPrepare(int i)
    {
        if (_loading is not null || _services.Pending.Has(Batch[i].Slot, Batch[i].Id))
        {
            return false;
        }

        QueuedMessage? message = Batch[i].Message ?? TryLoad(i);
        if (message is null)
        {
            return false;
        }

        Batch[i].Message = message;
        FindDue(message);
        bool fits = _todo.Count > 0 && _todo.Count <= MostRecipients;
        if (fits)
        {
            FillTask(TaskOf(i), message);
            _tasks[i].Next = null;
        }

        _todo.Clear();
        return fits;
    }

    /// <summary>The message if it is in memory; else it is being read, for <see cref="LoadAsync"/>.</summary>
    private QueuedMessage? TryLoad(int i)
    {
        ValueTask<QueuedMessage> load = _services.LoadAsync(Batch[i].Slot);
        if (load.IsCompletedSuccessfully)
        {
            return load.GetAwaiter().GetResult();
        }

        _loading = load.AsTask();
        _loadingPlace = i;
        return null;
    }

    private async ValueTask<QueuedMessage> LoadAsync(int i)
    {
        if (_loading is null || _loadingPlace != i)
        {
            return await _services.LoadAsync(Batch[i].Slot);
        }

        Task<QueuedMessage> loading = _loading;
        _loading = null;
        return await loading;
    }

    /// <summary>The job's turn does not come: it goes back as it was, and its message to those kept in memory. Never throws, for the batch would not be told of any more.</summary>
    private async ValueTask LeaveJobAsync(int i)
    {
        try
        {
            if (_tasks[i] is { Ahead: not SentAhead.None })
            {
                await _courier.AbandonAheadAsync();
            }

            await LetGoAsync(i);
        }
        catch (Exception error)
        {
            _services.Logger.CourierFailed(error, Site.Key);
            Broken = true;
        }
    }

    private async ValueTask LetGoAsync(int i)
    {
        if (_loading is { } loading && _loadingPlace == i)
        {
            // What went wrong with the read will be seen when the job's turn comes again.
            _loading = null;
            await ((Task)loading).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
            Batch[i].Message = loading.IsCompletedSuccessfully ? await loading : null;
        }

        if (Batch[i].Message is { } message)
        {
            Batch[i].Message = null;
            _services.Queue.Keep(message);
        }
    }
}
