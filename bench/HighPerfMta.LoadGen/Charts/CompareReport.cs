using System.Globalization;
using System.Text;

namespace HighPerfMta.LoadGen.Charts;

/// <summary>The table and the charts of <c>compare.sh</c>.</summary>
internal static class CompareReport
{
    private static readonly (string Key, string Title, string Axis, Func<Cell, double?> Value)[] Measures =
    [
        ("rate", "Messages relayed a second", "delivered messages / s", c => c.DeliveredPerSecond),
        ("cpu", "Processor time of the MTA", "CPU seconds / 1,000 messages", c => c.CpuSecondsPer1000),
        ("memory", "Memory of the MTA at its peak", "MiB, proportional set size", c => c.PeakPssMib),
        ("flushes", "Flushes of the disk", "flush requests / message", c => c.FlushesPerMessage),
    ];

    /// <param name="name">Of the files, without an extension.</param>
    /// <param name="result">With medians.</param>
    public static IEnumerable<ReportFile> Write(string name, Result result)
    {
        yield return new ReportFile(name + ".md", Table(name, result));
        foreach (var source in Cells(result).Select(c => c.Source).Distinct())
        {
            foreach (var measure in Measures)
            {
                if (Draw(result, source, measure.Title, measure.Axis, measure.Value) is { } figure)
                {
                    yield return new ReportFile($"{name}-{source}-{measure.Key}.svg", SvgFigure.Draw(figure));
                }
            }
        }
    }

    private static Figure? Draw(Result result, string source, string title, string axis, Func<Cell, double?> value)
    {
        var panels = Cells(result).Where(c => c.Source == source).GroupBy(c => (c.Connections, c.Octets))
            .OrderBy(g => g.Key.Connections, StringComparer.Ordinal).ThenBy(g => g.Key.Octets)
            .Select(group => new BarPanel(
                $"{Scale.FormatOctets(group.Key.Octets)}, {Connections(group.Key.Connections)}",
                axis,
                [.. group.Where(c => value(c) is not null || (c.Runs == 0 && c.Mta != "direct")).Select(c => new Bar(Label(c.Mta), value(c), ToneOf(c.Mta), "failed"))]))
            .Where(p => p.Bars.Count > 0).ToArray();
        var columns = panels.Length % 3 == 0 ? 3 : Math.Min(2, panels.Length);
        return panels.Length == 0 ? null : new Figure(title, $"{source}, {result.Sessions} sessions; medians. {result.Machine}", columns, panels);
    }

    private static string Table(string name, Result result)
    {
        var text = new StringBuilder();
        var line = (FormattableString s) => text.Append(FormattableString.Invariant(s)).Append('\n');
        line($"# hpmta and its peers");
        line($"");
        line($"Measured {result.Date} by `compare.sh`, {result.Sessions} sessions, medians. {result.Machine}.");
        line($"What the columns are, and how each MTA is set up: [README](../README.md#comparesh). `direct` is the source straight into the sink, the ceiling of the load pair.");
        line($"");
        foreach (var (mta, version) in result.Versions ?? new Dictionary<string, string>())
        {
            line($"- {Label(mta)}: {version}");
        }

        foreach (var (mta, reason) in result.Missing ?? new Dictionary<string, string>())
        {
            line($"- {Label(mta)} was not measured: {reason}");
        }

        foreach (var table in Cells(result).GroupBy(c => (c.Source, c.Connections, c.Octets)))
        {
            line($"");
            line($"## {Scale.FormatOctets(table.Key.Octets)}, {Connections(table.Key.Connections)}, {table.Key.Source}");
            line($"");
            line($"| MTA | accepted/s | delivered/s | CPU s/1,000 | load s/1,000 | PSS MiB | flushes/message | runs |");
            line($"|---|---:|---:|---:|---:|---:|---:|---:|");
            foreach (var c in table)
            {
                line($"| {Label(c.Mta)} | {Show(c.AcceptedPerSecond, c)} | {Show(c.DeliveredPerSecond, c)} | {Show(c.CpuSecondsPer1000, c)} | {Show(c.LoadCpuSecondsPer1000, c)} | {Show(c.PeakPssMib, c)} | {Show(c.FlushesPerMessage, c)} | {c.Runs} |");
            }
        }

        line($"");
        foreach (var source in Cells(result).Select(c => c.Source).Distinct())
        {
            foreach (var measure in Measures.Where(m => Cells(result).Any(c => c.Source == source && m.Value(c) is not null)))
            {
                line($"![{measure.Title}, {source}]({name}-{source}-{measure.Key}.svg)");
            }
        }

        return text.ToString();
    }

    /// <summary>In the order of the run, what failed beside what did not, each MTA in the same place of every cell.</summary>
    private static IEnumerable<Cell> Cells(Result result)
    {
        var all = (result.Medians ?? []).Concat(result.Failed ?? []).ToArray();
        var mtas = all.Select(c => c.Mta).Distinct().ToList();
        return all.GroupBy(c => (c.Source, c.Connections, c.Octets)).SelectMany(g => g.DistinctBy(c => c.Mta).OrderBy(c => mtas.IndexOf(c.Mta)));
    }

    private static string Show(double? value, Cell cell) =>
        value is { } number ? Scale.Format(number) : cell.Runs == 0 ? "failed" : "–";

    private static string Connections(string mode) => mode == "reused" ? "reused connections" : "a connection per message";

    private static Tone ToneOf(string mta) => mta switch { "hpmta" => Tone.Own, "direct" => Tone.Ceiling, _ => Tone.Peer };

    private static string Label(string mta) => mta switch
    {
        "opensmtpd" => "OpenSMTPD",
        "hpmta" or "direct" or "sendmail" => mta,
        _ => char.ToUpper(mta[0], CultureInfo.InvariantCulture) + mta[1..],
    };
}
