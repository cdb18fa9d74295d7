using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;
using HighPerfMta.LoadGen.Charts;
using HighPerfMta.LoadGen.Commands;

namespace HighPerfMta.Tests.LoadGen;

/// <summary>What <c>hpload chart</c> makes of a result.</summary>
public class ChartTests
{
    private const string Compare = """
        {
          "kind": "compare", "date": "2026-01-02T03:04:05Z", "machine": "2 processors <x> & y", "sessions": 20,
          "versions": {"hpmta": "1.0", "postfix": "3.7.11"}, "missing": {"haraka": "no npm"},
          "failed": [{"mta": "opensmtpd", "source": "smtp-source", "connections": "reused", "octets": 1024}],
          "medians": [
            {"source": "smtp-source", "connections": "reused", "octets": 1024, "mta": "direct", "runs": 3, "accepted_per_second": 8000, "delivered_per_second": 8000, "cpu_seconds_per_1000": null, "load_cpu_seconds_per_1000": 0.15, "peak_pss_mib": null, "flushes_per_message": null},
            {"source": "smtp-source", "connections": "reused", "octets": 1024, "mta": "hpmta", "runs": 3, "accepted_per_second": 6000, "delivered_per_second": 4000, "cpu_seconds_per_1000": 0.125, "load_cpu_seconds_per_1000": 0.2, "peak_pss_mib": 90, "flushes_per_message": 0.02},
            {"source": "smtp-source", "connections": "reused", "octets": 1024, "mta": "postfix", "runs": 3, "accepted_per_second": 300, "delivered_per_second": 250, "cpu_seconds_per_1000": 4.5, "load_cpu_seconds_per_1000": 0.3, "peak_pss_mib": 120, "flushes_per_message": 0.95},
            {"source": "smtp-source", "connections": "single", "octets": 102400, "mta": "hpmta", "runs": 3, "accepted_per_second": 900, "delivered_per_second": 800, "cpu_seconds_per_1000": 0.5, "load_cpu_seconds_per_1000": 0.9, "peak_pss_mib": 95, "flushes_per_message": 0.1}
          ]
        }
        """;

    private const string Growth = """
        {
          "kind": "scale", "date": "2026-01-02T03:04:05Z", "machine": "2 processors", "versions": {"hpmta": "1.0"},
          "curves": [
            {"key": "size", "title": "Size of a message", "across": "size", "octets": true, "per": "CPU seconds / GiB", "per_factor": 1073741.824, "points": [
              {"x": 1024, "runs": 3, "delivered_per_second": 5000, "cpu_seconds_per_1000": 0.1, "load_cpu_seconds_per_1000": 0.2, "peak_pss_mib": 90, "allocated_kib_per_message": null},
              {"x": 1048576, "runs": 3, "delivered_per_second": 200, "cpu_seconds_per_1000": 4, "load_cpu_seconds_per_1000": 5, "peak_pss_mib": 110, "allocated_kib_per_message": 600}]},
            {"key": "sessions", "title": "Sessions", "across": "sessions", "points": [
              {"x": 1, "runs": 3, "delivered_per_second": 700, "cpu_seconds_per_1000": 0.9, "load_cpu_seconds_per_1000": 0.2, "peak_pss_mib": 80, "allocated_kib_per_message": 2},
              {"x": 5000, "runs": 3, "delivered_per_second": 3000, "cpu_seconds_per_1000": 0.3, "load_cpu_seconds_per_1000": 0.2, "peak_pss_mib": 240, "allocated_kib_per_message": 3}]}
          ]
        }
        """;

    private static readonly XNamespace Svg = "http://www.w3.org/2000/svg";

    [Fact]
    public void A_comparison_becomes_a_table_and_a_chart_of_each_measure()
    {
        var files = ChartCommand.Read(Compare, "compare");

        Assert.Equal(
            ["compare.md", "compare-smtp-source-rate.svg", "compare-smtp-source-cpu.svg", "compare-smtp-source-memory.svg", "compare-smtp-source-flushes.svg"],
            files.Select(f => f.Name));
        var table = files[0].Text;
        Assert.Contains("| hpmta | 6,000 | 4,000 | 0.125 | 0.2 | 90 | 0.02 | 3 |", table, StringComparison.Ordinal);
        Assert.Contains("| direct | 8,000 | 8,000 | – | 0.15 | – | – | 3 |", table, StringComparison.Ordinal);
        Assert.Contains("| OpenSMTPD | failed | failed |", table, StringComparison.Ordinal);
        Assert.Contains("- Haraka was not measured: no npm", table, StringComparison.Ordinal);
        Assert.Contains("- Postfix: 3.7.11", table, StringComparison.Ordinal);
        Assert.All(files.Skip(1), f => Assert.Contains($"]({f.Name})", table, StringComparison.Ordinal));
    }

