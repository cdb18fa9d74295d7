using HighPerfMta.Queue;

namespace HighPerfMta.Tests.Queue;

public class LiveSegmentsTests
{
    private const long Stretch = 1000;
    private readonly LiveSegments _live = new(Stretch, begin: 64);

    [Fact]
    public void The_head_is_told_again_to_a_log_that_has_forgotten_it()
    {
        long pin = _live.Pin(static () => 100);
        Assert.Equal(0, _live.FindHead(4500));
        Assert.Equal(4000, _live.Unpin(pin, static () => 4500));
        Assert.Equal(4000, _live.FindHead(4500));
        Assert.Equal(4000, _live.FindHead(4700));
        Assert.Equal(5000, _live.FindHead(5000));
    }

    [Fact]
    public void A_frozen_head_is_not_told()
    {
        _live.Unpin(_live.Pin(static () => 100), static () => 4500);
        _live.Freeze();
        Assert.Equal(0, _live.FindHead(9000));
        _live.Thaw();
        Assert.Equal(9000, _live.FindHead(9000));
    }
}
