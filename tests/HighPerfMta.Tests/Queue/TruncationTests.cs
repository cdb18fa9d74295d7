using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

public class TruncationTests
{
    [Fact]
    public async Task The_head_follows_the_oldest_message()
    {
        await using QueueBench bench = new();
        await bench.StartAsync();
        QueuedMessage oldest = await bench.AcceptAsync(new string('a', 3000));
        for (int i = 0; i < 100; i++)
        {
            await FinishAsync(bench, await bench.AcceptAsync(new string('b', 3000)));
        }

        Assert.Equal(64, bench.Log.BeginAddress);
        Assert.Equal(1, (await bench.CrashAsync()).Queue.Count);
        QueuedMessage newest = await bench.AcceptAsync("c");
        await FinishAsync(bench, oldest);
        await bench.AcceptAsync("d");
        Assert.InRange(bench.Log.BeginAddress, newest.Body.Accepted.Address - bench.Options.SegmentSize, newest.Body.Accepted.Address);
        Assert.Equal(2, (await bench.CrashAsync()).Queue.Count);
    }

    [Fact]
    public async Task A_message_on_its_way_holds_the_log_from_its_first_chunk_on()
    {
        await using QueueBench bench = new();
        await bench.StartAsync();
        using IncomingMessage incoming = bench.Queue.Begin();
        byte[] body = new byte[9000];
        new Random(1).NextBytes(body);
        await incoming.WriteAsync(body);
        for (int i = 0; i < 100; i++)
        {
            await FinishAsync(bench, await bench.AcceptAsync(new string('b', 3000)));
        }

        QueuedMessage message = await incoming.CommitAsync(bench.Envelope(), ReadOnlyMemory<byte>.Empty);
        Assert.Equal(body, await bench.ReadAsync(message));
        QueueBench after = await bench.CrashAsync();
        Assert.Equal(body, await after.ReadAsync((await after.SingleAsync())));
    }

    [Fact]
    public async Task A_queue_that_starts_empty_gives_back_what_was_finished_before()
    {
        await using QueueBench bench = new();
        await bench.StartAsync();
        QueuedMessage first = await bench.AcceptAsync(new string('a', 3000));
        for (int i = 0; i < 100; i++)
        {
            await FinishAsync(bench, await bench.AcceptAsync(new string('b', 3000)));
        }

        bench.Log.HoldCommits = true;
        await FinishAsync(bench, first);
        bench.Log.HoldCommits = false;
        QueueBench after = await bench.CrashAsync();
        await FinishAsync(after, (await after.SingleAsync()));
        QueueBench third = await after.CrashAsync();
        third.Queue.Start();
        third.Log.Commit();
        Assert.InRange(third.Log.BeginAddress, third.Log.TailAddress - (2 * third.Options.SegmentSize), third.Log.TailAddress);
    }

    private static async Task FinishAsync(QueueBench bench, QueuedMessage message) =>
        await bench.Queue.UpdateAsync(message, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
}
