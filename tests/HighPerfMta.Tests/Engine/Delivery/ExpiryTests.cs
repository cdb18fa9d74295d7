using HighPerfMta.Engine.Delivery;
using HighPerfMta.Engine.Reports;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>The sender is told of a delay, and mail expires, wherever a job is when its time comes (parked, held and behind a resting site: see <see cref="RetryTests"/>).</summary>
public class ExpiryTests
{
    private static readonly TimeSpan Step = TimeSpan.FromMinutes(20);
    private static readonly TimeSpan Never = Timeout.InfiniteTimeSpan;

    [Fact]
    public async Task Of_a_job_whose_site_gets_no_connection()
    {
        await using DeliveryBench bench = new();
        bench.Options = bench.Options with { Connections = 1, Shards = 1 };
        bench.Couriers.Before = static (site, _, stop) => site.Key == "mx:slow.example" ? new ValueTask(Task.Delay(Never, stop)) : default;
        bench.Send("s@from.example", "r@slow.example");
        await Waiting.UntilAsync(() => bench.Couriers.Attempts.Count == 1);
        QueuedMessage starved = bench.Send("s@from.example", "r@other.example");
        await CheckAsync(bench, starved);
    }

    [Fact]
    public async Task Of_a_job_whose_destination_cannot_be_looked_up()
    {
        await using DeliveryBench bench = new();
        bench.Resolver.Slow = static _ => Task.Delay(Never);
        QueuedMessage one = bench.Send("s@from.example", "r@hanging.example");
        QueuedMessage several = bench.Send("s@from.example", "a@hanging1.example", "b@hanging2.example");
        await CheckAsync(bench, one);
        for (int i = 0; i < 60 && several.OpenRecipients > 0; i++)
        {
            // Lookups run on the pool: its second one may have begun later on this clock than the one that was waited for.
            await PassAsync(bench, Step);
        }

        Assert.Equal(0, several.OpenRecipients);
        Assert.Equal(2, bench.Reports.Sent.Where(r => r.Message.Id == several.Id && r.Kind == ReportKind.Failure).Sum(static r => r.Recipients.Length));
        Assert.Contains("DNS", one.GetRecipient(0).LastOutcome!.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(4 * 60, ReportKind.Delay)]
    [InlineData(5 * 24 * 60, ReportKind.Failure)]
    public async Task Of_a_job_that_waits_for_a_lookup_behind_others(int minutes, ReportKind kind)
    {
        await using DeliveryBench bench = new();
        bench.Resolver.Slow = static _ => Task.Delay(Never);
        QueuedMessage old = bench.Message("s@from.example", "r@old.example");
        bench.Time.Advance(TimeSpan.FromMinutes(minutes - 2));
        for (int i = 0; i < Router.MaxLookups + 10; i++)
        {
            bench.Send("s@from.example", $"r@new{i}.example");
        }

        if (kind == ReportKind.Failure)
        {
            // Told of its delay already, so that it comes to the lookups.
            bench.Queue.Jobs[old.Slot].Flags |= JobFlags.NoticeSent;
        }

        bench.Room.Enqueue(old);
        await bench.CalmAsync();
        Assert.Empty(bench.Reports.Sent);
        await bench.AdvanceAsync(TimeSpan.FromMinutes(3));
        Assert.Equal(Router.MaxLookups, bench.Resolver.Lookups);
        await Waiting.UntilAsync(() => bench.Reports.Sent.Any(r => r.Message.Id == old.Id && r.Kind == kind));
    }

    [Fact]
    public async Task Of_a_job_whose_notice_could_not_be_written_down()
    {
        await using DeliveryBench bench = new();
        bench.Couriers.Outcome = static (_, _, _) => ScriptedCouriers.Deferred;
        bool failing = true;
        bench.Reports.Before = _ =>
        {
            if (Volatile.Read(ref failing))
            {
                throw new LogUnavailableException("told to fail", LogCondition.Failing);
            }
        };
        QueuedMessage message = bench.Send("s@from.example", "r@to.example");
        await bench.CalmAsync();
        for (TimeSpan age = default; age < bench.Retry.Expire + Step; age += Step)
        {
            await bench.AdvanceAsync(Step);
        }

        Assert.Equal(1, message.OpenRecipients);
        Volatile.Write(ref failing, false);
        await bench.AdvanceAsync(Step);
        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(0).Status);
        Assert.Single(bench.Reports.Sent, static r => r.Kind == ReportKind.Failure);
    }

    private static async Task CheckAsync(DeliveryBench bench, QueuedMessage message)
    {
        await PassAsync(bench, TimeSpan.FromHours(4) + Step);
        for (int i = 0; i < 60 && !bench.Reports.Sent.Any(r => r.Message.Id == message.Id); i++)
        {
            // Lookups run on the pool: one that began late ends later on this clock.
            await PassAsync(bench, Step);
        }

        Assert.Single(bench.Reports.Sent, r => r.Message.Id == message.Id && r.Kind == ReportKind.Delay);
        await PassAsync(bench, bench.Retry.Expire - TimeSpan.FromHours(4) + Step);
        await Waiting.UntilAsync(() => message.OpenRecipients == 0);
        Assert.Equal(RecipientStatus.Failed, message.GetRecipient(0).Status);
        Assert.Single(bench.Reports.Sent, r => r.Message.Id == message.Id && r.Kind == ReportKind.Delay);
        Assert.Single(bench.Reports.Sent, r => r.Message.Id == message.Id && r.Kind == ReportKind.Failure);
    }

    private static async Task PassAsync(DeliveryBench bench, TimeSpan time)
    {
        for (TimeSpan passed = default; passed < time; passed += Step)
        {
            bench.Time.Advance(Step);
            for (int i = 0; i < 3; i++)
            {
                await bench.Room.WorkedOffAsync();
                await Waiting.UntilAsync(() => bench.Room.Writing == 0);
            }
        }
    }
}
