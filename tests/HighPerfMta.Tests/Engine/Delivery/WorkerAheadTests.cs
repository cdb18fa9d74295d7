using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>A batch whose next jobs go with the present one: what is linked, and what becomes of what was sent when its turn comes or does not.</summary>
public sealed class WorkerAheadTests : IAsyncDisposable
{
    private readonly DeliveryBench _bench = new();
    private readonly RoundGate _gate = new();

    /// <summary>Replaced and never changed, as couriers look at it.</summary>
    private List<QueuedMessage> _row = [];

    public WorkerAheadTests()
    {
        _bench.Options = _bench.Options with { Shards = 1, ConnectionsPerSite = 1 };
        _bench.Couriers.Before = (_, _, stop) => _gate.WaitAsync(stop);
    }

    public async ValueTask DisposeAsync()
    {
        _gate.LetThrough(forGood: true);
        await _bench.DisposeAsync();
    }

    private IEnumerable<int> Attempts => _bench.Couriers.Attempts.Select(a => _row.FindIndex(m => m.Id == a.Message));

    private IEnumerable<int> Begun => _bench.Couriers.Begun.Select(NumberOf);

    private bool Is(MessageId id, int number) => NumberOf(id) == number;

    private int NumberOf(MessageId id) => _row.FindIndex(m => m.Id == id);

    /// <summary>One message is on its way alone, so many wait for the one connection; then those are one batch, whose first is on its way.</summary>
    private async Task BeginAsync(int count, Func<int, string[]>? recipients = null)
    {
        _row = [_bench.Send("s@from.example", "first@to.example")];
        await Waiting.UntilAsync(() => _gate.Waiting == 1);
        for (int i = 1; i <= count; i++)
        {
            _row = [.. _row, _bench.Send("s@from.example", recipients?.Invoke(i) ?? [$"r{i}@to.example"])];
        }

        await _bench.Room.WorkedOffAsync();
        await NextAsync();
    }

    /// <summary>The transaction that waits goes on, and the next has begun.</summary>
    private async Task NextAsync()
    {
        int before = _bench.Couriers.Attempts.Count;
        _gate.LetThrough();
        await Waiting.UntilAsync(() => _bench.Couriers.Attempts.Count > before && _gate.Waiting == 1);
    }

    private async Task FinishAsync()
    {
        _gate.LetThrough(forGood: true);
        await _bench.CalmAsync();
    }

    private void SendAhead(SentAhead sent) => _bench.Couriers.Ahead = (_, _) => sent;

    private void AssertAllDelivered() => Assert.All(_row, static m => Assert.Equal((RecipientStatus.Delivered, 0), (m.GetRecipient(0).Status, m.OpenRecipients)));

    [Theory]
    [InlineData(1, "")]
    [InlineData(2, "2")]
    [InlineData(4, "2 3 4")]
    [InlineData(100, "2 3 4 5 6 7 8")]
    public async Task As_many_of_the_batch_are_linked_as_may_be_on_their_way_at_once(int pipelined, string linked)
    {
        _bench.Options = _bench.Options with { PipelinedMessages = pipelined };
        await BeginAsync(16);
        Assert.Equal(linked, string.Join(' ', _bench.Couriers.Linked.Last().Select(NumberOf)));
        await FinishAsync();
        Assert.Equal(Enumerable.Range(0, 17), Attempts);
        AssertAllDelivered();
    }

    [Theory]
    [InlineData(true, "2 3")]
    [InlineData(false, "")]
    public async Task What_waits_is_taken_together_where_it_may_be_on_its_way_together(bool pipelines, string linked)
    {
        if (pipelines)
        {
            SendAhead(SentAhead.None);
        }

        await BeginAsync(3);
        Assert.Equal(linked, string.Join(' ', _bench.Couriers.Linked.Last().Select(NumberOf)));
        await FinishAsync();
        AssertAllDelivered();
    }

    [Theory]
    [InlineData(SentAhead.None)]
    [InlineData(SentAhead.Envelope)]
    [InlineData(SentAhead.Whole)]
    public async Task Each_is_delivered_once_in_order(object sent)
    {
        SendAhead((SentAhead)sent);
        await BeginAsync(40);
        await FinishAsync();
        Assert.Equal(Enumerable.Range(0, 41), Attempts);
        AssertAllDelivered();
        Assert.Empty(_bench.Couriers.GivenUp);
        Assert.Equal((SentAhead)sent != SentAhead.None, Begun.Any());
    }

