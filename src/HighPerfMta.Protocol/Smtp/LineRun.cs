using System.Numerics;
using System.Runtime.Intrinsics;

namespace HighPerfMta.Protocol.Smtp;

/// <summary>Passes over lines that are as nearly all are, 64 octets at a time. What is special about any is left to who reads or writes octet by octet.</summary>
internal static class LineRun
{
    private const int Step = 2 * 32;

    /// <summary>
    /// How many octets at the front are whole lines with nothing special: each ends with CRLF and has no other CR, LF or NUL, and none but the one that was begun before starts with a dot. It may be
    /// fewer than there are, and none: only what is certain counts.
    /// </summary>
    /// <param name="octets">They begin within a line, or at a line that does not start with a dot.</param>
    /// <param name="before">Octets of the first line that came before.</param>
    /// <param name="maxLine">Octets of a line without CRLF.</param>
    public static int Length(ReadOnlySpan<byte> octets, int before, int maxLine)
    {
        // A line within one step is short enough.
        if (!Vector256.IsHardwareAccelerated || maxLine < Step)
        {
            return 0;
        }

        int end = 0;
        long lineStart = -(long)before;
        ulong afterCr = 0;
        ulong afterLf = 0;
        for (int at = 0; at <= octets.Length - Step; at += Step)
        {
            Vector256<byte> low = Vector256.Create(octets.Slice(at, 32));
            Vector256<byte> high = Vector256.Create(octets.Slice(at + 32, 32));
            ulong cr = Where(low, high, (byte)'\r');
            ulong lf = Where(low, high, (byte)'\n');
            ulong dots = Where(low, high, (byte)'.') & ((lf << 1) | afterLf);
            if (((lf ^ ((cr << 1) | afterCr)) | dots) != 0 || Vector256.EqualsAny(Vector256.Min(low, high), Vector256<byte>.Zero))
            {
                break;
            }

            if (lf != 0)
            {
                if (at + BitOperations.TrailingZeroCount(lf) - 1 - lineStart > maxLine)
                {
                    break;
                }

                end = at + Step - BitOperations.LeadingZeroCount(lf);
                lineStart = end;
            }

            afterCr = cr >> 63;
            afterLf = lf >> 63;
        }

        return end;
    }

    private static ulong Where(Vector256<byte> low, Vector256<byte> high, byte octet)
    {
        Vector256<byte> sought = Vector256.Create(octet);
        return Vector256.Equals(low, sought).ExtractMostSignificantBits() | ((ulong)Vector256.Equals(high, sought).ExtractMostSignificantBits() << 32);
    }
}
