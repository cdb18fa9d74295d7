using System.Text;

namespace HighPerfMta.LoadGen.Charts;

/// <summary>The tables and the charts of <c>scale.sh</c>.</summary>
internal static class ScaleReport
{
    /// <param name="name">Of the files, without an extension.</param>
    /// <param name="result">With curves.</param>
    public static IEnumerable<ReportFile> Write(string name, Result result)
    {
        yield return new ReportFile(name + ".md", Table(name, result));
        foreach (var curve in (result.Curves ?? []).Where(c => c.Points.Count > 0))
        {
            yield return new ReportFile($"{name}-{curve.Key}.svg", SvgFigure.Draw(Draw(result, curve)));
        }
    }

    private static Figure Draw(Result result, Curve curve)
    {
        List<Panel> panels =
        [
            Panel(curve, "Processor time", "CPU seconds / 1,000 messages", ("hpmta", Tone.Own, p => p.CpuSecondsPer1000), ("load pair", Tone.Ceiling, p => p.LoadCpuSecondsPer1000)),
            Panel(curve, "Rate", "delivered messages / s", ("hpmta", Tone.Own, p => p.DeliveredPerSecond)),
            Panel(curve, "Memory at its peak", "MiB, proportional set size", ("hpmta", Tone.Own, p => p.PeakPssMib)),
        ];
        if (curve.Per is { } per)
        {
            panels.Insert(1, Panel(curve, "Processor time for each", per, ("hpmta", Tone.Own, p => p.CpuSecondsPer1000 * curve.PerFactor / p.X)));
        }

        if (curve.Points.All(p => p.AllocatedKibPerMessage is not null))
        {
            panels.Add(Panel(curve, "Managed memory allocated", "KiB / message", ("hpmta", Tone.Own, p => p.AllocatedKibPerMessage!.Value)));
        }

        return new Figure(curve.Title, $"hpmta, queue durable, loopback; medians. {result.Machine}", 2, panels);
    }

    private static LinePanel Panel(Curve curve, string title, string axis, params (string Name, Tone Tone, Func<CurvePoint, double> Value)[] lines) =>
        new(title, axis, curve.Across, curve.Octets, [.. lines.Select(l => new Line(l.Name, l.Tone, [.. curve.Points.OrderBy(p => p.X).Select(p => (p.X, l.Value(p)))]))]);

    private static string Table(string name, Result result)
    {
        var text = new StringBuilder();
        var line = (FormattableString s) => text.Append(FormattableString.Invariant(s)).Append('\n');
        line($"# hpmta as its load grows");
        line($"");
        line($"Measured {result.Date} by `scale.sh`, medians. {result.Machine}. hpmta: {result.Versions?.GetValueOrDefault("hpmta") ?? "version not told"}.");
        line($"What is varied and what is held: [README](../README.md#scalesh).");
        foreach (var curve in result.Curves ?? [])
        {
            line($"");
            line($"## {curve.Title}");
            line($"");
            line($"| {curve.Across} | delivered/s | CPU s/1,000 | load s/1,000 | PSS MiB | allocated KiB/message | runs |");
            line($"|---:|---:|---:|---:|---:|---:|---:|");
            foreach (var p in curve.Points.OrderBy(p => p.X))
            {
                var allocated = p.AllocatedKibPerMessage is { } kib ? Scale.Format(kib) : "–";
                line($"| {(curve.Octets ? Scale.FormatOctets(p.X) : Scale.Format(p.X))} | {Scale.Format(p.DeliveredPerSecond)} | {Scale.Format(p.CpuSecondsPer1000)} | {Scale.Format(p.LoadCpuSecondsPer1000)} | {Scale.Format(p.PeakPssMib)} | {allocated} | {p.Runs} |");
            }

            line($"");
            line($"![{curve.Title}]({name}-{curve.Key}.svg)");
        }

        return text.ToString();
    }
}
