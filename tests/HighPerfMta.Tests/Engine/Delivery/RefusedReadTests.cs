using HighPerfMta.Engine.Delivery;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>A disk that refuses to read a message may give it the next time: the message is tried again, and set aside only when that goes on; a damaged record is set aside at once.</summary>
public class RefusedReadTests
{
    /// <summary>Longer than the longest rest, jitter included.</summary>
    private static readonly TimeSpan Step = TimeSpan.FromMinutes(13);

    private static RecordUnreadableException Refused() =>
        new("the record at address 64 cannot be read", new DiskException("read", "seg.0000000000", DiskException.InputOutput));

    [Theory]
    [InlineData("load")]
    [InlineData("load of several domains")]
    [InlineData("courier")]
    public async Task A_passing_refusal_costs_a_rest_and_no_attempt(string step)
    {
        await using DeliveryBench bench = new();
        QueuedMessage message = Prepare(bench, step, out Func<int> refusals, most: 3);
        bench.Room.Enqueue(message);
        await bench.CalmAsync();
        Assert.Equal((1, RecipientStatus.Pending, 0), (refusals(), message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
        QueuedMessage good = bench.Send("s@from.example", "r@to.example");
        await Waiting.UntilAsync(() => good.OpenRecipients == 0);
        for (int i = 0; i < 3; i++)
        {
            await bench.AdvanceAsync(Step);
        }

        Assert.Equal((3, RecipientStatus.Delivered, 1), (refusals(), message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
    }

    [Theory]
    [InlineData("load")]
    [InlineData("load of several domains")]
    [InlineData("courier")]
    public async Task A_lasting_refusal_sets_the_message_aside_after_eight(string step)
    {
        await using DeliveryBench bench = new();
        bench.Retry = bench.Retry with { DelayNotice = null };
        QueuedMessage message = Prepare(bench, step, out Func<int> refusals, most: int.MaxValue);
        bench.Room.Enqueue(message);
        await bench.CalmAsync();
        for (int i = 1; i < JobTroubles.MaxUnread; i++)
        {
            Assert.Equal((i, false), (refusals(), bench.Queue.Jobs[message.Slot].IsHeld));
            await bench.AdvanceAsync(Step);
        }

        Assert.True(bench.Queue.Jobs[message.Slot].IsHeld);
        Assert.Contains("cannot be read", bench.Queue.Names.Reasons.Get(bench.Queue.Jobs[message.Slot].Reason), StringComparison.Ordinal);
        int before = refusals();
        await bench.AdvanceAsync(TimeSpan.FromHours(10));
        Assert.Equal(before, refusals());
    }

    [Theory]
    [InlineData("load")]
    [InlineData("load of several domains")]
    [InlineData("courier")]
    public async Task However_often_the_turn_of_its_reads_does_not_come_a_message_is_not_set_aside_and_waits_no_longer_each_time(string step)
    {
        const int Times = 4 * JobTroubles.MaxUnread;
        await using DeliveryBench bench = new();
        bench.Retry = bench.Retry with { DelayNotice = null };
        QueuedMessage message = Prepare(bench, step, out Func<int> refusals, most: Times, new RecordUnreadableException("other reads had the disk") { IsUnserved = true });
        bench.Room.Enqueue(message);
        await bench.CalmAsync();
        for (int i = 1; i < Times; i++)
        {
            Assert.Equal((i, false), (refusals(), bench.Queue.Jobs[message.Slot].IsHeld));
            await bench.AdvanceAsync(TimeSpan.FromSeconds(40));
        }

        await bench.AdvanceAsync(TimeSpan.FromSeconds(40));
        Assert.Equal((Times, RecipientStatus.Delivered, 1), (refusals(), message.GetRecipient(0).Status, message.GetRecipient(0).Attempts));
    }

    [Fact]
    public async Task While_the_log_cannot_be_written_either_nothing_is_set_aside_and_the_rest_is_waited_for_no_longer_than_said()
    {
        await using DeliveryBench bench = new();
        bench.Retry = bench.Retry with { DelayNotice = null };
        QueuedMessage message = Prepare(bench, "load", out Func<int> refusals, most: 50);
        bench.Room.Enqueue(message);
        await bench.CalmAsync();
        bench.Queue.Condition = LogCondition.Failing;
        for (int i = 0; i < 49; i++)
        {
            await bench.AdvanceAsync(Step);
            Assert.False(bench.Queue.Jobs[message.Slot].IsHeld);
        }

        bench.Queue.Condition = LogCondition.Healthy;
        await bench.AdvanceAsync(Step);
        Assert.Equal((50, RecipientStatus.Delivered), (refusals(), message.GetRecipient(0).Status));
    }

    [Fact]
    public async Task A_message_that_expires_meanwhile_is_set_aside_rests_and_is_returned_when_it_can_be_read()
    {
        await using DeliveryBench bench = new();
        bench.Retry = bench.Retry with { DelayNotice = null };
        bool refuses = true;
        int refusals = 0;
        QueuedMessage message = bench.Message("s@from.example", "r@to.example");
        bench.Queue.BeforeLoad = slot =>
        {
            if (refuses && bench.Queue.Jobs[slot].MessageId == message.Id)
            {
                refusals++;
                throw Refused();
            }

            return default;
        };
        bench.Time.Advance(bench.Retry.Expire + TimeSpan.FromHours(1));
        bench.Room.Enqueue(message);
        for (int i = 0; i < 12; i++)
        {
            await bench.AdvanceAsync(TimeSpan.FromMinutes(6));
        }

        Assert.True(bench.Queue.Jobs[message.Slot].IsHeld);
        Assert.InRange(refusals, JobTroubles.MaxUnread, JobTroubles.MaxUnread + 2);
        refuses = false;
        await bench.AdvanceAsync(TimeSpan.FromHours(2));
        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(0).Status);
        Assert.Single(bench.Reports.Sent);
    }

    [Fact]
    public async Task An_operator_who_wants_it_tried_now_does_not_wait_for_the_rest()
    {
        await using DeliveryBench bench = new();
        QueuedMessage message = Prepare(bench, "courier", out Func<int> refusals, most: 1);
        bench.Room.Enqueue(message);
        await bench.CalmAsync();
        Assert.Equal((1, RecipientStatus.Pending), (refusals(), message.GetRecipient(0).Status));
        Assert.Equal(1, await bench.SteerAsync(message.Id, SteeringKind.Retry));
        await bench.CalmAsync();
        Assert.Equal(RecipientStatus.Delivered, message.GetRecipient(0).Status);
    }

    private static QueuedMessage Prepare(DeliveryBench bench, string step, out Func<int> refusals, int most, RecordUnreadableException? error = null)
    {
        int count = 0;
        QueuedMessage message = step.Contains("domains", StringComparison.Ordinal)
            ? bench.Message("s@from.example", "a@one.example", "b@two.example")
            : bench.Message("s@from.example", "r@to.example");
        void Refuse(bool here)
        {
            if (here && Volatile.Read(ref count) < most)
            {
                Interlocked.Increment(ref count);
                throw error ?? Refused();
            }
        }

        bench.Queue.BeforeLoad = slot =>
        {
            Refuse(step.StartsWith("load", StringComparison.Ordinal) && bench.Queue.Jobs[slot].MessageId == message.Id);
            return default;
        };
        bench.Couriers.Before = (_, task, _) =>
        {
            Refuse(step == "courier" && task.Message.Id == message.Id);
            return default;
        };
        refusals = () => Volatile.Read(ref count);
        return message;
    }
}
