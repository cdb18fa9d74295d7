using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>A message that makes a step throw, whichever, is set aside after some failures, and others go on.</summary>
public class PoisonTests
{
    private const int Failures = JobTroubles.MaxThrows;

    [Theory]
    [InlineData("resolver", "finding its way failed")]
    [InlineData("load", "Outcome failed")]
    [InlineData("load of several domains", "Outcome failed")]
    [InlineData("split", "finding its way failed")]
    [InlineData("courier", "delivery failed")]
    [InlineData("report", "Failures failed")]
    [InlineData("state", "Failures failed")]
    public async Task Is_set_aside(string step, string reason)
    {
        await using DeliveryBench bench = new();
        bench.Retry = bench.Retry with { DelayNotice = null };
        int throws = 0;
        QueuedMessage poison = step.Contains("domains", StringComparison.Ordinal) || step == "split"
            ? bench.Message("s@from.example", "a@poison.example", "b@poison2.example")
            : bench.Message("s@from.example", "r@poison.example");
        void Throw(bool poisonous)
        {
            if (poisonous)
            {
                Interlocked.Increment(ref throws);
                throw new InvalidOperationException("bug");
            }
        }

        bool IsPoison(MessageId id) => id == poison.Id;
        bench.Resolver.Before = d => Throw(step == "resolver" && d == "poison.example");
        bench.Queue.BeforeLoad = slot =>
        {
            Throw(step.StartsWith("load", StringComparison.Ordinal) && IsPoison(bench.Queue.Jobs[slot].MessageId));
            return default;
        };
        bench.Queue.BeforeSplit = m => Throw(step == "split" && IsPoison(m.Id));
        bench.Queue.BeforeUpdate = (m, _) => Throw(step == "state" && IsPoison(m.Id));
        bench.Reports.Before = m => Throw(step == "report" && IsPoison(m.Id));
        bench.Couriers.Before = (_, task, _) =>
        {
            Throw(step == "courier" && IsPoison(task.Message.Id));
            return default;
        };
        bench.Couriers.Outcome = (_, task, _) => IsPoison(task.Message.Id) ? ScriptedCouriers.Failed : ScriptedCouriers.Delivered;
        bench.Room.Enqueue(poison);
        for (int i = 0; i < 40 && !bench.Queue.Jobs[poison.Slot].IsHeld; i++)
        {
            QueuedMessage good = bench.Send("s@from.example", "r@to.example", "r@to2.example");
            await Waiting.UntilAsync(() => good.OpenRecipients == 0);
            await bench.CalmAsync();
            await bench.AdvanceAsync(TimeSpan.FromMinutes(10));
        }

        Assert.True(bench.Queue.Jobs[poison.Slot].IsHeld);
        Assert.Contains(reason, bench.Queue.Names.Reasons.Get(bench.Queue.Jobs[poison.Slot].Reason), StringComparison.Ordinal);
        int before = throws;
        Assert.InRange(before, Failures, 4 * Failures);
        await bench.AdvanceAsync(TimeSpan.FromHours(10));
        Assert.Equal(before, throws);
    }
}
