using HighPerfMta.Queue;

namespace HighPerfMta.Tests.Queue;

public class ChangeGateTests
{
    private readonly ChangeGate _gate = new();

    [Fact]
    public async Task Settles_when_what_was_under_way_has_left_whatever_has_come_since()
    {
        int before = _gate.Enter();
        Task settled = _gate.SettleAsync();
        int after = _gate.Enter();
        Assert.False(settled.IsCompleted);
        _gate.Leave(before);
        await settled.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        _gate.Leave(after);
    }

    [Fact]
    public async Task A_settling_that_was_given_up_is_not_forgotten_by_the_next()
    {
        int first = _gate.Enter();
        Task givenUp = _gate.SettleAsync();
        Task next = _gate.SettleAsync();
        int second = _gate.Enter();
        Assert.False(next.IsCompleted);
        _gate.Leave(second);
        Assert.False(givenUp.IsCompleted);
        Assert.False(next.IsCompleted);
        _gate.Leave(first);
        await next.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
    }
}
