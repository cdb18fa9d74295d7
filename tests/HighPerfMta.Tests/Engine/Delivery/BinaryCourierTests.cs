using HighPerfMta.Engine.Delivery;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>BINARYMIME at the next hop (RFC 3030 §3): as it is, or not at all.</summary>
public class BinaryCourierTests
{
    private static readonly byte[] Octets = [.. "Subject: x\r\n\r\n"u8, 0, 13, 7, 10, 255, .. "\r\n.\r\nno line end"u8];

    [Theory]
    [InlineData("BINARYMIME,CHUNKING")]
    [InlineData("BINARYMIME,CHUNKING,PIPELINING,8BITMIME")]
    public async Task A_peer_that_takes_it_gets_every_octet(string announced)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, announced);
        DeliveryTask task = bench.Task("a@from.example", Octets, false, BodyEncoding.BinaryMime, "b@to.example");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal(DeliveryStatus.Delivered, task.Outcomes[0].Status);
        ReceivedMessage got = Assert.Single(bench.Mx.Messages);
        Assert.Equal((true, "MAIL FROM:<a@from.example> BODY=BINARYMIME"), (got.Chunked, got.Mail));
        Assert.Equal(Octets, got.Octets);
    }

    [Theory]
    [InlineData("")]
    [InlineData("8BITMIME,PIPELINING,CHUNKING")]
    [InlineData("8BITMIME,BINARYMIME")]
    public async Task To_another_it_does_not_go(string announced)
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, announced);
        DeliveryTask task = bench.Task("a@from.example", Octets, false, BodyEncoding.BinaryMime, "b@to.example");
        await bench.Courier.DeliverAsync(task, CancellationToken.None);
        Assert.Equal((DeliveryStatus.Failed, new EnhancedCode(5, 6, 1), FaultOwner.Message), (task.Outcomes[0].Status, task.Outcomes[0].Enhanced, task.Outcomes[0].Fault));
        Assert.DoesNotContain(bench.Mx.LinesOf(0), static l => l.StartsWith("MAIL", StringComparison.Ordinal));
    }

    [Fact]
    public async Task It_is_not_sent_ahead_to_a_peer_that_does_not_take_it()
    {
        await using CourierBench bench = new();
        CourierRow.Announce(bench, "PIPELINING,CHUNKING");
        DeliveryTask[] tasks = CourierRow.Link(
        [
            CourierRow.Task(bench, 0, 200),
            bench.Task("m1@example.net", Octets, false, BodyEncoding.BinaryMime, "r0@m1.example"),
            CourierRow.Task(bench, 2, 200),
        ]);
        await CourierRow.DeliverAsync(bench, tasks);
        Assert.Equal([DeliveryStatus.Delivered, DeliveryStatus.Failed, DeliveryStatus.Delivered], tasks.Select(static t => t.Outcomes[0].Status));
        Assert.Equal([0, 2], CourierRow.Taken(bench));
    }
}
