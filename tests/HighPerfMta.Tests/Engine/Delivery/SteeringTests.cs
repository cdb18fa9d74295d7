using HighPerfMta.Engine.Observability;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

public class SteeringTests
{
    [Fact]
    public async Task Dropped_and_held_recipients_are_skipped_while_they_wait()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = bench.Send("s@from.example", "a@to.example", "b@to.example", "c@to.example");
        await bench.CalmAsync();
        Assert.Equal(1, await bench.SteerSomeAsync(message.Id, SteeringKind.Drop, 0));
        Assert.Equal(1, await bench.SteerSomeAsync(message.Id, SteeringKind.Hold, 1));
        bench.Couriers.Outcome = null;
        await bench.AdvanceAsync(TimeSpan.FromMinutes(6));
        Assert.Equal([2], bench.Couriers.Attempts.Last().Recipients);
        Assert.Equal([RecipientStatus.Dropped, RecipientStatus.Held, RecipientStatus.Delivered], Enumerable.Range(0, 3).Select(i => message.GetRecipient(i).Status));

        await bench.AdvanceAsync(TimeSpan.FromHours(5));
        Assert.Equal(2, bench.Couriers.Attempts.Count);
        Assert.Equal(1, await bench.SteerSomeAsync(message.Id, SteeringKind.Release, 1));
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Equal([1], bench.Couriers.Attempts.Last().Recipients);
        Assert.Equal(2, message.GetRecipient(1).Attempts);
    }

    [Fact]
    public async Task A_message_dropped_in_its_sites_queue_is_never_sent()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { ConnectionsPerSite = 1 };
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = (_, _, _) => new ValueTask(gate.Task);
        bench.Send("s@from.example", "first@to.example");
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        QueuedMessage dropped = bench.Send("s@from.example", "second@to.example");
        QueuedMessage held = bench.Send("s@from.example", "third@to.example");
        await bench.Room.WorkedOffAsync();
        Assert.Equal(2, bench.Room.Sites().Single().Waiting);
        await bench.SteerAsync(dropped.Id, SteeringKind.Drop);
        await bench.SteerAsync(held.Id, SteeringKind.Hold);
        await bench.Room.WorkedOffAsync();
        Assert.Equal((0, 1), (bench.Room.Sites().Single().Waiting, bench.Room.Sites().Single().Deferred));
        gate.SetResult();
        await bench.CalmAsync();
        Assert.Single(bench.Couriers.Attempts);
    }

    [Theory]
    [InlineData(SteeringKind.Hold, RecipientStatus.Held)]
    [InlineData(SteeringKind.Drop, RecipientStatus.Dropped)]
    public async Task Recipients_steered_between_two_transactions_of_a_message_are_left_out(SteeringKind kind, RecipientStatus meanwhile)
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { RecipientsPerTransaction = 1 };
        Task<int>? steered = null;
        bench.Couriers.Before = async (_, task, _) =>
        {
            steered ??= bench.SteerSomeAsync(task.Message.Id, kind, 1);
            await bench.Room.WorkedOffAsync();
        };
        QueuedMessage message = bench.Send("s@from.example", "a@to.example", "b@to.example", "c@to.example");
        await Waiting.UntilAsync(() => message.GetRecipient(2).IsFinal);
        await bench.CalmAsync();
        Assert.Equal([0, 2], bench.Couriers.Attempts.SelectMany(static a => a.Recipients));
        Assert.Equal(meanwhile, message.GetRecipient(1).Status);
        Assert.Equal(1, await steered!);
    }

    [Theory]
    [InlineData(SteeringKind.Hold)]
    [InlineData(SteeringKind.Drop)]
    public async Task A_delivery_in_flight_wins(SteeringKind meanwhile)
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = (_, _, _) => new ValueTask(gate.Task);
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        Assert.Equal(1, await bench.SteerAsync(message.Id, meanwhile));
        gate.SetResult();
        await Waiting.UntilAsync(() => !bench.Events.Events.IsEmpty);
        await bench.CalmAsync();
        Assert.Equal(MailEventKind.Delivered, bench.Events.Events.Single().Kind);
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
        Assert.DoesNotContain(bench.Room.Sites(), static s => s.Waiting + s.Deferred + s.InFlight > 0);
    }

    [Theory]
    [InlineData(SteeringKind.Hold, RecipientStatus.Held, 1)]
    [InlineData(SteeringKind.Drop, RecipientStatus.Dropped, 0)]
    public async Task A_deferral_in_flight_does_not_undo_a_hold_or_a_drop(SteeringKind kind, RecipientStatus expected, int left)
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = (_, _, _) => new ValueTask(gate.Task);
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        QueuedMessage message = bench.Send("s@from.example", "a@to.example", "b@to.example");
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        Assert.Equal(1, await bench.SteerAsync(message.Id, kind));
        gate.SetResult();
        await Waiting.UntilAsync(() => message.GetRecipient(1).Status == expected);
        await bench.CalmAsync();
        Assert.Equal((expected, expected), (message.GetRecipient(0).Status, message.GetRecipient(1).Status));
        Assert.Equal((1, left), (message.GetRecipient(0).Attempts, bench.Queue.Count));
        await bench.AdvanceAsync(TimeSpan.FromHours(1));
        Assert.Single(bench.Couriers.Attempts);
    }

    [Fact]
    public async Task A_refusal_in_flight_does_not_report_a_dropped_recipient()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        bench.Couriers.Before = (_, _, _) => new ValueTask(gate.Task);
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Failed;
        QueuedMessage message = bench.Send("s@from.example", "a@to.example");
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        Assert.Equal(1, await bench.SteerAsync(message.Id, SteeringKind.Drop));
        gate.SetResult();
        await Waiting.UntilAsync(() => bench.Queue.Count == 0);
        Assert.Equal(RecipientStatus.Dropped, message.GetRecipient(0).Status);
        Assert.Empty(bench.Reports.Sent);
    }

    [Fact]
    public async Task Draining_lets_what_is_in_flight_finish_and_starts_nothing()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { ConnectionsPerSite = 1 };
        TaskCompletionSource gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
        QueuedMessage idle = bench.Send("s@from.example", "r@idle.example");
        await Waiting.UntilAsync(() => idle.OpenRecipients == 0);
        bench.Couriers.Before = (_, _, stop) => new ValueTask(gate.Task.WaitAsync(stop));
        List<QueuedMessage> messages = [.. Enumerable.Range(0, 50).Select(i => bench.Send("s@from.example", $"r{i}@to.example"))];
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        Task drained = bench.Room.DrainAsync(CancellationToken.None);
        bench.Send("s@from.example", "late@to.example");
        await bench.Room.WorkedOffAsync();
        Assert.False(drained.IsCompleted);
        gate.SetResult();
        await drained.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.Equal(49, messages.Count(static m => m.OpenRecipients == 1));
        Assert.All(messages.Where(static m => m.OpenRecipients == 1), static m => Assert.Equal(0, m.GetRecipient(0).Attempts));
        Assert.Equal((0, 2, (0, 0)), (bench.Couriers.Open, bench.Couriers.Quits, bench.Room.Activity));

        await using DeliveryBench second = new() { Queue = bench.Queue };
        second.Queue.Restored = second.Room.Restore;
        second.Queue.Start();
        await Waiting.UntilAsync(() => second.Queue.Count == 0);
        Assert.Equal(50, second.Events.Events.Count);
    }

    [Fact]
    public async Task A_hurried_stop_of_an_idle_room_warns_of_nothing()
    {
        using RecordingLoggers loggers = new();
        await using DeliveryBench bench = new() { Loggers = loggers };
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        await bench.CalmAsync();
        await bench.Room.DrainAsync(new CancellationToken(canceled: true)).WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.Empty(loggers.Warnings);
        Assert.Equal((0, (0, 0)), (bench.Couriers.Open, bench.Room.Activity));
    }

    [Fact]
    public async Task A_hurried_stop_tells_how_many_transactions_it_cuts_off()
    {
        using RecordingLoggers loggers = new();
        await using DeliveryBench bench = new() { Loggers = loggers };
        TaskCompletionSource never = new();
        bench.Couriers.Before = (_, _, stop) => new ValueTask(never.Task.WaitAsync(stop));
        bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        await bench.Room.DrainAsync(new CancellationToken(canceled: true)).WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.Contains("1 transactions were cut off", Assert.Single(loggers.Warnings), StringComparison.Ordinal);
        Assert.Equal(0, bench.Couriers.Open);
    }

    [Fact]
    public async Task What_does_not_finish_in_time_is_cut_off_without_an_attempt()
    {
        await using DeliveryBench bench = new();
        TaskCompletionSource never = new();
        bench.Couriers.Before = (_, _, stop) => new ValueTask(never.Task.WaitAsync(stop));
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => bench.Room.Activity.Transactions == 1);
        Task drained = bench.Room.DrainAsync(CancellationToken.None);
        await bench.Room.WorkedOffAsync();
        bench.Time.Advance(bench.Options.DrainTimeout);
        await drained.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.Equal((RecipientStatus.Pending, 0), (message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
        Assert.Empty(bench.Events.Events);
        Assert.Equal(0, bench.Couriers.Open);
    }

    [Fact]
    public async Task A_message_that_cannot_be_read_is_set_aside_and_others_go_on()
    {
        await using DeliveryBench bench = new();
        QueuedMessage bad = bench.Message("s@from.example", "r@to.example");
        bench.Couriers.Before = (_, task, _) => task.Message.Id == bad.Id ? throw new RecordUnreadableException("torn") : default;
        bench.Room.Enqueue(bad);
        List<QueuedMessage> good = [.. Enumerable.Range(0, 20).Select(i => bench.Send("s@from.example", $"r{i}@to.example"))];
        await Waiting.UntilAsync(() => good.All(static m => m.OpenRecipients == 0) && bad.GetRecipient(0).Status == RecipientStatus.Held);
        MailEvent told = bench.Events.Events.Single(static e => e.Kind == MailEventKind.Quarantined);
        Assert.Contains("torn", told.Reply, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_poison_message_is_set_aside_after_five_failures()
    {
        await using DeliveryBench bench = new();
        QueuedMessage poison = bench.Message("s@from.example", "r@to.example");
        bench.Couriers.Before = (_, task, _) => task.Message.Id == poison.Id ? throw new InvalidOperationException("bug") : default;
        bench.Room.Enqueue(poison);
        for (int i = 1; i <= 4; i++)
        {
            await bench.CalmAsync();
            Assert.Equal((RecipientStatus.Pending, i), (poison.GetRecipient(0).Status, poison.GetRecipient(0).Attempts));
            await bench.AdvanceAsync(poison.GetRecipient(0).DueAt - bench.Time.GetUtcNow() + TimeSpan.FromMilliseconds(200));
        }

        await bench.CalmAsync();
        Assert.Equal(RecipientStatus.Held, poison.GetRecipient(0).Status);
        Assert.Equal(5, bench.Couriers.Attempts.Count);
        QueuedMessage good = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => good.OpenRecipients == 0);
    }
}