    [Fact]
    public void Bars_have_the_lengths_of_their_values_and_stay_inside_with_their_labels()
    {
        var svg = Parse(ChartCommand.Read(Compare, "compare").Single(f => f.Name == "compare-smtp-source-rate.svg"));

        var first = svg.Elements(Svg + "g").First();
        var lengths = first.Elements(Svg + "rect").Select(r => Number(r, "width")).ToArray();
        Assert.Equal([1, 0.5, 0.031], lengths.Select(l => Math.Round(l / lengths[0], 3)));
        var texts = first.Elements(Svg + "text").Select(t => t.Value).ToArray();
        Assert.Superset(new HashSet<string> { "hpmta", "Postfix", "direct", "OpenSMTPD", "8,000", "4,000", "250", "failed", "delivered messages / s", "1 KiB, reused connections" }, texts.ToHashSet());
        Assert.Contains(svg.Elements(Svg + "text"), t => t.Value.Contains("2 processors <x> & y", StringComparison.Ordinal));
    }

    [Fact]
    public void The_load_pair_has_no_bar_where_only_an_MTA_has_a_figure()
    {
        var svg = Parse(ChartCommand.Read(Compare, "compare").Single(f => f.Name == "compare-smtp-source-cpu.svg"));

        Assert.DoesNotContain(svg.Descendants(Svg + "text"), t => t.Value == "direct");
        Assert.Contains(svg.Descendants(Svg + "text"), t => t.Value == "0.125");
    }

    [Fact]
    public void Curves_become_charts_whose_points_are_where_their_values_say()
    {
        var files = ChartCommand.Read(Growth, "scale");

        Assert.Equal(["scale.md", "scale-size.svg", "scale-sessions.svg"], files.Select(f => f.Name));
        Assert.Contains("| 1 MiB | 200 | 4 | 5 | 110 | 600 | 3 |", files[0].Text, StringComparison.Ordinal);
        Assert.Contains("| 1 KiB | 5,000 | 0.1 | 0.2 | 90 | – | 3 |", files[0].Text, StringComparison.Ordinal);
        var sessions = Parse(files[2]).Elements(Svg + "g").ToArray();
        Assert.Equal(4, sessions.Length);
        var rate = Points(sessions[1].Elements(Svg + "polyline").Single());
        Assert.True(rate[0].X < rate[1].X, "more sessions are further right");
        Assert.True(rate[0].Y > rate[1].Y, "a higher rate is further up");
        Assert.Equal(2, sessions[0].Elements(Svg + "polyline").Count());
        Assert.Equal(["hpmta", "load pair"], sessions[0].Elements(Svg + "text").Select(t => t.Value).Where(t => t is "hpmta" or "load pair"));
    }

    [Fact]
    public void Time_for_each_octet_is_told_for_GiB_and_memory_that_was_not_told_has_no_panel()
    {
        var size = Parse(ChartCommand.Read(Growth, "scale")[1]).Elements(Svg + "g").ToArray();

        Assert.Equal(4, size.Length);
        Assert.Contains(size[1].Elements(Svg + "text"), t => t.Value.StartsWith("CPU seconds / GiB", StringComparison.Ordinal));

        // 4 s for 1,000 messages of 1 MiB are 4.096 s for a GiB; 0.1 s for 1,000 of 1 KiB are 104.9 s.
        var points = Points(size[1].Elements(Svg + "polyline").Single());
        var zero = size[1].Elements(Svg + "line").Where(l => l.Attribute("stroke-opacity") is null).Max(l => Number(l, "y1"));
        Assert.Equal(4.096 / 104.8576, (zero - points[1].Y) / (zero - points[0].Y), 2);
    }

