using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue.Async;

public sealed class SlackTests
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    [Fact]
    public void Rests_after_three_still_looks_and_ends_the_rest_with_the_first_change()
    {
        Slack slack = new(Second);
        bool[] still = [true, true, false, true, true, true, true, false, true];
        int[] seconds = [1, 1, 1, 1, 1, 10, 10, 1, 1];
        Assert.Equal(seconds, still.Select(s => (int)slack.Next(s).TotalSeconds));
    }
}
