using System.Globalization;
using System.Net;

namespace HighPerfMta.Server.Configuration;

/// <summary>Durations, sizes and addresses as configuration and commands write them.</summary>
internal static class Units
{
    private static readonly (string Name, long Ticks)[] TimeUnits =
    [
        ("d", TimeSpan.TicksPerDay), ("h", TimeSpan.TicksPerHour), ("m", TimeSpan.TicksPerMinute), ("s", TimeSpan.TicksPerSecond), ("ms", TimeSpan.TicksPerMillisecond),
    ];

    private static readonly (string Name, long Bytes)[] SizeUnits =
    [
        ("TiB", 1L << 40), ("GiB", 1L << 30), ("MiB", 1L << 20), ("KiB", 1L << 10),
        ("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000), ("B", 1),
    ];

    /// <summary>Reads "500ms", "30s", "15m", "1h30m", "5d".</summary>
    public static bool TryParseDuration(string text, out TimeSpan duration)
    {
        duration = default;
        ReadOnlySpan<char> rest = text;
        long ticks = 0;
        int lastUnit = -1;
        while (!rest.IsEmpty)
        {
            int digits = rest.Length - rest.TrimStart("0123456789").Length;
            int letters = rest[digits..].IndexOfAnyInRange('0', '9');
            ReadOnlySpan<char> unit = letters < 0 ? rest[digits..] : rest.Slice(digits, letters);
            int index = IndexOf(TimeUnits, unit);
            if (index <= lastUnit || !TryMultiply(rest[..digits], TimeUnits[index].Ticks, out long part) || ticks > long.MaxValue - part)
            {
                return false;
            }

            ticks += part;
            lastUnit = index;
            rest = rest[(digits + unit.Length)..];
        }

        duration = TimeSpan.FromTicks(ticks);
        return lastUnit >= 0;
    }

    /// <summary>The shortest form that <see cref="TryParseDuration"/> reads back.</summary>
    public static string Format(TimeSpan duration)
    {
        long rest = duration.Ticks;
        string text = "";
        foreach ((string name, long ticks) in TimeUnits)
        {
            if (rest >= ticks)
            {
                text += (rest / ticks).ToString(CultureInfo.InvariantCulture) + name;
                rest %= ticks;
            }
        }

        return text.Length == 0 ? "0s" : text;
    }

    /// <summary>The largest two units, for people.</summary>
    public static string FormatShort(TimeSpan duration)
    {
        for (int i = 0; i < 4; i++)
        {
            if (duration.Ticks >= TimeUnits[i].Ticks)
            {
                long smaller = TimeUnits[Math.Min(i + 1, 3)].Ticks;
                return Format(TimeSpan.FromTicks(duration.Ticks / smaller * smaller));
            }
        }

        return "0s";
    }

    /// <summary>One unit with a decimal, for people.</summary>
    public static string FormatSizeShort(long bytes)
    {
        foreach ((string name, long unit) in SizeUnits)
        {
            if (name.EndsWith("iB", StringComparison.Ordinal) && bytes >= unit)
            {
                return (bytes / (double)unit).ToString("0.#", CultureInfo.InvariantCulture) + name;
            }
        }

        return bytes.ToString(CultureInfo.InvariantCulture) + "B";
    }

    /// <summary>Reads "50MiB", "1GB", "4096B".</summary>
    public static bool TryParseSize(string text, out long bytes)
    {
        ReadOnlySpan<char> rest = text.AsSpan().TrimStart("0123456789");
        int index = IndexOf(SizeUnits, rest);
        bytes = 0;
        return index >= 0 && TryMultiply(text.AsSpan(0, text.Length - rest.Length), SizeUnits[index].Bytes, out bytes);
    }

    public static string FormatSize(long bytes)
    {
        foreach ((string name, long unit) in SizeUnits)
        {
            if (name.EndsWith("iB", StringComparison.Ordinal) && bytes >= unit && bytes % unit == 0)
            {
                return (bytes / unit).ToString(CultureInfo.InvariantCulture) + name;
            }
        }

        return bytes.ToString(CultureInfo.InvariantCulture) + "B";
    }

    /// <summary>Reads "127.0.0.1:25" or "[::1]:25": an address, never a name.</summary>
    public static bool TryParseEndPoint(string text, out IPEndPoint endPoint)
    {
        endPoint = new IPEndPoint(IPAddress.Loopback, 0);
        int colon = text.LastIndexOf(':');
        if (colon <= 0 || !ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
        {
            return false;
        }

        ReadOnlySpan<char> host = text.AsSpan(0, colon);
        bool bracketed = host is ['[', .., ']'];
        if (!IPAddress.TryParse(bracketed ? host[1..^1] : host, out IPAddress? address)
            || bracketed != (address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6)
            || (!bracketed && host.Count('.') != 3))
        {
            return false;
        }

        endPoint = new IPEndPoint(address, port);
        return true;
    }

    private static bool TryMultiply(ReadOnlySpan<char> digits, long unit, out long product)
    {
        product = 0;
        if (!long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long number) || number > long.MaxValue / unit)
        {
            return false;
        }

        product = number * unit;
        return true;
    }

    private static int IndexOf((string Name, long Value)[] units, ReadOnlySpan<char> name)
    {
        for (int i = 0; i < units.Length; i++)
        {
            if (name.SequenceEqual(units[i].Name))
            {
                return i;
            }
        }

        return -1;
    }
}
