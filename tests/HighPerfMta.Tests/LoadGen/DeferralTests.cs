using System.Net;
using System.Net.Sockets;
using System.Text;
using HighPerfMta.LoadGen.Load;

namespace HighPerfMta.Tests.LoadGen;

public class DeferralTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("20%", 0.2, 450, Deferral.DefaultText)]
    [InlineData("0.5%:421", 0.005, 421, Deferral.DefaultText)]
    [InlineData("100%:451:4.7.1 later: much", 1, 451, "4.7.1 later: much")]
    public void A_deferral_is_read(string text, double share, int code, string reply)
    {
        Assert.True(Deferral.TryParse(text, out var deferral));
        Assert.Equal(new Deferral(share, code, reply), deferral);
    }

    [Theory]
    [InlineData("")]
    [InlineData("20")]
    [InlineData("101%")]
    [InlineData("20%:550")]
    [InlineData("20%:450:")]
    [InlineData("20%:450:a\r\nb")]
    public void What_is_no_deferral_is_refused(string text) => Assert.False(Deferral.TryParse(text, out _));

    [Fact]
    public void A_share_of_the_recipients_is_deferred_at_every_try()
    {
        var ledger = new DeferralLedger(new Deferral(0.25, 450, "x"), seed: 3);

        var first = Enumerable.Range(0, 4000).Where(i => ledger.Defers(Path(i))).ToList();

        Assert.InRange(first.Count, 800, 1200);
        Assert.Equal(first, Enumerable.Range(0, 4000).Where(i => ledger.Defers(Path(i))));
    }

    [Fact]
    public void A_recipient_is_taken_after_at_most_so_many_deferrals()
    {
        var ledger = new DeferralLedger(new Deferral(1, 450, "x") { Times = 3 }, seed: 3);

        var tries = Enumerable.Range(0, 300).Select(i => Enumerable.Range(0, 9).TakeWhile(_ => ledger.Defers(Path(i))).Count()).ToList();

        Assert.Equal([1, 2, 3], tries.Distinct().Order());
    }

    [Fact]
    public async Task A_sink_defers_and_says_when_it_took_its_first()
    {
        var options = new SinkOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0), Deferral = new Deferral(0.5, 451, "4.7.1 Greylisted") };
        await using var sink = new SinkServer(options);
        sink.Start();
        Assert.Null(sink.Report().FirstAt);
        var source = new SourceOptions { Target = sink.LocalEndPoint, Connections = 2, Count = 200, Pipeline = 1, Timeout = Limit, To = "user{n}@d{n%7}.invalid", Sizes = OneKiB() };

        var report = await new RelayRunner(source, sink).RunAsync(Limit, CancellationToken.None).WaitAsync(Limit);

        Assert.Equal("451 4.7.1 Greylisted", report.Source.FirstRefusal);
        Assert.Equal([451], report.Source.RefusedByCode.Keys);
        Assert.Equal((report.Source.Refused, report.Delivered), (report.Sink.Deferred, 200 - report.Sink.Deferred));
        Assert.InRange(report.Sink.FirstAt!.Value, DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 300, DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 1);
    }

    [Fact]
    public async Task A_probe_waits_until_the_server_is_there_and_takes_its_message()
    {
        using var placeholder = new Socket(SocketType.Stream, ProtocolType.Tcp);
        placeholder.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var endPoint = new IPEndPoint(IPAddress.Loopback, ((IPEndPoint)placeholder.LocalEndPoint!).Port);
        var probing = new Probe(endPoint, "a@b.invalid", "c@d.invalid").RunAsync(Limit, CancellationToken.None);
        placeholder.Close();
        await using var sink = new SinkServer(new SinkOptions { Listen = endPoint, Count = 1, Rejections = [new Rejection(SinkStage.Data, 0.5, 451)] });
        sink.Start();

        var report = await probing.WaitAsync(Limit);

        // The sink answers first and counts then.
        await sink.WaitForEndAsync(TestContext.Current.CancellationToken).WaitAsync(Limit);
        Assert.Equal(1, sink.Delivered);
        Assert.True(report.GreetedAt <= report.AcceptedAt);
    }

    [Theory]
    [InlineData("user{r}@sink.invalid", "user4@sink.invalid")]
    [InlineData("", "")]
    [InlineData("a{n}b{n%1000}c{n/1000}d{n/1000%100}{r%3}", "a1234567b567c1234d341")]
    public void Places_are_filled(string template, string path)
    {
        var buffer = new byte[200];
        var parsed = PathTemplate.Parse(template);

        var length = parsed.Write(buffer, 1_234_567, 4);

        Assert.Equal(path, Encoding.UTF8.GetString(buffer, 0, length));
        Assert.InRange(length, 0, parsed.MaxLength);
    }

    [Theory]
    [InlineData("{")]
    [InlineData("{}")]
    [InlineData("{x}")]
    [InlineData("{n%0}")]
    [InlineData("{n%3/2}")]
    [InlineData("{n/}")]
    public void What_is_no_place_is_refused(string template) => Assert.False(PathTemplate.TryParse(template, out _, out _));

    private static byte[] Path(int i) => Encoding.ASCII.GetBytes($" TO:<user{i}@d{i % 10}.invalid>");

    private static SizeMix OneKiB() => SizeMix.TryParse("1KiB", out var mix, out _) ? mix! : throw new InvalidOperationException();
}
