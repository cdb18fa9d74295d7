using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue;

public class LogFailureTests
{
    private static readonly RecipientUpdate[] Delivered = [new(0, QueueBench.Delivered())];

    [Fact]
    public async Task A_failed_commit_is_never_a_message()
    {
        await using QueueBench bench = new();
        bench.Log.HoldCommits = true;
        Task<QueuedMessage> accepting = bench.AcceptAsync("text\r\n");
        bench.Log.Fail();
        await Assert.ThrowsAsync<LogUnavailableException>(() => accepting);
        bench.Log.HoldCommits = false;
        bench.Log.Recover();
        Assert.Equal(0, bench.Queue.Count);
        Assert.Equal(0, bench.Queue.Live.Count);
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
    }

    [Theory]
    [InlineData(10)]
    [InlineData(20_000)]
    public async Task New_mail_is_refused_with_the_condition_while_the_log_is_unwell(int size)
    {
        await using QueueBench bench = new();
        bench.Log.SetLowSpace(true);
        LogUnavailableException low = await Assert.ThrowsAsync<LogUnavailableException>(() => bench.AcceptAsync(new byte[size]));
        Assert.Equal(LogCondition.LowSpace, low.Condition);
        bench.Log.SetLowSpace(false);
        bench.Log.Fail();
        LogUnavailableException failing = await Assert.ThrowsAsync<LogUnavailableException>(() => bench.AcceptAsync(new byte[size]));
        Assert.Equal(LogCondition.Failing, failing.Condition);
        bench.Log.Recover();
        await bench.AcceptAsync(new byte[size]);
        Assert.Equal(1, bench.Queue.Count);
    }

    [Fact]
    public async Task A_message_whose_chunks_were_lost_is_refused_though_the_log_is_well_again()
    {
        await using QueueBench bench = new();
        bench.Log.HoldCommits = true;
        using IncomingMessage incoming = bench.Queue.Begin();
        await incoming.WriteAsync(new byte[20_000]);
        bench.Log.Fail();
        bench.Log.HoldCommits = false;
        bench.Log.Recover();
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await incoming.CommitAsync(bench.Envelope(), ReadOnlyMemory<byte>.Empty));
        Assert.Equal(0, bench.Queue.Count);
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
    }

    [Fact]
    public async Task Delivery_goes_on_while_the_log_fails_and_its_outcomes_are_written_when_it_is_well()
    {
        await using QueueBench bench = new();
        QueuedMessage[] messages = [await bench.AcceptAsync("1"), await bench.AcceptAsync("2"), await bench.AcceptAsync("3")];
        bench.Log.HoldCommits = true;
        await bench.Queue.UpdateAsync(messages[0], Delivered);
        bench.Log.Fail();
        await bench.Queue.UpdateAsync(messages[1], Delivered);
        RecipientState deferred = QueueBench.Deferred(2, DateTimeOffset.UnixEpoch);
        await bench.Queue.UpdateAsync(messages[2], new RecipientUpdate[] { new(0, deferred) });
        Assert.Equal(1, bench.Queue.Count);
        Assert.Equal(3, (await bench.CrashAsync()).Queue.Count);

        bench.Log.HoldCommits = false;
        bench.Log.Recover();
        await bench.Queue.Rewriting;
        QueuedMessage left = (await (await bench.CrashAsync()).SingleAsync());
        Assert.Equal(messages[2].Id, left.Id);
        Assert.Equal(deferred, left.GetRecipient(0));
        Assert.Equal(0, bench.Queue.Ledger.Dirty);
    }

    [Fact]
    public async Task An_operators_change_that_is_not_durable_says_so_and_is_written_later()
    {
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("1", "a@example.net", "b@example.net");
        bench.Log.Fail();
        RecipientUpdate[] hold = [new(0, new RecipientState(RecipientStatus.Held, 0, default, null)), new(1, new RecipientState(RecipientStatus.Held, 0, default, null))];
        await Assert.ThrowsAsync<LogUnavailableException>(async () => await bench.Queue.UpdateDurablyAsync(message, hold));
        Assert.All([0, 1], i => Assert.Equal(RecipientStatus.Held, message.GetRecipient(i).Status));
        bench.Log.Recover();
        await bench.Queue.Rewriting;
        QueuedMessage found = (await (await bench.CrashAsync()).SingleAsync());
        Assert.All([0, 1], i => Assert.Equal(RecipientStatus.Held, found.GetRecipient(i).Status));
    }

    [Fact]
    public async Task Outcomes_that_do_not_even_fit_the_reserve_wait_for_space()
    {
        await using QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("1");
        bench.Log.SetLowSpace(true);
        bench.Log.RefuseAppend = static _ => true;
        await bench.Queue.UpdateAsync(message, Delivered);
        Assert.Equal(1, bench.Queue.Ledger.Dirty);
        bench.Log.RefuseAppend = null;
        bench.Log.SetLowSpace(false);
        await bench.Queue.Rewriting;
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
    }

    [Fact]
    public async Task A_second_failure_during_the_rewrite_loses_nothing()
    {
        await using QueueBench bench = new();
        List<QueuedMessage> messages = [];
        for (int i = 0; i < 10; i++)
        {
            messages.Add(await bench.AcceptAsync($"{i}"));
        }

        bench.Log.Fail();
        foreach (QueuedMessage message in messages)
        {
            await bench.Queue.UpdateAsync(message, Delivered);
        }

        int left = 4;
        bench.Log.RefuseAppend = _ => left-- <= 0;
        bench.Log.SetLowSpace(true);
        await bench.Queue.Rewriting;
        bench.Log.Fail();
        bench.Log.RefuseAppend = null;
        bench.Log.Recover();
        await bench.Queue.Rewriting;
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
        Assert.Equal(0, bench.Queue.Ledger.Dirty);
    }

    [Fact]
    public async Task Closing_makes_the_last_outcomes_durable()
    {
        QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("1");
        bench.Log.HoldCommits = true;
        await bench.Queue.UpdateAsync(message, Delivered);
        ValueTask closing = bench.DisposeAsync();
        Assert.False(closing.IsCompleted);
        Assert.Equal(1, (await bench.CrashAsync()).Queue.Count);
        bench.Log.Commit();
        await closing;
        Assert.True(bench.Log.Disposed);
        Assert.Equal(0, (await bench.CrashAsync()).Queue.Count);
    }

    [Fact]
    public async Task Closing_with_a_failed_log_ends()
    {
        QueueBench bench = new();
        QueuedMessage message = await bench.AcceptAsync("1");
        bench.Log.Fail();
        await bench.Queue.UpdateAsync(message, Delivered);
        await bench.DisposeAsync();
        Assert.True(bench.Log.Disposed);
    }
}
