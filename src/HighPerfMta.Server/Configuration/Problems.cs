using System.Globalization;

namespace HighPerfMta.Server.Configuration;

/// <summary>A place in a configuration file; line and column count from 1, the column in characters.</summary>
internal readonly record struct Place(string File, int Line, int Column)
{
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{File}:{Line}:{Column}");
}

/// <summary>Something wrong in a configuration: where, and in one line what is wrong and what is allowed.</summary>
internal readonly record struct Problem(Place Place, string Message)
{
    public override string ToString() => $"{Place}: {Message}";
}

/// <summary>Collects every problem of a configuration, so that one run shows them all.</summary>
internal sealed class ProblemList
{
    private readonly List<Problem> _problems = [];

    public int Count => _problems.Count;

    /// <summary>The problems by place.</summary>
    public IReadOnlyList<Problem> Sorted =>
        [.. _problems.Distinct().OrderBy(static p => p.Place.File, StringComparer.Ordinal).ThenBy(static p => p.Place.Line).ThenBy(static p => p.Place.Column)];

    public void Add(Place place, string message) => _problems.Add(new Problem(place, Text.OneLine(message)));

    public void Add(Place place, string key, string message) => Add(place, $"{key}: {message}");
}
