using System.Diagnostics.Metrics;
using HighPerfMta.Server.Web;

namespace HighPerfMta.Tests.Server;

public sealed class MetricsCollectorTests : IAsyncDisposable
{
    private readonly MetricsCollector _collector = new();
    private readonly Meter _meter;

    public MetricsCollectorTests() => _meter = _collector.Create(new MeterOptions("test"));

    public ValueTask DisposeAsync()
    {
        _meter.Dispose();
        return _collector.DisposeAsync();
    }

    [Fact]
    public void Counters_add_up_gauges_replace_and_observables_are_asked()
    {
        Counter<long> counter = _meter.CreateCounter<long>("hpmta_test_things_total", description: "Things\nand\\more");
        UpDownCounter<int> level = _meter.CreateUpDownCounter<int>("hpmta_test_level");
        Gauge<double> gauge = _meter.CreateGauge<double>("hpmta_test_gauge_seconds");
        int asked = 0;
        _meter.CreateObservableGauge("hpmta_test_asked", () => ++asked);
        counter.Add(2);
        counter.Add(3);
        level.Add(5);
        level.Add(-2);
        gauge.Record(1.5);
        gauge.Record(0.25);
        string text = _collector.Render();
        Assert.Contains("# HELP hpmta_test_things_total Things\\nand\\\\more\n# TYPE hpmta_test_things_total counter\nhpmta_test_things_total 5\n", text, StringComparison.Ordinal);
        Assert.Contains("# TYPE hpmta_test_level gauge\nhpmta_test_level 3\n", text, StringComparison.Ordinal);
        Assert.Contains("\nhpmta_test_gauge_seconds 0.25\n", text, StringComparison.Ordinal);
        Assert.Contains("\nhpmta_test_asked 1\n", text, StringComparison.Ordinal);
        Assert.Contains("\nhpmta_test_asked 2\n", _collector.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_histogram_has_the_bounds_that_its_instrument_advises()
    {
        Histogram<double> advised = _meter.CreateHistogram("hpmta_test_short_seconds", advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.0001, 0.5] });
        Histogram<double> usual = _meter.CreateHistogram<double>("hpmta_test_long_seconds");
        foreach (double value in (double[])[0.0001, 0.2, 0.25, 3])
        {
            advised.Record(value);
            usual.Record(value);
        }

        string text = _collector.Render();
        Assert.Contains(
            "# TYPE hpmta_test_short_seconds histogram\nhpmta_test_short_seconds_bucket{le=\"0.0001\"} 1\nhpmta_test_short_seconds_bucket{le=\"0.5\"} 3\n"
            + "hpmta_test_short_seconds_bucket{le=\"+Inf\"} 4\nhpmta_test_short_seconds_sum 3.4501\nhpmta_test_short_seconds_count 4\n", text, StringComparison.Ordinal);
        Assert.Contains("hpmta_test_long_seconds_bucket{le=\"0.25\"} 3\n", text, StringComparison.Ordinal);
        Assert.Contains("hpmta_test_long_seconds_bucket{le=\"3600\"} 4\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_meter_of_another_server_in_the_process_is_not_asked()
    {
        await using MetricsCollector other = new();
        using Meter foreign = other.Create(new MeterOptions("test"));
        using Meter nobodys = new("test");
        foreign.CreateObservableGauge("hpmta_test_closed", (Func<int>)Closed);
        nobodys.CreateObservableGauge("hpmta_test_closed", (Func<int>)Closed);
        Assert.DoesNotContain("hpmta_test_closed", _collector.Render(), StringComparison.Ordinal);

        static int Closed() => throw new ObjectDisposedException("queue");
    }

    [Fact]
    public void Labels_are_escaped_and_series_are_bounded()
    {
        Counter<long> counter = _meter.CreateCounter<long>("hpmta_test_labels_total");
        counter.Add(1, new KeyValuePair<string, object?>("site", "a\"b\\c\nd"), new KeyValuePair<string, object?>("code", 250));
        Assert.Contains("hpmta_test_labels_total{site=\"a\\\"b\\\\c\\nd\",code=\"250\"} 1\n", _collector.Render(), StringComparison.Ordinal);
        for (int i = 0; i < MetricsCollector.MaxSeries + 10; i++)
        {
            counter.Add(1, new KeyValuePair<string, object?>("n", i));
        }

        Assert.Equal(MetricsCollector.MaxSeries, _collector.Render().Split('\n').Count(static l => l.StartsWith("hpmta_test_labels_total{", StringComparison.Ordinal)));
    }

    [Fact]
    public void Histograms_have_rising_buckets_sum_and_count()
    {
        Histogram<double> histogram = _meter.CreateHistogram<double>("hpmta_test_wait_seconds");
        foreach (double value in (double[])[0.001, 0.02, 0.3, 5000])
        {
            histogram.Record(value);
        }

        string text = _collector.Render();
        Assert.Contains("hpmta_test_wait_seconds_bucket{le=\"0.001\"} 1\n", text, StringComparison.Ordinal);
        Assert.Contains("hpmta_test_wait_seconds_bucket{le=\"0.5\"} 3\n", text, StringComparison.Ordinal);
        Assert.Contains("hpmta_test_wait_seconds_bucket{le=\"+Inf\"} 4\nhpmta_test_wait_seconds_sum 5000.321\nhpmta_test_wait_seconds_count 4\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Concurrent_additions_are_all_counted()
    {
        Counter<long> counter = _meter.CreateCounter<long>("hpmta_test_race_total");
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() =>
        {
            for (int i = 0; i < 10_000; i++)
            {
                counter.Add(1);
            }
        })));
        Assert.Contains("\nhpmta_test_race_total 40000\n", _collector.Render(), StringComparison.Ordinal);
    }

    [Fact]
    public void Instruments_of_others_are_not_collected()
    {
        _meter.CreateCounter<long>("http.requests").Add(1);
        Assert.DoesNotContain("http", _collector.Render(), StringComparison.Ordinal);
    }
}