    [Fact]
    public async Task A_job_that_needs_several_transactions_is_not_linked_and_links_nothing_before_its_last()
    {
        _bench.Options = _bench.Options with { RecipientsPerTransaction = 2 };
        SendAhead(SentAhead.Whole);
        await BeginAsync(8, static i => i == 2 ? ["a@to.example", "b@to.example", "c@to.example"] : [$"r{i}@to.example"]);
        Assert.Empty(_bench.Couriers.Linked.Last());
        await FinishAsync();
        Assert.All(_row, static m => Assert.Equal(0, m.OpenRecipients));
        Assert.Equal([2, 1], _bench.Couriers.Attempts.Where(a => NumberOf(a.Message) == 2).Select(static a => a.Recipients.Length));
        Assert.Empty(_bench.Couriers.GivenUp);
        (Attempt attempt, MessageId[] linked)[] all = [.. _bench.Couriers.Attempts.Zip(_bench.Couriers.Linked)];
        Assert.Empty(all.First(a => NumberOf(a.attempt.Message) == 2).linked);
    }

    [Fact]
    public async Task A_peer_that_takes_fewer_recipients_gets_the_rest_after_those_that_were_sent()
    {
        SendAhead(SentAhead.Whole);
        _bench.Couriers.Outcome = static (_, _, i) => i < 2 ? ScriptedCouriers.Delivered : ScriptedCouriers.TooManyRecipients;
        await BeginAsync(4, static i => i == 1 ? ["a@to.example", "b@to.example", "c@to.example", "d@to.example", "e@to.example"] : [$"r{i}@to.example"]);
        await FinishAsync();
        Assert.All(_row, static m => Assert.Equal(0, m.OpenRecipients));
        Assert.Equal([0, 1, 2, 3, 4, 1, 1], Attempts);
        Assert.Empty(_bench.Couriers.GivenUp);
        Assert.All(_bench.Couriers.Attempts.SelectMany(static a => a.Recipients.Select(r => (a.Message, r))).GroupBy(static a => a).Where(g => g.Count() > 1), g => Assert.Equal(1, NumberOf(g.Key.Message)));
    }

    [Theory]
    [InlineData(SentAhead.None, 16)]
    [InlineData(SentAhead.Envelope, 16)]
    [InlineData(SentAhead.Whole, 16)]
    [InlineData(SentAhead.None, 2)]
    [InlineData(SentAhead.Envelope, 2)]
    [InlineData(SentAhead.Whole, 2)]
    public async Task What_one_message_has_left_is_never_sent_with_another(object sent, int count)
    {
        SendAhead((SentAhead)sent);
        _bench.Couriers.Outcome = static (_, _, i) => i < 2 ? ScriptedCouriers.Delivered : ScriptedCouriers.TooManyRecipients;
        await BeginAsync(count, static i => [.. Enumerable.Range(0, i % 3 == 0 ? 2 : 5).Select(r => $"m{i}r{r}@to.example")]);
        await FinishAsync();
        Assert.All(_row, static m => Assert.Equal(0, m.OpenRecipients));
        Assert.All(_bench.Couriers.Attempts, a => Assert.All(a.Recipients, r => Assert.InRange(r, 0, _row[NumberOf(a.Message)].Envelope.Recipients.Length - 1)));
        (MessageId? Id, string? Recipient)[] delivered = [.. _bench.Events.Events.Where(static e => e.Kind == MailEventKind.Delivered).Select(static e => (e.Id, e.Recipient))];
        Assert.Equal(_row.Sum(static m => m.Envelope.Recipients.Length), delivered.Length);
        Assert.Equal(delivered.Length, delivered.Distinct().Count());
        Assert.Empty(_bench.Couriers.GivenUp);
    }

    [Theory]
    [InlineData(SteeringKind.Hold, SentAhead.None)]
    [InlineData(SteeringKind.Drop, SentAhead.None)]
    [InlineData(SteeringKind.Hold, SentAhead.Envelope)]
    [InlineData(SteeringKind.Drop, SentAhead.Envelope)]
    public async Task An_operator_stops_a_message_that_was_not_sent_whole(SteeringKind kind, object sent)
    {
        SendAhead((SentAhead)sent);
        await BeginAsync(4);
        Assert.Equal(1, await _bench.SteerAsync(_row[2].Id, kind));
        await FinishAsync();
        Assert.Equal([0, 1, 3, 4], Attempts);
        Assert.Equal(kind == SteeringKind.Hold ? RecipientStatus.Held : RecipientStatus.Dropped, _row[2].GetRecipient(0).Status);
        Assert.Equal(0, _row[2].GetRecipient(0).Attempts);
        Assert.Equal((SentAhead)sent == SentAhead.None ? [] : [(_row[2].Id, SentAhead.Envelope)], _bench.Couriers.GivenUp);
        Assert.Contains(_row[2].Id, _bench.Queue.Kept);
        Assert.All(_row.Where(m => m != _row[2]), static m => Assert.Equal(0, m.OpenRecipients));
    }

