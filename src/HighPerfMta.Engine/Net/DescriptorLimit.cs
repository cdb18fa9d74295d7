using System.Globalization;

namespace HighPerfMta.Engine.Net;

/// <summary>
/// The process's limit of open files. Running out of descriptors can abort the runtime itself, so connections are capped below it.
/// </summary>
public static class DescriptorLimit
{
    /// <summary>Descriptors kept for files, DNS, deliveries already open and the runtime.</summary>
    public const int Reserve = 1000;

    /// <summary>The soft limit; <see cref="int.MaxValue"/> where it cannot be read or there is none.</summary>
    public static int Current()
    {
        try
        {
            return Parse(File.ReadLines("/proc/self/limits"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return int.MaxValue;
        }
    }

    /// <summary>Connections that fit below a limit: the limit less <see cref="Reserve"/>, and at least a quarter of a very small limit.</summary>
    public static int ConnectionsBelow(int descriptors) =>
        descriptors == int.MaxValue ? int.MaxValue : Math.Max(descriptors - Reserve, Math.Max(descriptors / 4, 1));

    internal static int Parse(IEnumerable<string> lines)
    {
        const string name = "Max open files";
        foreach (string line in lines)
        {
            if (line.StartsWith(name, StringComparison.Ordinal))
            {
                string soft = line[name.Length..].TrimStart().Split(' ')[0];
                return int.TryParse(soft, CultureInfo.InvariantCulture, out int value) ? value : int.MaxValue;
            }
        }

        return int.MaxValue;
    }
}
