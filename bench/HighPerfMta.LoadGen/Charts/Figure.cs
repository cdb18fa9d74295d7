namespace HighPerfMta.LoadGen.Charts;

/// <summary>One SVG file: panels in rows under one title.</summary>
/// <param name="Title">What is shown.</param>
/// <param name="Note">Under the title in small type: the machine, what the lines or bars are.</param>
/// <param name="Columns">Panels in a row, 1 or more.</param>
/// <param name="Panels">From left to right, then down.</param>
internal sealed record Figure(string Title, string Note, int Columns, IReadOnlyList<Panel> Panels);

/// <param name="Title">Above the panel; empty for none.</param>
/// <param name="Axis">Unit of the values, written at their axis.</param>
internal abstract record Panel(string Title, string Axis);

/// <summary>Horizontal bars from zero, each with its value in figures.</summary>
internal sealed record BarPanel(string Title, string Axis, IReadOnlyList<Bar> Bars) : Panel(Title, Axis);

/// <param name="Label">Left of the bar.</param>
/// <param name="Value">Length of the bar, 0 or more; null: there is none, and <paramref name="Absence"/> is written instead.</param>
/// <param name="Tone">How it is drawn.</param>
/// <param name="Absence">Why there is no value.</param>
internal sealed record Bar(string Label, double? Value, Tone Tone, string Absence = "");

/// <summary>Lines over a logarithmic horizontal axis.</summary>
/// <param name="Title">Above the panel.</param>
/// <param name="Axis">Unit of the values.</param>
/// <param name="Across">Label of the horizontal axis.</param>
/// <param name="Octets">Ticks of the horizontal axis are powers of two, written as KiB and MiB.</param>
/// <param name="Lines">At least one, each with at least one point.</param>
internal sealed record LinePanel(string Title, string Axis, string Across, bool Octets, IReadOnlyList<Line> Lines) : Panel(Title, Axis);

/// <param name="Name">Shown in the legend.</param>
/// <param name="Tone">How it is drawn.</param>
/// <param name="Points">In the order of x, which is above 0; y is 0 or more.</param>
internal sealed record Line(string Name, Tone Tone, IReadOnlyList<(double X, double Y)> Points);

/// <summary>Roles of marks; the colours are of middle lightness, so that they stand on white and on black.</summary>
internal enum Tone
{
    /// <summary>hpmta.</summary>
    Own,

    /// <summary>Every peer.</summary>
    Peer,

    /// <summary>The load pair alone: the ceiling, not an MTA.</summary>
    Ceiling,
}
