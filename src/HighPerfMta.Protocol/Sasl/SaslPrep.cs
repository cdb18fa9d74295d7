using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace HighPerfMta.Protocol.Sasl;

/// <summary>
/// SASLprep (RFC 4013): the one form in which names and passwords are compared. It is what PLAIN, SCRAM and CRAM-MD5 prescribe and what their clients hash; the
/// OpaqueString of RFC 8265 keeps compatibility characters, so that a password with one would be another for them. Code points that Unicode 3.2 did not assign are
/// let through as they are (RFC 3454 §7), in stored strings too: people have such passwords.
/// </summary>
public static class SaslPrep
{
    private const int Nothing = 1, Space = 2, Prohibited = 4, RandAl = 8, Left = 16;
    private const int HangulBase = 0xAC00, LeadBase = 0x1100, VowelBase = 0x1161, TrailBase = 0x11A7;
    private const int Leads = 19, Vowels = 21, Trails = 28;

    private static readonly Lazy<PrepTables> Tables = new(PrepTables.Load);

    /// <summary>Prepares UTF-8. False for what is no UTF-8, is empty or becomes empty, or holds what the profile prohibits.</summary>
    /// <param name="text">As it was sent.</param>
    /// <param name="prepared">The prepared form; empty when false.</param>
    public static bool TryPrepare(ReadOnlySpan<byte> text, out string prepared)
    {
        prepared = "";
        if (text.IsEmpty)
        {
            return false;
        }

        if (Ascii.IsValid(text))
        {
            prepared = text.ContainsAnyInRange((byte)0, (byte)0x1F) || text.Contains((byte)0x7F) ? "" : Encoding.ASCII.GetString(text);
            return prepared.Length > 0;
        }

        return TryDecode(text, out List<int> points) && TryPrepare(points, out prepared);
    }

    /// <inheritdoc cref="TryPrepare(ReadOnlySpan{byte}, out string)"/>
    public static bool TryPrepare(string text, out string prepared)
    {
        ArgumentNullException.ThrowIfNull(text);
        return TryPrepare(Encoding.UTF8.GetBytes(text), out prepared);
    }

    private static bool TryDecode(ReadOnlySpan<byte> text, out List<int> points)
    {
        points = new List<int>(text.Length);
        while (!text.IsEmpty)
        {
            if (Rune.DecodeFromUtf8(text, out Rune rune, out int length) != System.Buffers.OperationStatus.Done)
            {
                return false;
            }

            points.Add(rune.Value);
            text = text[length..];
        }

        return true;
    }

    private static bool TryPrepare(List<int> points, out string prepared)
    {
        PrepTables tables = Tables.Value;
        List<int> form = Compose(Decompose(Map(points, tables), tables), tables);
        prepared = "";
        if (form.Count == 0 || !IsAllowed(form, tables))
        {
            return false;
        }

        StringBuilder text = new(form.Count);
        Span<char> units = stackalloc char[2];
        foreach (int point in form)
        {
            text.Append(units[..new Rune(point).EncodeToUtf16(units)]);
        }

        prepared = text.ToString();
        return true;
    }

    /// <summary>RFC 4013 §2.1.</summary>
    private static IEnumerable<int> Map(List<int> points, PrepTables tables)
    {
        foreach (int point in points)
        {
            int flags = tables.FlagsOf(point);
            if ((flags & Space) != 0)
            {
                yield return ' ';
            }
            else if ((flags & Nothing) == 0)
            {
                yield return point;
            }
        }
    }

    /// <summary>The full compatibility decomposition, marks in canonical order.</summary>
    private static List<int> Decompose(IEnumerable<int> points, PrepTables tables)
    {
        List<int> form = [];
        foreach (int point in points)
        {
            int syllable = point - HangulBase;
            if (syllable is >= 0 and < Leads * Vowels * Trails)
            {
                form.Add(LeadBase + (syllable / (Vowels * Trails)));
                form.Add(VowelBase + (syllable % (Vowels * Trails) / Trails));
                if (syllable % Trails > 0)
                {
                    form.Add(TrailBase + (syllable % Trails));
                }

                continue;
            }

            ReadOnlySpan<int> parts = tables.DecompositionOf(point);
            form.AddRange(parts.IsEmpty ? [point] : parts);
        }

        Order(form, tables);
        return form;
    }

    /// <summary>Sorts each run of marks by class, stably; a run is as long as the input allows, so nothing here may be quadratic in it.</summary>
    private static void Order(List<int> form, PrepTables tables)
    {
        for (int start = 0; start < form.Count; start++)
        {
            int end = start;
            while (end < form.Count && tables.ClassOf(form[end]) > 0)
            {
                end++;
            }

            if (end - start > 1)
            {
                int[] run = [.. form.GetRange(start, end - start).OrderBy(tables.ClassOf)];
                for (int i = 0; i < run.Length; i++)
                {
                    form[start + i] = run[i];
                }
            }

            start = end;
        }
    }

