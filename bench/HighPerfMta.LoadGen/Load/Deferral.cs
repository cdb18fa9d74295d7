using System.Globalization;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// Answers a share of the recipients with a 4xx, always the same ones: what decides is a hash of the address, so a retry meets the same answer.
/// </summary>
/// <param name="Share">From 0 to 1.</param>
/// <param name="Code">400 to 499.</param>
/// <param name="Text">What follows the code; begin it with an enhanced status code.</param>
internal sealed record Deferral(double Share, int Code, string Text)
{
    public const string DefaultText = "4.7.1 Greylisted, try again later";

    /// <summary>How often at most each of them is deferred before it is taken: from once to so often, by its hash; 0: for ever.</summary>
    public int Times { get; init; }

    /// <summary>Reads <c>20%</c>, <c>20%:451</c>, <c>100%:450:4.7.1 text</c>.</summary>
    public static bool TryParse(string text, out Deferral? deferral)
    {
        deferral = null;
        var fields = text.Split(':', 3);
        var code = 450;
        if (!fields[0].EndsWith('%')
            || !double.TryParse(fields[0].AsSpan(0, fields[0].Length - 1), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var percent) || percent > 100
            || (fields.Length > 1 && (!int.TryParse(fields[1], NumberStyles.None, CultureInfo.InvariantCulture, out code) || code is < 400 or > 499))
            || (fields.Length > 2 && (fields[2].Length is 0 or > 400 || fields[2].Any(c => c is < ' ' or > '~'))))
        {
            return false;
        }

        deferral = new Deferral(percent / 100, code, fields.Length > 2 ? fields[2] : DefaultText);
        return true;
    }
}

/// <summary>Decides about recipients and counts how often each was deferred. Safe for several threads.</summary>
internal sealed class DeferralLedger(Deferral deferral, int seed)
{
    /// <summary>Recipients remembered; what comes when it is full is taken at once. About 100 MiB.</summary>
    private const int Limit = 4 << 20;

    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, int> _deferred = [];

    /// <param name="path">The recipient with whatever is around it, the same octets at each try.</param>
    public bool Defers(ReadOnlySpan<byte> path)
    {
        var hash = Hash(path);
        if ((hash >> 11) * (1.0 / (1UL << 53)) >= deferral.Share)
        {
            return false;
        }

        if (deferral.Times == 0)
        {
            return true;
        }

        lock (_lock)
        {
            var before = _deferred.GetValueOrDefault(hash);
            if (before > (int)(hash % (ulong)deferral.Times) || (before == 0 && _deferred.Count >= Limit))
            {
                return false;
            }

            _deferred[hash] = before + 1;
            return true;
        }
    }

    /// <summary>FNV-1a, and a finish (that of SplitMix64) for its weak upper bits.</summary>
    private ulong Hash(ReadOnlySpan<byte> octets)
    {
        var hash = 14695981039346656037UL + (ulong)seed;
        foreach (var octet in octets)
        {
            hash = (hash ^ octet) * 1099511628211UL;
        }

        hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9UL;
        hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBUL;
        return hash ^ (hash >> 31);
    }
}
