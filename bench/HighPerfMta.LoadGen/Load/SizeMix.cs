using System.Globalization;

namespace HighPerfMta.LoadGen.Load;

/// <summary>Message sizes with their weights, such as <c>1KiB:70,10KiB:25,100KiB:5</c>, dealt out in a fixed order.</summary>
internal sealed class SizeMix
{
    private const int Variants = 8;

    private readonly MessageBody[][] _bodies;
    private readonly byte[] _deal;

    private SizeMix(IReadOnlyList<(long Size, int Weight)> parts)
    {
        _bodies = [.. parts.Select(p => Enumerable.Range(0, Variants).Select(v => new MessageBody(p.Size, v)).ToArray())];
        var total = parts.Sum(p => p.Weight);
        _deal = new byte[total];
        var credit = new double[parts.Count];
        for (var i = 0; i < total; i++)
        {
            for (var p = 0; p < parts.Count; p++)
            {
                credit[p] += (double)parts[p].Weight / total;
            }

            var next = Array.IndexOf(credit, credit.Max());
            credit[next] -= 1;
            _deal[i] = (byte)next;
        }
    }

    /// <summary>Octets of the largest message.</summary>
    public long Largest => _bodies.Max(b => b[0].Size);

    /// <summary>The body that belongs to a sequence number, always the same one.</summary>
    public MessageBody For(long sequence) => _bodies[_deal[sequence % _deal.Length]][sequence % Variants];

    /// <summary>Reads one size or a mix; false with a sentence in <paramref name="error"/>.</summary>
    public static bool TryParse(string text, out SizeMix? mix, out string error)
    {
        mix = null;
        error = $"'{text}': a size such as 10KiB, or sizes with weights such as 1KiB:70,100KiB:30 (16 at most, weights 1 to 1000)";
        var parts = new List<(long, int)>();
        foreach (var part in text.Split(','))
        {
            var fields = part.Split(':');
            var weight = 1;
            if (fields.Length > 2 || !TryParseSize(fields[0], out var size)
                || (fields.Length == 2 && !int.TryParse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture, out weight))
                || weight is < 1 or > 1000)
            {
                return false;
            }

            parts.Add((size, weight));
        }

        if (parts.Count > 16)
        {
            return false;
        }

        mix = new SizeMix(parts);
        return true;
    }

    /// <summary>Reads <c>1024</c>, <c>1KiB</c>, <c>5MiB</c>, <c>1GiB</c>; up to 64 GiB.</summary>
    public static bool TryParseSize(string text, out long size)
    {
        var (digits, unit) = text switch
        {
            _ when text.EndsWith("KiB", StringComparison.OrdinalIgnoreCase) => (text[..^3], 1L << 10),
            _ when text.EndsWith("MiB", StringComparison.OrdinalIgnoreCase) => (text[..^3], 1L << 20),
            _ when text.EndsWith("GiB", StringComparison.OrdinalIgnoreCase) => (text[..^3], 1L << 30),
            _ => (text, 1L),
        };
        size = 0;
        if (!int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var count) || count * unit > 64L << 30)
        {
            return false;
        }

        size = count * unit;
        return true;
    }
}
