using System.Globalization;

namespace HighPerfMta.Engine.Observability;

/// <summary>The files of the event log: named by the time they were begun, so that the order of names is the order of events.</summary>
internal static class EventLogFiles
{
    private const string Suffix = ".jsonl";

    public static string NameFor(DateTimeOffset begun) =>
        begun.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'.'fffffff'Z'", CultureInfo.InvariantCulture) + Suffix;

    /// <summary>Oldest first; empty when there is no folder.</summary>
    public static IReadOnlyList<string> List(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return [];
        }

        string[] files = [.. Directory.EnumerateFiles(folder, "*" + Suffix)];
        Array.Sort(files, StringComparer.Ordinal);
        return files;
    }
}
