using System.Buffers.Text;
using System.Diagnostics;
using System.Globalization;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// The first header field of every generated message: <c>X-Hpload-Id: RRRRRRRR-SSSSSSSSSSSSSSSS TTTTTTTTTTTTTTTT</c>, all
/// fixed-width hexadecimal: run, sequence number in the run, intended send time in <see cref="Stopwatch"/> ticks
/// (CLOCK_MONOTONIC, so it compares between processes of one machine only).
/// </summary>
internal readonly record struct MessageMark(uint Run, long Sequence, long SentAt)
{
    /// <summary>Length of the field with its CRLF.</summary>
    public const int Length = 13 + 8 + 1 + 16 + 1 + 16 + 2;

    public static ReadOnlySpan<byte> FieldName => "X-Hpload-Id: "u8;

    /// <summary>Short form for people and record files, <c>run-sequence</c>.</summary>
    public string Id => string.Create(CultureInfo.InvariantCulture, $"{Run:x8}-{Sequence:x16}");

    public void Write(Span<byte> field)
    {
        FieldName.CopyTo(field);
        WriteHex(field.Slice(13, 8), Run);
        field[21] = (byte)'-';
        WriteHex(field.Slice(22, 16), (ulong)Sequence);
        field[38] = (byte)' ';
        WriteHex(field.Slice(39, 16), (ulong)SentAt);
        "\r\n"u8.CopyTo(field[55..]);
    }

    /// <summary>Reads the field from a header line, with or without its CRLF.</summary>
    public static bool TryRead(ReadOnlySpan<byte> line, out MessageMark mark)
    {
        mark = default;
        if (line.Length < Length - 2 || !line.StartsWith(FieldName)
            || !Utf8Parser.TryParse(line.Slice(13, 8), out uint run, out var a, 'x') || a != 8 || line[21] != (byte)'-' || line[38] != (byte)' '
            || !Utf8Parser.TryParse(line.Slice(22, 16), out ulong sequence, out var b, 'x') || b != 16
            || !Utf8Parser.TryParse(line.Slice(39, 16), out ulong sent, out var c, 'x') || c != 16)
        {
            return false;
        }

        mark = new MessageMark(run, (long)sequence, (long)sent);
        return true;
    }

    private static void WriteHex(Span<byte> digits, ulong value)
    {
        for (var i = digits.Length - 1; i >= 0; i--, value >>= 4)
        {
            digits[i] = "0123456789abcdef"u8[(int)(value & 15)];
        }
    }
}
