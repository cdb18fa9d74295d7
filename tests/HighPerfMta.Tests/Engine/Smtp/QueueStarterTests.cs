using System.Text;
using HighPerfMta.Engine.Smtp;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;

namespace HighPerfMta.Tests.Engine.Smtp;

public class QueueStarterTests
{
    [Theory]
    [InlineData("example.net", "example.net", false)]
    [InlineData("@Example.NET", "example.net", true)]
    [InlineData("bücher.example", "xn--bcher-kva.example", false)]
    public void A_domain_is_named_with_or_without_what_is_below_it(string argument, string domain, bool below)
    {
        Assert.Null(CommandParser.ParseEtrn(Encoding.UTF8.GetBytes(argument), out string parsed, out bool withSubdomains));
        Assert.Equal((domain, below), (parsed, withSubdomains));
    }

    [Fact]
    public async Task A_domain_with_what_is_below_it_is_two_runs()
    {
        List<string> started = [];
        TaskCompletionSource all = new();
        await using QueueStarter starter = new((domain, _) =>
        {
            started.Add(domain);
            if (started.Count == 2)
            {
                all.SetResult();
            }

            return new ValueTask<int>(1);
        }, NullLogger.Instance);
        Assert.True(starter.TryStart("a.example", withSubdomains: true));
        await all.Task.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.Equal(["a.example", ".a.example"], started);
    }

    [Fact]
    public async Task There_is_one_run_at_a_time_and_its_failure_ends_nothing()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int runs = 0;
        await using QueueStarter starter = new(async (_, _) =>
        {
            if (Interlocked.Increment(ref runs) == 1)
            {
                await go.Task;
                throw new LogUnavailableException("told to fail", LogCondition.Failing);
            }

            return 0;
        }, NullLogger.Instance);
        Assert.True(starter.TryStart("a.example", false));
        Assert.False(starter.TryStart("b.example", false));
        go.SetResult();
        await Waiting.UntilAsync(() => starter.TryStart("c.example", false));
        await Waiting.UntilAsync(() => Volatile.Read(ref runs) == 2);
    }

    [Fact]
    public async Task A_server_that_stops_ends_the_run()
    {
        QueueStarter starter = new(async (_, cancellation) =>
        {
            await Task.Delay(Timeout.Infinite, cancellation);
            return 0;
        }, NullLogger.Instance);
        Assert.True(starter.TryStart("a.example", false));
        await starter.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        Assert.False(starter.TryStart("a.example", false));
    }
}