    [Theory]
    [InlineData(SteeringKind.Hold)]
    [InlineData(SteeringKind.Drop)]
    public async Task A_message_that_was_sent_whole_is_heard_of_whatever_the_operator_says(SteeringKind kind)
    {
        SendAhead(SentAhead.Whole);
        await BeginAsync(4);
        await NextAsync();
        Assert.Equal(1, await _bench.SteerAsync(_row[3].Id, kind));
        await FinishAsync();
        Assert.Equal([0, 1, 2, 3, 4], Attempts);
        AssertAllDelivered();
        Assert.Empty(_bench.Couriers.GivenUp);
    }

    [Fact]
    public async Task A_job_that_was_steered_before_it_is_linked_is_not()
    {
        SendAhead(SentAhead.Whole);
        await BeginAsync(16);
        Assert.Equal(1, await _bench.SteerAsync(_row[6].Id, SteeringKind.Hold));
        for (int i = 0; i < 4; i++)
        {
            await NextAsync();
        }

        Assert.Equal(5, Attempts.Last());
        Assert.Empty(_bench.Couriers.Linked.Last());
        await FinishAsync();
        Assert.Equal([0, 1, 2, 3, 4, 5, 7, 8], Attempts.Take(8));
        Assert.Equal((RecipientStatus.Held, 0), (_row[6].GetRecipient(0).Status, _row[6].GetRecipient(0).Attempts));
    }

    [Theory]
    [InlineData(SentAhead.None)]
    [InlineData(SentAhead.Envelope)]
    [InlineData(SentAhead.Whole)]
    public async Task A_site_failure_ends_the_batch_but_for_what_was_sent_whole(object sent)
    {
        SendAhead((SentAhead)sent);
        _bench.Couriers.CloseOnSiteFailure = false;
        _bench.Couriers.Outcome = (_, task, _) => Is(task.Message.Id, 1) ? ScriptedCouriers.Deferred with { Stage = DeliveryStage.FinalDot, Fault = FaultOwner.Site, Code = 452 } : ScriptedCouriers.Delivered;
        await BeginAsync(8);
        _gate.LetThrough(forGood: true);
        await _bench.CalmAsync();
        bool whole = (SentAhead)sent == SentAhead.Whole;
        Assert.Equal(whole ? [0, 1, 2, 3, 4] : [0, 1], Attempts);
        Assert.Equal((SentAhead)sent == SentAhead.Envelope ? [(_row[2].Id, SentAhead.Envelope)] : [], _bench.Couriers.GivenUp);
        Assert.Equal(1, _row[1].GetRecipient(0).Attempts);
        Assert.All(_row.Skip(whole ? 5 : 2), static m => Assert.Equal((0, 1), (m.GetRecipient(0).Attempts, m.OpenRecipients)));

        // What was loaded early and not used stays in memory.
        Assert.Subset(_bench.Queue.Kept.ToHashSet(), _row.Skip(whole ? 5 : 2).Take(whole ? 0 : 3).Select(static m => m.Id).ToHashSet());
        _bench.Couriers.Outcome = null;
        await _bench.AdvanceAsync(TimeSpan.FromHours(1));
        await Waiting.UntilAsync(() => _row.Skip(2).All(static m => m.OpenRecipients == 0));
    }

    [Theory]
    [InlineData(SentAhead.Envelope)]
    [InlineData(SentAhead.Whole)]
    public async Task Draining_hears_of_what_was_sent_whole_and_begins_nothing(object sent)
    {
        SendAhead((SentAhead)sent);
        await BeginAsync(8);
        await NextAsync();
        Task drained = _bench.Room.DrainAsync(CancellationToken.None);
        await _bench.Room.WorkedOffAsync();
        _gate.LetThrough(forGood: true);
        await drained.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        bool whole = (SentAhead)sent == SentAhead.Whole;
        Assert.Equal(whole ? [0, 1, 2, 3, 4] : [0, 1, 2], Attempts);
        Assert.Equal(whole ? [] : [(_row[3].Id, SentAhead.Envelope)], _bench.Couriers.GivenUp);
        Assert.All(_row.Skip(whole ? 5 : 3), static m => Assert.Equal((0, 1), (m.GetRecipient(0).Attempts, m.OpenRecipients)));
        Assert.Equal(0, _bench.Couriers.Open);
    }

