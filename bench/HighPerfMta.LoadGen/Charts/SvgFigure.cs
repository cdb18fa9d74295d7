using System.Globalization;
using System.Xml.Linq;

namespace HighPerfMta.LoadGen.Charts;

/// <summary>
/// Draws a figure as SVG without a background, in colours that can be read on white and on black, and with no script, font file or link:
/// it looks the same in a browser, in a page of Markdown and on paper.
/// </summary>
internal static class SvgFigure
{
    private const double PanelWidth = 440;
    private const double Gap = 28;
    private const double Margin = 20;
    private const double TitleHeight = 48;
    private const double NoteHeight = 14;
    private const double NoteLetter = 5.8;
    private const double BarHeight = 17;
    private const double BarPitch = 25;
    private const double BarLabels = 88;
    private const double BarValues = 74;
    private const double PanelTitle = 24;
    private const double AxisHeight = 40;
    private const double LineHeight = 210;
    private const double LineLabels = 62;
    private const double LegendHeight = 22;

    private const string Ink = "#737a83";
    private const string Grid = "#8b929b";

    private static readonly XNamespace Svg = "http://www.w3.org/2000/svg";

    public static string Draw(Figure figure)
    {
        var columns = Math.Min(figure.Columns, figure.Panels.Count);
        var rows = figure.Panels.Chunk(columns).ToArray();
        var width = (2 * Margin) + (columns * PanelWidth) + ((columns - 1) * Gap);
        var notes = Wrap(figure.Note, (int)((width - (2 * Margin)) / NoteLetter)).ToArray();
        var root = new XElement(
            Svg + "svg",
            new XAttribute("role", "img"),
            new XAttribute("font-family", "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"),
            new XAttribute("font-size", 12),
            new XAttribute("fill", Ink),
            new XElement(Svg + "title", figure.Title),
            Text(Margin, 28, figure.Title, "start", 17, bold: true),
            notes.Select((note, i) => Text(Margin, TitleHeight + (i * NoteHeight), note, "start", 11)));
        var top = TitleHeight + (notes.Length * NoteHeight);
        foreach (var row in rows)
        {
            for (var i = 0; i < row.Length; i++)
            {
                root.Add(Place(Margin + (i * (PanelWidth + Gap)), top, row[i] is BarPanel bars ? DrawBars(bars) : DrawLines((LinePanel)row[i])));
            }

            top += row.Max(Height) + Gap;
        }

        root.Add(Number("width", width), Number("height", top), new XAttribute("viewBox", Invariant($"0 0 {width} {top}")));
        return root + "\n";
    }

    private static double Height(Panel panel) => panel is BarPanel bars
        ? PanelTitle + (bars.Bars.Count * BarPitch) + AxisHeight
        : PanelTitle + LegendHeight + LineHeight + AxisHeight;

    private static IEnumerable<XElement> DrawBars(BarPanel panel)
    {
        var scale = Scale.FromZero(panel.Bars.Max(b => b.Value ?? 0), 4);
        var span = PanelWidth - BarLabels - BarValues;
        var bottom = PanelTitle + (panel.Bars.Count * BarPitch);
        yield return Text(0, 12, panel.Title, "start", 13, bold: true);
        foreach (var tick in scale.Ticks)
        {
            var x = BarLabels + (scale.Position(tick) * span);
            yield return Rule(x, PanelTitle - 4, x, bottom, tick == 0);
            yield return Text(x, bottom + 15, Scale.Format(tick), "middle", 11);
        }

        yield return Text(BarLabels + (span / 2), bottom + 32, panel.Axis, "middle", 11);
        for (var i = 0; i < panel.Bars.Count; i++)
        {
            var bar = panel.Bars[i];
            var y = PanelTitle + (i * BarPitch);
            var length = scale.Position(bar.Value ?? 0) * span;
            yield return Text(BarLabels - 8, y + 13, bar.Label, "end", 12, bold: bar.Tone == Tone.Own);
            if (bar.Value is not null)
            {
                yield return BarOf(y, Math.Max(length, 1), bar.Tone);
            }

            yield return Text(BarLabels + length + 6, y + 13, bar.Value is { } value ? Scale.Format(value) : bar.Absence, "start", 12, bold: bar.Tone == Tone.Own);
        }
    }

    private static XElement BarOf(double y, double length, Tone tone) => new(
        Svg + "rect",
        Number("x", BarLabels),
        Number("y", y),
        Number("width", length),
        Number("height", BarHeight),
        new XAttribute("fill", tone == Tone.Ceiling ? "none" : Colour(tone)),
        new XAttribute("stroke", Colour(tone)),
        tone == Tone.Ceiling ? new XAttribute("stroke-dasharray", "4 3") : null);

