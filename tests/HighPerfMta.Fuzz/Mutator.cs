using System.Text;

namespace HighPerfMta.Fuzz;

/// <summary>Makes inputs out of those of a pool, which may grow: changes octets, takes pieces out, repeats, inserts words of the protocols, joins two inputs.</summary>
internal sealed class Mutator(List<byte[]> pool, Random random)
{
    private const int MaxLength = 4096;

    private static readonly byte[] Interesting = [0, 1, 9, 10, 13, 32, (byte)'.', (byte)':', (byte)'<', (byte)'>', (byte)'"', (byte)'@', (byte)'[', (byte)'\\', (byte)'%', 0x7F, 0x80, 0xC3, 0xED, 0xFF];

    private static readonly byte[][] Words =
    [
        .. ((string[])[
            "\r\n", "\r\n.\r\n", "\n.\n", "\r\n..", "EHLO a\r\n", "MAIL FROM:<>", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n", "DATA\r\n", "BDAT 5\r\n", "BDAT 0 LAST\r\n", " LAST", "RSET\r\n", "NOOP\r\n", "QUIT\r\n",
            " SIZE=1", " BODY=8BITMIME", " SMTPUTF8", " AUTH=<>", "AUTH PLAIN ", "XCLIENT ADDR=", "From: a\r\n", "Bcc: ", "Resent-Bcc:", "DKIM-Signature:", "Received: x\r\n", "Date:", "Message-ID:", "Subject", "\r\n\r\n", "\r\n ",
            "PROXY TCP4 ", "192.0.2.1", "[IPv6:::1]", "postmaster", "xn--", "250-", "250 ", "\u0000\u0000", "\u00c3\u00a4", "99999999999999999999",
        ]).Select(static w => Encoding.Latin1.GetBytes(w)),
    ];

    public byte[] Next()
    {
        List<byte> octets = [.. pool[random.Next(pool.Count)]];
        for (int changes = 1 << random.Next(5); changes > 0; changes--)
        {
            Change(octets);
        }

        return octets.Count <= MaxLength ? [.. octets] : [.. octets[..MaxLength]];
    }

    private void Change(List<byte> octets)
    {
        int at = random.Next(octets.Count + 1);
        int length = Math.Min(octets.Count - at, random.Next(1, 1 << random.Next(1, 8)));
        switch (random.Next(9))
        {
            case 0 when at < octets.Count:
                octets[at] ^= (byte)(1 << random.Next(8));
                break;
            case 1 when at < octets.Count:
                octets[at] = Interesting[random.Next(Interesting.Length)];
                break;
            case 2 when at < octets.Count:
                octets[at] = (byte)random.Next(256);
                break;
            case 3:
                octets.Insert(at, Interesting[random.Next(Interesting.Length)]);
                break;
            case 4:
                octets.RemoveRange(at, length);
                break;
            case 5:
                octets.InsertRange(random.Next(octets.Count + 1), octets.GetRange(at, length));
                break;
            case 6:
                octets.InsertRange(at, Words[random.Next(Words.Length)]);
                break;
            case 7:
                byte[] other = pool[random.Next(pool.Count)];
                int from = random.Next(other.Length + 1);
                octets.InsertRange(at, other[from..Math.Min(other.Length, from + random.Next(1, 64))]);
                break;
            default:
                octets.AddRange(pool[random.Next(pool.Count)]);
                break;
        }
    }
}
