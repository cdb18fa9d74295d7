using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;

namespace HighPerfMta.Engine.Delivery;

/// <summary>Changes that need nothing of the message's states: setting aside, and what operators asked for.</summary>
internal sealed partial class Settlement
{
    /// <summary>Holds the job with its reason. The message need not be readable.</summary>
    private async ValueTask SetAsideAsync()
    {
        services.Logger.SetAside(Id, Reason);
        Message ??= await TryLoadAsync();
        await services.Queue.SteerAsync(new[] { Slot }, new Steering(SteeringKind.Hold, default, Reason: RouteOutcomes.SetAsideReason(Reason)));
        DateTimeOffset now = services.Time.GetUtcNow();
        DeliveryOutcome outcome = RouteOutcomes.SetAside(Reason);
        if (Message is { } message)
        {
            foreach (int recipient in message.Recipients)
            {
                RecipientState state = message.GetRecipient(recipient);
                if (!state.IsFinal)
                {
                    services.Recorder.Write(MailEventKind.Quarantined, message, recipient, SiteKey, outcome, state.Attempts, now);
                }
            }
        }
        else
        {
            services.Recorder.WriteUnread(MailEventKind.Quarantined, services.Queue, Slot, SiteKey, outcome, now);
        }
    }

    private async ValueTask SteerAsync()
    {
        if (Steering.Recipients is { } some)
        {
            await SteerSomeAsync(some);
            return;
        }

        await services.Queue.SteerAsync(new[] { Slot }, Steering.Steering);
        Finished = Steering.Steering.Kind == SteeringKind.Drop;
    }

    private async ValueTask SteerSomeAsync(RecipientSteering some)
    {
        QueuedMessage message = Message ??= await services.LoadAsync(Slot);
        List<int> chosen = [];
        List<int> others = [];
        foreach (int recipient in message.Recipients)
        {
            if (!message.GetRecipient(recipient).IsFinal)
            {
                (Contains(some.Recipients, recipient) ? chosen : others).Add(recipient);
            }
        }

        if (chosen.Count == 0 || !some.Steering.Applies(services.Queue.Jobs[Slot]))
        {
            some.Finish(0);
            return;
        }

        if (others.Count == 0)
        {
            some.Record = await services.Queue.SteerAsync(new[] { Slot }, some.Steering);
            Finished = some.Steering.Kind == SteeringKind.Drop;
        }
        else
        {
            await SplitOffAsync(message, [.. others], [.. chosen], some);
        }

        some.Finish(chosen.Count);
    }

    private async ValueTask SplitOffAsync(QueuedMessage message, int[] others, int[] chosen, RecipientSteering some)
    {
        QueuedMessage[] parts = await services.Queue.SplitAsync(message, [others, chosen]);
        int part = parts[1].Slot;
        bool dropped = false;
        try
        {
            some.Record = await services.Queue.SteerAsync(new[] { part }, some.Steering);
            dropped = some.Steering.Kind == SteeringKind.Drop;
        }
        finally
        {
            if (!dropped)
            {
                services.Router.HomeOf(part).Post(new DeliveryEvent(DeliveryEventKind.Adopt, null, part));
            }
        }
    }

    /// <summary>For the words of an event alone: null when it cannot be read.</summary>
    private async ValueTask<QueuedMessage?> TryLoadAsync()
    {
        try
        {
            return await services.LoadAsync(Slot);
        }
        catch (Exception error) when (!services.Cancellation.IsCancellationRequested)
        {
            services.Logger.Unread(Id, error.Message);
            return null;
        }
    }

    private static bool Contains(IReadOnlyList<int> recipients, int recipient)
    {
        for (int i = 0; i < recipients.Count; i++)
        {
            if (recipients[i] == recipient)
            {
                return true;
            }
        }

        return false;
    }
}
