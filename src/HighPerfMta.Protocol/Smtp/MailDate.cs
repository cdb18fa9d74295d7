namespace HighPerfMta.Protocol.Smtp;

/// <summary>date-time of RFC 5322 §3.3, always in UTC: <c>Mon, 02 Jan 2006 15:04:05 +0000</c>.</summary>
public static class MailDate
{
    /// <summary>Characters of a date.</summary>
    public const int Length = 31;

    /// <summary>Writes the date; returns the part of <paramref name="buffer"/> it fills, which must have <see cref="Length"/> octets.</summary>
    public static ReadOnlySpan<byte> Format(DateTimeOffset date, Span<byte> buffer)
    {
        // "R" is RFC 1123 with "GMT" at the end.
        date.UtcDateTime.TryFormat(buffer, out int length, "R");
        "+0000"u8.CopyTo(buffer[(length - 3)..]);
        return buffer[..(length + 2)];
    }

    /// <inheritdoc cref="Format(DateTimeOffset, Span{byte})"/>
    public static string Format(DateTimeOffset date)
    {
        Span<byte> buffer = stackalloc byte[Length];
        return System.Text.Encoding.ASCII.GetString(Format(date, buffer));
    }
}
