using HighPerfMta.LoadGen.Load;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.LoadGen;

/// <summary>Slow sessions against our own reception, on loopback.</summary>
public class SlowTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("idle:1,command:2,data:1", 1, 2, 1)]
    [InlineData("data:3", 0, 0, 3)]
    public void A_mix_says_what_each_session_does(string text, int idle, int command, int data)
    {
        Assert.True(SlowMix.TryParse(text, out var mix));
        var kinds = Enumerable.Range(0, 12).Select(mix.KindOf).ToList();
        var whole = idle + command + data;
        Assert.Equal((12 / whole * idle, 12 / whole * command, 12 / whole * data), (kinds.Count(k => k == SlowKind.Idle), kinds.Count(k => k == SlowKind.Command), kinds.Count(k => k == SlowKind.Data)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("idle:0")]
    [InlineData("idle")]
    [InlineData("idle:-1")]
    [InlineData("other:1")]
    public void A_mix_that_says_nothing_is_refused(string text) => Assert.False(SlowMix.TryParse(text, out _));

    [Fact]
    public async Task Sessions_are_held_and_what_the_server_ends_is_counted()
    {
        await using ReceptionHost host = new();
        host.Server.Start();
        var ready = Path.Combine(Directory.CreateTempSubdirectory("hpload-").FullName, "ready");
        var runner = new SlowRunner(new SlowOptions
        {
            Target = host.Server.Endpoints[0],
            Sessions = 12,
            Every = TimeSpan.FromMilliseconds(100),
            Duration = TimeSpan.FromMinutes(5),
            Ramp = TimeSpan.Zero,
            ReadyFile = ready,
        });
        using CancellationTokenSource end = new();
        var running = runner.RunAsync(end.Token);
        await Waiting.UntilAsync(() => File.Exists(ready));
        Assert.Equal(12, host.Server.SessionCount);

        // A stop ends those that wait for a command, and lets messages finish.
        using CancellationTokenSource never = new();
        var stop = host.Server.StopAsync(never.Token);
        await Waiting.UntilAsync(() => runner.Open == 4 && host.Server.SessionCount == 4);
        await end.CancelAsync();
        var report = await running.WaitAsync(Limit, CancellationToken.None);
        await stop.WaitAsync(Limit, CancellationToken.None);
        Assert.Equal((12, 12, 4), (report.Wanted, report.Held, report.LeftAtEnd));
        Assert.Equal([new KeyValuePair<string, int>("421", 8)], report.EndedWith);
        Assert.Empty(host.Intake.Messages);
        Directory.Delete(Path.GetDirectoryName(ready)!, recursive: true);
    }

    [Fact]
    public async Task Sessions_that_are_refused_are_told_by_their_code()
    {
        await using ReceptionHost host = new(ReceptionHost.Loopback() with { Limits = new() { ConnectionsPerIp = 3 } });
        host.Server.Start();
        var report = await new SlowRunner(new SlowOptions { Target = host.Server.Endpoints[0], Sessions = 5, Duration = TimeSpan.Zero, Ramp = TimeSpan.Zero, Mix = new SlowMix(1, 0, 0) })
            .RunAsync(CancellationToken.None).WaitAsync(Limit, CancellationToken.None);
        Assert.Equal((5, 3, 3), (report.Wanted, report.Held, report.LeftAtEnd));
        Assert.Equal([new KeyValuePair<string, int>("421", 2)], report.EndedWith);
    }
}
