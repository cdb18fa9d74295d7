using System.Globalization;

namespace HighPerfMta.LoadGen.Charts;

/// <summary>Where a value lies between the ends of an axis, and where its ticks are.</summary>
internal sealed class Scale
{
    /// <summary>Values that span more than this are shown by their order of magnitude.</summary>
    private const double LinearSpan = 60;

    private readonly double _low;
    private readonly double _high;

    private Scale(double low, double high, bool logarithmic, IReadOnlyList<double> ticks)
    {
        _low = low;
        _high = high;
        Logarithmic = logarithmic;
        Ticks = ticks;
    }

    public bool Logarithmic { get; }

    /// <summary>In ascending order, all within the axis.</summary>
    public IReadOnlyList<double> Ticks { get; }

    /// <summary>From 0 to a round number at or above the largest value, with about <paramref name="wanted"/> ticks.</summary>
    public static Scale FromZero(double largest, int wanted)
    {
        if (largest <= 0)
        {
            largest = 1;
        }

        var step = Round(largest / wanted);
        var count = (int)Math.Ceiling((largest / step) - 1e-9);
        return new Scale(0, count * step, logarithmic: false, [.. Enumerable.Range(0, count + 1).Select(i => i * step)]);
    }

    /// <summary>From zero, or by powers of ten when the values, 0 left out, span too much for that.</summary>
    public static Scale For(IReadOnlyCollection<double> values, int wanted)
    {
        var positive = values.Where(v => v > 0).ToArray();
        return positive.Length == values.Count && positive.Length > 0 && positive.Max() / positive.Min() > LinearSpan
            ? Powers(positive.Min(), positive.Max(), 10)
            : FromZero(values.DefaultIfEmpty().Max(), wanted);
    }

    /// <summary>Logarithmic between powers of <paramref name="radix"/> around positive values; ticks thinned to seven.</summary>
    public static Scale Powers(double smallest, double largest, int radix)
    {
        var first = (int)Math.Floor(Math.Log(smallest, radix) + 1e-9);
        var last = Math.Max(first + 1, (int)Math.Ceiling(Math.Log(largest, radix) - 1e-9));
        var every = (last - first + 6) / 7;
        var ticks = Enumerable.Range(first, last - first + 1).Where(e => (e - first) % every == 0).Select(e => Math.Pow(radix, e));
        return new Scale(Math.Pow(radix, first), Math.Pow(radix, last), logarithmic: true, [.. ticks]);
    }

    /// <summary>0 at the low end, 1 at the high end; what lies outside is moved to the nearer end.</summary>
    public double Position(double value)
    {
        var at = Logarithmic ? Math.Log(Math.Max(value, _low) / _low) / Math.Log(_high / _low) : (value - _low) / (_high - _low);
        return Math.Clamp(at, 0, 1);
    }

    /// <summary>Three significant figures, thousands separated by commas, millions as M.</summary>
    public static string Format(double value) => value switch
    {
        0 => "0",
        >= 1e6 => string.Create(CultureInfo.InvariantCulture, $"{value / 1e6:0.##}M"),
        >= 100 => value.ToString("#,0", CultureInfo.InvariantCulture),
        >= 10 => value.ToString("0.#", CultureInfo.InvariantCulture),
        >= 1 => value.ToString("0.##", CultureInfo.InvariantCulture),
        >= 0.1 => value.ToString("0.###", CultureInfo.InvariantCulture),
        _ => value.ToString("0.####", CultureInfo.InvariantCulture),
    };

    /// <summary><c>512 B</c>, <c>64 KiB</c>, <c>50 MiB</c>.</summary>
    public static string FormatOctets(double octets) => octets switch
    {
        >= 1 << 20 => Format(octets / (1 << 20)) + " MiB",
        >= 1 << 10 => Format(octets / (1 << 10)) + " KiB",
        _ => Format(octets) + " B",
    };

    /// <summary>The least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below the value.</summary>
    private static double Round(double value)
    {
        var power = Math.Pow(10, Math.Floor(Math.Log10(value)));
        var share = (value / power) - 1e-9;
        return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 2.5 ? 2.5 : share <= 5 ? 5 : 10);
    }
}
