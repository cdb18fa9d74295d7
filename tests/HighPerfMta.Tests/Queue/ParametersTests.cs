using System.Text;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

/// <summary>What the sender asked for is there as long as the message is: after a crash, a split, a compaction.</summary>
public class ParametersTests
{
    private static readonly EnvelopeParameters Asked = new()
    {
        Return = ReturnContent.Full,
        EnvelopeId = "QQ314159",
        Recipients = [new RecipientParameters(NotifyConditions.Success, "rfc822;a@b.example"), null],
    };

    [Theory]
    [InlineData(100)]
    [InlineData(20_000)]
    public async Task They_come_back_after_a_crash(int size)
    {
        QueueBench bench = new();
        await AcceptAsync(bench, size);
        await using QueueBench next = await bench.CrashAsync();
        AssertAsked(await next.SingleAsync());
        await bench.DisposeAsync();
    }

    [Fact]
    public async Task They_go_with_every_part_of_the_message()
    {
        await using QueueBench bench = new();
        QueuedMessage[] parts = await bench.Queue.SplitAsync(await AcceptAsync(bench, 100), [[0], [1]]);
        Assert.All(parts, AssertAsked);
        await using QueueBench next = await bench.CrashAsync();
        List<QueuedMessage> found = await next.MessagesAsync();
        Assert.Equal(2, found.Count);
        Assert.All(found, AssertAsked);
    }

    [Theory]
    [InlineData(100)]
    [InlineData(20_000)]
    public async Task They_move_with_the_message(int size)
    {
        await using QueueBench bench = new();
        QueuedMessage message = await AcceptAsync(bench, size);
        long before = bench.Queue.Jobs[message.Slot].Accepted;
        for (int i = 0; i < 40; i++)
        {
            QueuedMessage other = await AcceptAsync(bench, 4000);
            await bench.Queue.UpdateAsync(other, new RecipientUpdate[] { new(0, QueueBench.Delivered()), new(1, QueueBench.Delivered()) });
        }

        await bench.Queue.CompactAsync();
        Assert.NotEqual(before, bench.Queue.Jobs[message.Slot].Accepted);
        AssertAsked(await bench.Queue.LoadAsync(message.Slot));
        await using QueueBench next = await bench.CrashAsync();
        AssertAsked(await next.SingleAsync());
    }

    private static async Task<QueuedMessage> AcceptAsync(QueueBench bench, int size)
    {
        using IncomingMessage incoming = bench.Queue.Begin();
        await incoming.WriteAsync(Encoding.ASCII.GetBytes(new string('x', size) + "\r\n"));
        return await incoming.CommitAsync(new EnvelopeWithParameters(bench.Envelope("a@one.example", "b@two.example"), Asked), ReadOnlyMemory<byte>.Empty);
    }

    private static void AssertAsked(QueuedMessage message)
    {
        EnvelopeParameters found = message.Envelope.Parameters!;
        Assert.Equal((Asked.Return, Asked.EnvelopeId, Asked.Of(0), null), (found.Return, found.EnvelopeId, found.Of(0), found.Of(1)));
    }
}