    [Fact]
    public async Task A_job_that_cannot_be_loaded_links_nothing_and_hits_no_other()
    {
        SendAhead(SentAhead.Whole);
        _bench.Queue.BeforeLoad = slot => Is(_bench.Queue.Jobs[slot].MessageId, 2) ? throw new RecordUnreadableException("told to be unreadable") : default;
        await BeginAsync(8);
        Assert.Empty(_bench.Couriers.Linked.Last());
        await FinishAsync();
        Assert.Equal([0, 1, 3, 4, 5, 6, 7, 8], Attempts);
        Assert.Equal(RecipientStatus.Held, _row[2].GetRecipient(0).Status);
        Assert.All(_row.Where(m => m != _row[2]), static m => Assert.Equal(0, m.OpenRecipients));
        Assert.Empty(_bench.Couriers.GivenUp);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_job_that_has_to_be_read_from_the_disk_is_read_while_the_one_before_is_on_its_way(bool readable)
    {
        SendAhead(SentAhead.Whole);
        TaskCompletionSource read = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int reads = 0;
        _bench.Queue.BeforeLoad = slot =>
        {
            if (!Is(_bench.Queue.Jobs[slot].MessageId, 3))
            {
                return default;
            }

            Interlocked.Increment(ref reads);
            return new ValueTask(read.Task);
        };
        await BeginAsync(8);
        Assert.Equal([2], _bench.Couriers.Linked.Last().Select(NumberOf));
        Assert.Equal(1, Volatile.Read(ref reads));
        await NextAsync();
        if (readable)
        {
            read.SetResult();
        }
        else
        {
            read.SetException(new RecordUnreadableException("told to be unreadable"));
            _bench.Queue.BeforeLoad = null;
        }

        await FinishAsync();
        Assert.Equal(readable ? [0, 1, 2, 3, 4, 5, 6, 7, 8] : [0, 1, 2, 4, 5, 6, 7, 8], Attempts);
        Assert.Equal(1, Volatile.Read(ref reads));
        Assert.Empty(_bench.Couriers.GivenUp);
    }

    [Fact]
    public async Task A_read_that_is_not_needed_any_more_is_kept()
    {
        TaskCompletionSource read = new(TaskCreationOptions.RunContinuationsAsynchronously);
        _bench.Couriers.Outcome = (_, task, _) => Is(task.Message.Id, 1) ? ScriptedCouriers.SiteDown : ScriptedCouriers.Delivered;
        _bench.Queue.BeforeLoad = slot => Is(_bench.Queue.Jobs[slot].MessageId, 2) ? new ValueTask(read.Task) : default;
        await BeginAsync(8);
        _gate.LetThrough(forGood: true);
        read.SetResult();
        await _bench.CalmAsync();
        Assert.Equal([0, 1], Attempts);
        Assert.Equal([_row[2].Id], _bench.Queue.Kept);
        _bench.Couriers.Outcome = null;
        await _bench.AdvanceAsync(TimeSpan.FromHours(1));
        await Waiting.UntilAsync(() => _row.Skip(2).All(static m => m.OpenRecipients == 0));
    }

    [Fact]
    public async Task A_courier_that_throws_takes_down_nobody_else()
    {
        SendAhead(SentAhead.Whole);
        bool thrown = false;
        _bench.Couriers.Before = (_, task, stop) => !thrown && Is(task.Message.Id, 2) && (thrown = true) ? throw new InvalidOperationException("the courier breaks") : _gate.WaitAsync(stop);
        await BeginAsync(8);
        await FinishAsync();
        await _bench.AdvanceAsync(TimeSpan.FromHours(1));
        await Waiting.UntilAsync(() => _row.All(static m => m.OpenRecipients == 0));
        Assert.All(_row, static m => Assert.Equal(RecipientStatus.Delivered, m.GetRecipient(0).Status));
        Assert.Equal(_row.Count, _bench.Events.Events.Count(static e => e.Kind == MailEventKind.Delivered));
    }
}
