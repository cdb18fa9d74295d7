using HighPerfMta.Engine.Delivery;
using HighPerfMta.Queue;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Engine.Delivery;

/// <summary>What waits for a site that answers at once follows the messages on their way to it, for a short while, and connections rest meanwhile.</summary>
public sealed class QuickSiteTests : IAsyncDisposable
{
    private readonly DeliveryBench _bench = new();
    private readonly RoundGate _gate = new();

    public QuickSiteTests()
    {
        _bench.Options = _bench.Options with { Shards = 1, ConnectionsPerSite = 2 };
        _bench.Couriers.Before = (_, _, stop) => _gate.WaitAsync(stop);
        _bench.Couriers.Ahead = static (_, _) => SentAhead.None;
    }

    public async ValueTask DisposeAsync()
    {
        _gate.LetThrough(forGood: true);
        await _bench.DisposeAsync();
    }

    private int OnTheirWay => _bench.Room.Activity.Transactions;

    /// <summary>Two connections have carried a message each, in as long as that, and rest; then one message is on its way.</summary>
    private async Task BeginAsync(TimeSpan pace)
    {
        // The second is opened because the first is slow.
        Send(1);
        await Waiting.UntilAsync(() => _gate.Waiting == 1);
        Send(1);
        await _bench.Room.WorkedOffAsync();
        _bench.Time.Advance(TimeSpan.FromMilliseconds(250));
        await Waiting.UntilAsync(() => _gate.Waiting == 2);
        await FinishRoundAsync();
        Assert.Equal(2, _bench.Room.Sites().Single().Connections);
        for (int i = 0; i < 2; i++)
        {
            Send(1);
            await Waiting.UntilAsync(() => _gate.Waiting == 1);
            if (i == 0)
            {
                _bench.Time.Advance(pace);
                await FinishRoundAsync();
            }
        }
    }

    private async Task FinishRoundAsync()
    {
        _gate.LetThrough();
        await Waiting.UntilAsync(() => _bench.Queue.Count == 0);
        await _bench.Room.WorkedOffAsync();
    }

    private QueuedMessage[] Send(int count) => [.. Enumerable.Range(0, count).Select(i => _bench.Send("s@from.example", $"r{i}@to.example"))];

    [Fact]
    public async Task A_few_messages_wait_for_the_one_on_its_way_and_follow_it_together()
    {
        await BeginAsync(TimeSpan.FromMilliseconds(1));
        Send(4);
        await _bench.Room.WorkedOffAsync();
        Assert.Equal((1, 4), (OnTheirWay, _bench.Room.Sites().Single().Waiting));
        int before = _bench.Couriers.Linked.Count;
        _gate.LetThrough();
        await Waiting.UntilAsync(() => _bench.Couriers.Linked.Count > before && _gate.Waiting == 1);
        await _bench.Room.WorkedOffAsync();
        Assert.Equal((1, 0, 3), (OnTheirWay, _bench.Room.Sites().Single().Waiting, _bench.Couriers.Linked.Last().Length));
    }

    [Fact]
    public async Task More_than_a_few_take_a_further_connection()
    {
        await BeginAsync(TimeSpan.FromMilliseconds(1));
        Send(5);
        await Waiting.UntilAsync(() => _gate.Waiting == 2);
    }

    [Fact]
    public async Task They_do_not_wait_long_for_one_that_hangs()
    {
        await BeginAsync(TimeSpan.FromMilliseconds(1));
        Send(1);
        await _bench.Room.WorkedOffAsync();
        _bench.Time.Advance(TimeSpan.FromMilliseconds(19));
        await _bench.Room.WorkedOffAsync();
        Assert.Equal(1, OnTheirWay);
        _bench.Time.Advance(TimeSpan.FromMilliseconds(1));
        await Waiting.UntilAsync(() => _gate.Waiting == 2);
    }

    [Fact]
    public async Task They_do_not_wait_when_the_clock_was_set_back()
    {
        await BeginAsync(TimeSpan.FromMilliseconds(1));
        _bench.Time.AdjustTime(_bench.Time.GetUtcNow() - TimeSpan.FromHours(1));
        Send(1);
        await Waiting.UntilAsync(() => _gate.Waiting == 2);
    }

    [Fact]
    public async Task Nothing_waits_for_a_site_that_takes_its_time()
    {
        await BeginAsync(TimeSpan.FromMilliseconds(2));
        Send(1);
        await Waiting.UntilAsync(() => _gate.Waiting == 2);
    }

    [Fact]
    public async Task Nothing_waits_where_messages_cannot_follow_one_another()
    {
        _bench.Couriers.Ahead = null;
        await BeginAsync(TimeSpan.FromMilliseconds(1));
        Send(1);
        await Waiting.UntilAsync(() => _gate.Waiting == 2);
    }
}