    private static List<int> Compose(List<int> points, PrepTables tables)
    {
        List<int> form = new(points.Count);
        int starter = -1;
        int lastClass = 0;
        foreach (int point in points)
        {
            int own = tables.ClassOf(point);
            bool isAdjacent = form.Count - 1 == starter;
            if (starter >= 0 && (isAdjacent || lastClass < own) && TryCompose(form[starter], point, tables, out int composite))
            {
                form[starter] = composite;
                continue;
            }

            form.Add(point);
            lastClass = own;
            starter = own == 0 ? form.Count - 1 : starter;
        }

        return form;
    }

    private static bool TryCompose(int first, int second, PrepTables tables, out int composite)
    {
        int lead = first - LeadBase, vowel = second - VowelBase, syllable = first - HangulBase, trail = second - TrailBase;
        if (lead is >= 0 and < Leads && vowel is >= 0 and < Vowels)
        {
            composite = HangulBase + (((lead * Vowels) + vowel) * Trails);
            return true;
        }

        if (syllable is >= 0 and < Leads * Vowels * Trails && syllable % Trails == 0 && trail is > 0 and < Trails)
        {
            composite = first + trail;
            return true;
        }

        return tables.TryCompose(first, second, out composite);
    }

    /// <summary>RFC 4013 §2.3 and §2.4 (RFC 3454 §6).</summary>
    private static bool IsAllowed(List<int> form, PrepTables tables)
    {
        int all = 0;
        foreach (int point in form)
        {
            all |= tables.FlagsOf(point);
        }

        bool isRightToLeft = (all & RandAl) != 0;
        bool isEnclosed = (tables.FlagsOf(form[0]) & tables.FlagsOf(form[^1]) & RandAl) != 0;
        return (all & Prohibited) == 0 && (!isRightToLeft || ((all & Left) == 0 && isEnclosed));
    }
}

/// <summary>What SASLprep needs of Unicode 3.2; written by saslprep-tables.py, which says how.</summary>
internal sealed class PrepTables
{
    private readonly int[] _starts;
    private readonly int[] _flags;
    private readonly Dictionary<int, (int Offset, int Length)> _decompositions = [];
    private readonly int[] _pool;
    private readonly Dictionary<(int First, int Second), int> _compositions = [];

    private PrepTables(ReadOnlySpan<byte> octets)
    {
        int at = 0;
        int count = Next(octets, ref at);
        _starts = new int[count];
        _flags = new int[count];
        for (int i = 0; i < count; i++)
        {
            _starts[i] = Next(octets, ref at);
            _flags[i] = Next(octets, ref at);
        }

        for (int left = Next(octets, ref at); left > 0; left--)
        {
            _decompositions.Add(Next(octets, ref at), (Next(octets, ref at), Next(octets, ref at)));
        }

        _pool = new int[Next(octets, ref at)];
        for (int i = 0; i < _pool.Length; i++)
        {
            _pool[i] = Next(octets, ref at);
        }

        for (int left = Next(octets, ref at); left > 0; left--)
        {
            _compositions.Add((Next(octets, ref at), Next(octets, ref at)), Next(octets, ref at));
        }
    }

    public static PrepTables Load()
    {
        using Stream packed = typeof(PrepTables).Assembly.GetManifestResourceStream("saslprep.bin")!;
        using ZLibStream unpacked = new(packed, CompressionMode.Decompress);
        using MemoryStream octets = new();
        unpacked.CopyTo(octets);
        return new PrepTables(octets.GetBuffer().AsSpan(0, (int)octets.Length));
    }

    public int FlagsOf(int point)
    {
        int index = Array.BinarySearch(_starts, point);
        return _flags[index < 0 ? ~index - 1 : index];
    }

    /// <summary>The canonical combining class; 0 for a starter.</summary>
    public int ClassOf(int point) => FlagsOf(point) >> 8;

    public ReadOnlySpan<int> DecompositionOf(int point) =>
        _decompositions.TryGetValue(point, out (int Offset, int Length) found) ? _pool.AsSpan(found.Offset, found.Length) : default;

    public bool TryCompose(int first, int second, out int composite) => _compositions.TryGetValue((first, second), out composite);

    private static int Next(ReadOnlySpan<byte> octets, ref int at)
    {
        int value = BinaryPrimitives.ReadInt32LittleEndian(octets[at..]);
        at += sizeof(int);
        return value;
    }
}
