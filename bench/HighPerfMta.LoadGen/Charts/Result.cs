using System.Text.Json.Serialization;

namespace HighPerfMta.LoadGen.Charts;

/// <summary>What <c>compare.sh</c> and <c>scale.sh</c> write; which of the two <see cref="Kind"/> says.</summary>
/// <param name="Kind"><c>compare</c> or <c>scale</c>.</param>
/// <param name="Date">When it was measured, UTC.</param>
/// <param name="Machine">Processors, memory, kernel.</param>
internal sealed record Result(
    string Kind,
    string Date,
    string Machine,
    int Sessions = 0,
    IReadOnlyDictionary<string, string>? Versions = null,
    IReadOnlyDictionary<string, string>? Missing = null,
    IReadOnlyList<Cell>? Medians = null,
    IReadOnlyList<Cell>? Failed = null,
    IReadOnlyList<Curve>? Curves = null);

/// <summary>Medians of one MTA under one load. Null where there is no such figure, as the processor time of no MTA.</summary>
/// <param name="Source">Tool of the load pair.</param>
/// <param name="Connections"><c>reused</c>, or <c>single</c>: one for each message.</param>
/// <param name="Octets">Size of a message.</param>
internal sealed record Cell(
    string Source,
    string Connections,
    long Octets,
    string Mta,
    int Runs = 0,
    double? AcceptedPerSecond = null,
    double? DeliveredPerSecond = null,
    [property: JsonPropertyName("cpu_seconds_per_1000")] double? CpuSecondsPer1000 = null,
    [property: JsonPropertyName("load_cpu_seconds_per_1000")] double? LoadCpuSecondsPer1000 = null,
    double? PeakPssMib = null,
    double? FlushesPerMessage = null);

/// <summary>hpmta as one thing grows.</summary>
/// <param name="Key">Part of the file's name.</param>
/// <param name="Title">What is shown.</param>
/// <param name="Across">Label of the horizontal axis.</param>
/// <param name="Octets">The horizontal axis is a size.</param>
/// <param name="Per">Label of a further panel: processor time for each of what grows, times <paramref name="PerFactor"/>; null: none.</param>
/// <param name="PerFactor">1 where a message has x of it; for octets what makes them a unit one can picture.</param>
internal sealed record Curve(
    string Key,
    string Title,
    string Across,
    IReadOnlyList<CurvePoint> Points,
    bool Octets = false,
    string? Per = null,
    double PerFactor = 1);

/// <summary>Medians at one place of a curve.</summary>
internal sealed record CurvePoint(
    double X,
    int Runs,
    double DeliveredPerSecond,
    [property: JsonPropertyName("cpu_seconds_per_1000")] double CpuSecondsPer1000,
    [property: JsonPropertyName("load_cpu_seconds_per_1000")] double LoadCpuSecondsPer1000,
    double PeakPssMib,
    double? AllocatedKibPerMessage = null);

/// <summary>A file to write: its name without a folder, and its text.</summary>
internal sealed record ReportFile(string Name, string Text);