    [Fact]
    public void A_chart_stands_alone_without_background_script_or_link()
    {
        foreach (var file in ChartCommand.Read(Compare, "a").Concat(ChartCommand.Read(Growth, "b")).Where(f => f.Name.EndsWith(".svg", StringComparison.Ordinal)))
        {
            var svg = Parse(file);
            Assert.All(svg.Descendants(), e => Assert.Contains(e.Name.LocalName, (string[])["title", "text", "g", "rect", "line", "polyline", "circle"]));
            var (width, height) = (Number(svg, "width"), Number(svg, "height"));
            Assert.True(width > 0 && height > 0);
            Assert.DoesNotContain(svg.Descendants(Svg + "rect"), r => Number(r, "width") >= width);
        }
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("not JSON")]
    [InlineData("""{"kind": "compare", "date": "", "machine": ""}""")]
    [InlineData("""{"kind": "backlog", "date": "", "machine": "", "medians": []}""")]
    public void What_is_no_result_is_refused(string json) => Assert.ThrowsAny<JsonException>(() => ChartCommand.Read(json, "x"));

    [Theory]
    [InlineData(0, 4, new double[] { 0, 0.25, 0.5, 0.75, 1 })]
    [InlineData(8000, 4, new double[] { 0, 2000, 4000, 6000, 8000 })]
    [InlineData(8001, 4, new double[] { 0, 2500, 5000, 7500, 10000 })]
    [InlineData(0.37, 4, new double[] { 0, 0.1, 0.2, 0.3, 0.4 })]
    public void A_linear_axis_begins_at_zero_and_ends_at_or_above_the_largest(double largest, int wanted, double[] ticks)
    {
        var scale = Scale.FromZero(largest, wanted);

        Assert.Equal(ticks, scale.Ticks.Select(t => Math.Round(t, 9)));
        Assert.Equal(0, scale.Position(0));
        Assert.Equal(1, scale.Position(scale.Ticks[^1]), 9);
        Assert.InRange(scale.Position(largest), 0, 1);
    }

    [Fact]
    public void Values_that_span_much_are_on_a_logarithmic_axis_of_powers_of_ten()
    {
        var scale = Scale.For([0.2, 95], 4);

        Assert.True(scale.Logarithmic);
        Assert.Equal([0.1, 1, 10, 100], scale.Ticks.Select(t => Math.Round(t, 9)));
        Assert.Equal(2 / 3.0, scale.Position(10), 9);
        Assert.False(Scale.For([1, 50], 4).Logarithmic);
        Assert.False(Scale.For([0, 500], 4).Logarithmic);
        Assert.Equal(0, Scale.For([], 4).Position(0));
    }

    [Fact]
    public void A_logarithmic_axis_has_at_most_eight_ticks_and_room_for_one_value()
    {
        Assert.InRange(Scale.Powers(1, 1e12, 10).Ticks.Count, 2, 8);
        Assert.Equal([1, 10], Scale.Powers(1, 1, 10).Ticks);
        Assert.Equal([1024, 4096, 16384], Scale.Powers(1024, 16384, 4).Ticks);
    }

    [Theory]
    [InlineData(0, "0")]
    [InlineData(0.0123, "0.0123")]
    [InlineData(0.125, "0.125")]
    [InlineData(4.567, "4.57")]
    [InlineData(42.35, "42.4")]
    [InlineData(1234.4, "1,234")]
    [InlineData(2_500_000, "2.5M")]
    public void Values_are_written_short(double value, string text) => Assert.Equal(text, Scale.Format(value));

    [Theory]
    [InlineData(512, "512 B")]
    [InlineData(1024, "1 KiB")]
    [InlineData(52_428_800, "50 MiB")]
    public void Sizes_are_written_in_binary_units(double octets, string text) => Assert.Equal(text, Scale.FormatOctets(octets));

    [Fact]
    public void A_long_note_is_wrapped_between_words()
    {
        Assert.Equal(["one two", "three", "fourteen-and-more", "x"], SvgFigure.Wrap("one two three fourteen-and-more x", 8));
        Assert.Empty(SvgFigure.Wrap("", 8));
    }

    private static XElement Parse(ReportFile file) => XElement.Parse(file.Text);

    private static double Number(XElement element, string name) => double.Parse(element.Attribute(name)!.Value, CultureInfo.InvariantCulture);

    private static (double X, double Y)[] Points(XElement polyline) =>
        [.. polyline.Attribute("points")!.Value.Split(' ').Select(p => p.Split(',')).Select(p => (double.Parse(p[0], CultureInfo.InvariantCulture), double.Parse(p[1], CultureInfo.InvariantCulture)))];
}
