using HighPerfMta.Queue.Log;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Log;

public class CommitCrowdTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly CommitCrowd _crowd;

    public CommitCrowdTests() => _crowd = new CommitCrowd(_time);

    [Fact]
    public void Who_comes_alone_is_committed_at_once()
    {
        for (int i = 0; i < 3; i++)
        {
            Assert.True(_crowd.Arrive());
            Assert.False(_crowd.Gathers(rested: false));
            _crowd.Committing();
            _crowd.Flushed(1, 0);
        }
    }

    [Fact]
    public void As_many_as_waited_at_once_are_waited_for_and_only_the_first_and_the_last_wake()
    {
        Learn(ready: 3, waiting: 2);
        Assert.Equal([true, false, false, false], Enumerable.Range(0, 4).Select(_ => _crowd.Arrive()));
        Assert.True(_crowd.Gathers(rested: false));
        Assert.Equal(CommitCrowd.Patience, _crowd.Wait);
        Assert.True(_crowd.Arrive());
        Assert.False(_crowd.Gathers(rested: false));
    }

    [Fact]
    public void The_wait_ends_with_the_patience_and_the_next_crowd_is_as_large_as_came()
    {
        Learn(ready: 20, waiting: 0);
        _crowd.Arrive();
        _crowd.Arrive();
        Assert.True(_crowd.Gathers(rested: false));
        _time.Advance(CommitCrowd.Patience / 2);
        Assert.True(_crowd.Gathers(rested: false));
        _time.Advance(CommitCrowd.Patience / 2);
        Assert.False(_crowd.Gathers(rested: false));
        _crowd.Committing();
        Assert.Equal([true, true], Enumerable.Range(0, 2).Select(_ => _crowd.Arrive()));
        Assert.False(_crowd.Gathers(rested: false));
    }

    [Fact]
    public void A_loop_that_slept_its_time_commits_what_there_is()
    {
        Learn(ready: 4, waiting: 0);
        _crowd.Arrive();
        Assert.True(_crowd.Gathers(rested: false));
        Assert.False(_crowd.Gathers(rested: true));
    }

    [Fact]
    public void A_crowd_has_a_bound_and_flushes_for_nobody_do_not_change_it()
    {
        Learn(ready: 500, waiting: 500);
        _crowd.Flushed(0, 3);
        for (int i = 1; i < CommitCrowd.Most; i++)
        {
            Assert.Equal(i == 1, _crowd.Arrive());
        }

        Assert.True(_crowd.Gathers(rested: false));
        Assert.True(_crowd.Arrive());
        Assert.False(_crowd.Gathers(rested: false));
    }

    private void Learn(int ready, int waiting)
    {
        _crowd.Arrive();
        Assert.False(_crowd.Gathers(rested: false));
        _crowd.Committing();
        _crowd.Flushed(ready, waiting);
    }
}
