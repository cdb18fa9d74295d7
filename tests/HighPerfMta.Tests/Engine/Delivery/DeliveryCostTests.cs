using System.Diagnostics;
using System.Runtime.CompilerServices;
using HighPerfMta.Engine.Observability;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

[CollectionDefinition(nameof(DeliveryCostTests), DisableParallelization = true)]
[Collection(nameof(DeliveryCostTests))]
public class DeliveryCostTests
{
    private sealed class SilentLog : IEventLog
    {
        public void Write(in MailEvent mailEvent)
        {
        }
    }

    [Fact]
    public async Task A_delivered_message_allocates_little_in_dispatch()
    {
        const int waves = 20;
        const int each = 1000;
        await using DeliveryBench bench = new() { OtherEvents = new SilentLog() };
        bench.Queue.KeepUpdates = false;
        bench.Couriers.KeepAttempts = false;
        bench.Couriers.Before = static (_, _, _) => YieldAsync();
        await SendAsync(bench, Prepare(bench, each));
        List<List<QueuedMessage>> prepared = [.. Enumerable.Range(0, waves).Select(_ => Prepare(bench, each))];
        long before = GC.GetTotalAllocatedBytes(precise: true);
        long start = Stopwatch.GetTimestamp();
        foreach (List<QueuedMessage> wave in prepared)
        {
            await SendAsync(bench, wave);
        }

        TimeSpan took = Stopwatch.GetElapsedTime(start);
        long bytes = (GC.GetTotalAllocatedBytes(precise: true) - before) / (waves * each);
        TestContext.Current.TestOutputHelper?.WriteLine($"{bytes} bytes a message, {took.TotalMicroseconds / (waves * each):0.0} us a message");
        Assert.InRange(bytes, 0, 600);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private static async ValueTask YieldAsync() => await Task.Yield();

    private static async Task SendAsync(DeliveryBench bench, List<QueuedMessage> messages)
    {
        foreach (QueuedMessage message in messages)
        {
            bench.Room.Enqueue(message);
        }

        await Waiting.UntilAsync(() => messages.TrueForAll(static m => m.OpenRecipients == 0));
    }

    private static List<QueuedMessage> Prepare(DeliveryBench bench, int messages) =>
        [.. Enumerable.Range(0, messages).Select(i => bench.Message("sender@from.example", $"recipient{i % 50}@to{i % 3}.example"))];
}