    private static IEnumerable<XElement> DrawLines(LinePanel panel)
    {
        var points = panel.Lines.SelectMany(l => l.Points).ToArray();
        var across = Scale.Powers(points.Min(p => p.X), points.Max(p => p.X), panel.Octets ? 4 : 10);
        var up = Scale.For([.. points.Select(p => p.Y)], 4);
        var span = PanelWidth - LineLabels - 12;
        var top = PanelTitle + LegendHeight;
        var bottom = top + LineHeight;
        yield return Text(0, 12, panel.Title, "start", 13, bold: true);
        yield return Text(0, 31, panel.Axis + (up.Logarithmic ? ", log scale" : ""), "start", 11);
        foreach (var tick in up.Ticks)
        {
            var y = bottom - (up.Position(tick) * LineHeight);
            yield return Rule(LineLabels, y, LineLabels + span, y, y == bottom);
            yield return Text(LineLabels - 7, y + 4, Scale.Format(tick), "end", 11);
        }

        foreach (var tick in across.Ticks)
        {
            var x = LineLabels + (across.Position(tick) * span);
            yield return Rule(x, bottom, x, bottom + 4, strong: true);
            yield return Text(x, bottom + 16, panel.Octets ? Scale.FormatOctets(tick) : Scale.Format(tick), "middle", 11);
        }

        yield return Text(LineLabels + (span / 2), bottom + 33, panel.Across, "middle", 11);
        foreach (var (line, index) in panel.Lines.Select((l, i) => (l, i)))
        {
            var path = line.Points.Select(p => (X: LineLabels + (across.Position(p.X) * span), Y: bottom - (up.Position(p.Y) * LineHeight))).ToArray();
            foreach (var mark in LineOf(path, line.Tone).Concat(panel.Lines.Count > 1 ? Legend(line, panel.Lines.Count - index) : []))
            {
                yield return mark;
            }
        }
    }

    private static IEnumerable<XElement> LineOf((double X, double Y)[] path, Tone tone)
    {
        yield return new XElement(
            Svg + "polyline",
            new XAttribute("points", string.Join(' ', path.Select(p => Invariant($"{p.X:0.#},{p.Y:0.#}")))),
            new XAttribute("fill", "none"),
            new XAttribute("stroke", Colour(tone)),
            new XAttribute("stroke-width", 2),
            tone == Tone.Ceiling ? new XAttribute("stroke-dasharray", "5 4") : null);
        foreach (var (x, y) in path)
        {
            yield return new XElement(Svg + "circle", Number("cx", x), Number("cy", y), Number("r", 3), new XAttribute("fill", Colour(tone)));
        }
    }

    /// <summary>At the right above the panel; the last line's entry is rightmost.</summary>
    private static IEnumerable<XElement> Legend(Line line, int fromRight)
    {
        var x = PanelWidth - (fromRight * 96);
        yield return new XElement(
            Svg + "line",
            Number("x1", x),
            Number("y1", 27),
            Number("x2", x + 20),
            Number("y2", 27),
            new XAttribute("stroke", Colour(line.Tone)),
            new XAttribute("stroke-width", 2),
            line.Tone == Tone.Ceiling ? new XAttribute("stroke-dasharray", "5 4") : null);
        yield return Text(x + 26, 31, line.Name, "start", 11);
    }

    /// <summary>Whole words in lines of at most so many letters; a longer word has a line of its own.</summary>
    internal static IEnumerable<string> Wrap(string text, int letters)
    {
        var line = "";
        foreach (var word in text.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.Length > 0 && line.Length + 1 + word.Length > letters)
            {
                yield return line;
                line = "";
            }

            line += line.Length == 0 ? word : " " + word;
        }

        if (line.Length > 0)
        {
            yield return line;
        }
    }

    private static string Colour(Tone tone) => tone switch { Tone.Own => "#2f81d6", Tone.Ceiling => "#d07b21", _ => "#8b929b" };

    private static XElement Place(double x, double y, IEnumerable<XElement> marks) =>
        new(Svg + "g", new XAttribute("transform", Invariant($"translate({x:0.#} {y:0.#})")), marks);

    private static XElement Rule(double x1, double y1, double x2, double y2, bool strong) => new(
        Svg + "line",
        Number("x1", x1),
        Number("y1", y1),
        Number("x2", x2),
        Number("y2", y2),
        new XAttribute("stroke", Grid),
        strong ? null : new XAttribute("stroke-opacity", "0.3"));

    private static XElement Text(double x, double y, string text, string anchor, int size, bool bold = false) => new(
        Svg + "text",
        Number("x", x),
        Number("y", y),
        new XAttribute("text-anchor", anchor),
        new XAttribute("font-size", size),
        bold ? new XAttribute("font-weight", 600) : null,
        text);

    private static XAttribute Number(string name, double value) => new(name, value.ToString("0.#", CultureInfo.InvariantCulture));

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
