using System.Diagnostics;
using HighPerfMta.Queue.Async;

namespace HighPerfMta.Tests.Queue.Async;

public class PauseTests
{
    [Theory]
    [InlineData(100)]
    [InlineData(1_200_000)]
    public void A_pause_lasts_as_long_as_it_says_or_longer(int microseconds)
    {
        TimeSpan wanted = TimeSpan.FromMicroseconds(microseconds);
        long start = Stopwatch.GetTimestamp();
        Background.Threads.Pause(wanted);
        Assert.True(Stopwatch.GetElapsedTime(start) >= wanted);
    }
}
