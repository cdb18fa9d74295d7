using System.Security.Cryptography;

namespace HighPerfMta.LoadGen.Load;

/// <summary>
/// The part of a generated message after its mark: the other header fields and text of a wanted size, as octets of the message and
/// as octets of the wire (dot-stuffed, ended by CRLF.CRLF). Long texts repeat one period, so a body of any size takes at most 200 KiB.
/// </summary>
internal sealed class MessageBody
{
    private const int LineLength = 78;
    private const int PeriodLines = 1024;
    private const int MinimumSize = 320;

    private readonly byte[] _head;
    private readonly byte[] _plainPeriod;
    private readonly byte[] _plainTail;

    /// <param name="size">Octets of the whole message with its mark; under 320 they are raised to what the header needs.</param>
    /// <param name="variant">Which of the different texts.</param>
    public MessageBody(long size, int variant)
    {
        Size = Math.Max(size, MinimumSize);
        _head = "From: hpload <hpload@load.invalid>\r\nTo: sink <sink@load.invalid>\r\nSubject: load test message\r\n"u8.ToArray();
        _head = [.. _head, .. "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"u8];
        var text = Size - MessageMark.Length - _head.Length;
        Repeats = text / (LineLength * PeriodLines);
        var rest = (int)(text % (LineLength * PeriodLines));
        if (rest < 2 && Repeats > 0)
        {
            Repeats--;
            rest += LineLength * PeriodLines;
        }

        _plainPeriod = Repeats > 0 ? Lines(LineLength * PeriodLines, variant) : [];
        _plainTail = Lines(rest, variant);
        Head = _head;
        Period = Stuff(_plainPeriod, []);
        Tail = Stuff(_plainTail, ".\r\n"u8);
    }

    /// <summary>Octets of the message, mark included, as a receiver counts them after unstuffing.</summary>
    public long Size { get; }

    public long Repeats { get; }

    /// <summary>Wire octets: the head, then <see cref="Repeats"/> times the period, then the tail with the final dot.</summary>
    public ReadOnlyMemory<byte> Head { get; }

    public ReadOnlyMemory<byte> Period { get; }

    public ReadOnlyMemory<byte> Tail { get; }

    /// <summary>SHA-256 of the message from its mark to its end.</summary>
    public byte[] Hash(ReadOnlySpan<byte> mark)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(mark);
        hash.AppendData(_head);
        for (var i = 0L; i < Repeats; i++)
        {
            hash.AppendData(_plainPeriod);
        }

        hash.AppendData(_plainTail);
        return hash.GetHashAndReset();
    }

    /// <summary>Text of exactly <paramref name="length"/> octets ended by CRLF; one line in sixteen begins with a dot.</summary>
    private static byte[] Lines(int length, int variant)
    {
        var text = new byte[length];
        for (int at = 0, line = variant; at < length; line++)
        {
            // A line must not leave fewer than the two octets that the next line's CRLF takes.
            var left = length - at;
            var take = left <= LineLength ? left : left - LineLength < 2 ? LineLength - 2 : LineLength;
            for (var i = 0; i < take - 2; i++)
            {
                text[at + i] = i == 0 && line % 16 == 3 ? (byte)'.' : (byte)('!' + 14 + (((line * 7) + i) % 77));
            }

            "\r\n"u8.CopyTo(text.AsSpan(at + take - 2));
            at += take;
        }

        return text;
    }

    private static byte[] Stuff(byte[] plain, ReadOnlySpan<byte> end)
    {
        var wire = new List<byte>(plain.Length + (plain.Length / LineLength) + 8);
        var lineStart = true;
        foreach (var octet in plain)
        {
            if (lineStart && octet == (byte)'.')
            {
                wire.Add((byte)'.');
            }

            wire.Add(octet);
            lineStart = octet == (byte)'\n';
        }

        wire.AddRange(end);
        return [.. wire];
    }
}
