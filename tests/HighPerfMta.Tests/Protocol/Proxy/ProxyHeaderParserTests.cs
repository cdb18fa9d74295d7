using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Numerics;
using System.Text;
using CsCheck;
using HighPerfMta.Protocol.Proxy;

namespace HighPerfMta.Tests.Protocol.Proxy;

public class ProxyHeaderParserTests
{
    private static readonly byte[] Signature = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];

    private static readonly Gen<byte[]> Example = Gen.Int[0, Examples().Length - 1].Select(static i => Examples()[i]);

    [Theory]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.7 51234 25\r\n", "192.0.2.1:51234", "198.51.100.7:25")]
    [InlineData("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535")]
    [InlineData("PROXY TCP6 2001:db8::1 2001:DB8::2 1 25\r\n", "[2001:db8::1]:1", "[2001:db8::2]:25")]
    [InlineData("PROXY TCP6 ::ffff:192.0.2.1 ::1 0 25\r\n", "[::ffff:192.0.2.1]:0", "[::1]:25")]
    public void Addresses_of_version_1(string line, string source, string destination)
    {
        ProxyHeader header = Good(Encoding.ASCII.GetBytes(line));
        Assert.Equal(ProxyOrigin.Tcp, header.Origin);
        Assert.Equal(source, header.Source!.ToString());
        Assert.Equal(destination, header.Destination!.ToString());
    }

    [Theory]
    [InlineData("PROXY UNKNOWN\r\n")]
    [InlineData("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n")]
    public void An_unknown_connection_of_version_1(string line) => Assert.Equal(ProxyHeader.Unknown, Good(Encoding.ASCII.GetBytes(line)));

    [Theory]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.7 51234\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.7 51234 25 7\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1  198.51.100.7 51234 25\r\n")]
    [InlineData("PROXY TCP4 192.0.2.01 198.51.100.7 51234 25\r\n")]
    [InlineData("PROXY TCP4 192.2 198.51.100.7 51234 25\r\n")]
    [InlineData("PROXY TCP4 0x7f.0.0.1 198.51.100.7 51234 25\r\n")]
    [InlineData("PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n")]
    [InlineData("PROXY TCP6 192.0.2.1 198.51.100.7 51234 25\r\n")]
    [InlineData("PROXY TCP6 fe80::1%1 2001:db8::2 1 25\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.7 65536 25\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.7 +1 25\r\n")]
    [InlineData("PROXY TCP4 192.0.2.1 198.51.100.7 01 25\r\n")]
    [InlineData("PROXY TCP5 192.0.2.1 198.51.100.7 1 25\r\n")]
    [InlineData("PROXY tcp4 192.0.2.1 198.51.100.7 1 25\r\n")]
    [InlineData("PROXY UNKNOWNX\r\n")]
    [InlineData("PROXY \r\n")]
    public void What_is_no_header_of_version_1(string line) => Assert.Equal(ProxyStatus.Malformed, Read(Encoding.ASCII.GetBytes(line)).Status);

    [Theory]
    [InlineData("EHLO client.example\r\n")]
    [InlineData("proxy TCP4 192.0.2.1 198.51.100.7 1 25\r\n")]
    [InlineData("PROXYTCP4")]
    [InlineData("\r\n\r\nQUIT")]
    [InlineData("\u0016\u0003\u0001")]
    public void What_begins_otherwise_is_missing(string text) => Assert.Equal(ProxyStatus.Missing, Read(Encoding.Latin1.GetBytes(text)).Status);

    [Fact]
    public void A_line_that_does_not_end_is_refused_at_its_longest()
    {
        byte[] line = Encoding.ASCII.GetBytes("PROXY UNKNOWN " + new string('x', 200));
        Assert.Equal(ProxyStatus.NeedMore, Read(line[..106]).Status);
        Assert.Equal(ProxyStatus.Malformed, Read(line[..107]).Status);
        byte[] longest = [.. line[..105], .. "\r\n"u8];
        Assert.Equal(ProxyHeader.Unknown, Good(longest));
    }

    [Fact]
    public void Addresses_of_version_2()
    {
        Assert.Equal(
            new ProxyHeader(ProxyOrigin.Tcp, IPEndPoint.Parse("192.0.2.1:51234"), IPEndPoint.Parse("198.51.100.7:25")),
            Good(Binary(0x21, 0x11, V4("192.0.2.1", "198.51.100.7", 51234, 25))));
        Assert.Equal(
            new ProxyHeader(ProxyOrigin.Tcp, IPEndPoint.Parse("[2001:db8::1]:1"), IPEndPoint.Parse("[2001:db8::2]:25")),
            Good(Binary(0x21, 0x21, [.. IPAddress.Parse("2001:db8::1").GetAddressBytes(), .. IPAddress.Parse("2001:db8::2").GetAddressBytes(), 0, 1, 0, 25])));
    }

    [Fact]
    public void What_version_2_says_of_no_tcp()
    {
        Assert.Equal(ProxyHeader.Local, Good(Binary(0x20, 0x00, [])));
        Assert.Equal(ProxyHeader.Local, Good(Binary(0x20, 0x11, V4("192.0.2.1", "198.51.100.7", 1, 2))));
        Assert.Equal(ProxyHeader.Unknown, Good(Binary(0x21, 0x00, [])));
        Assert.Equal(ProxyHeader.Unknown, Good(Binary(0x21, 0x00, [1, 2, 3])));
        Assert.Equal(ProxyHeader.Unknown, Good(Binary(0x21, 0x31, new byte[216])));
    }

    [Theory]
    [InlineData(0x11, 0x11, 12)] // version 1
    [InlineData(0x22, 0x11, 12)] // no such command
    [InlineData(0x21, 0x12, 12)] // datagrams
    [InlineData(0x21, 0x41, 12)] // no such family
    [InlineData(0x21, 0x11, 11)] // too short for its addresses
    [InlineData(0x21, 0x21, 35)]
    [InlineData(0x21, 0x31, 215)]
    [InlineData(0x21, 0x11, 14)] // half a TLV
    [InlineData(0x21, 0x11, 5000)] // longer than is looked at
    public void What_is_no_header_of_version_2(byte command, byte family, int length) =>
        Assert.Equal(ProxyStatus.Malformed, Read(Binary(command, family, new byte[length])).Status);

    [Fact]
    public void Tlvs_are_passed_over_and_a_checksum_is_checked()
    {
        byte[] addresses = V4("192.0.2.1", "198.51.100.7", 51234, 25);
        Good(Binary(0x21, 0x11, [.. addresses, 0x02, 0, 3, 1, 2, 3]));
        Assert.Equal(ProxyStatus.Malformed, Read(Binary(0x21, 0x11, [.. addresses, 0x02, 0, 4, 1, 2, 3])).Status);

        byte[] header = Binary(0x21, 0x11, [.. addresses, 0x03, 0, 4, 0, 0, 0, 0, 0x02, 0, 1, 9]);
        uint crc = uint.MaxValue;
        foreach (byte octet in header)
        {
            crc = BitOperations.Crc32C(crc, octet);
        }

        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(16 + addresses.Length + 3), ~crc);
        Good(header);
        header[16] ^= 1;
        Assert.Equal(ProxyStatus.Malformed, Read(header).Status);
    }

    [Fact]
    public void The_checksum_is_that_of_castagnoli()
    {
        // The check value of the CRC's definition.
        uint crc = uint.MaxValue;
        foreach (byte octet in "123456789"u8)
        {
            crc = BitOperations.Crc32C(crc, octet);
        }

        Assert.Equal(0xE3069283, ~crc);
    }

    [Fact]
    public void Any_split_and_any_prefix() => Gen.Select(Example, Gen.Byte.Array[0, 40], Gen.Int[1, 20]).Sample(static (header, behind, piece) =>
    {
        byte[] all = [.. header, .. behind];
        (ProxyStatus status, ProxyHeader? whole, long used) = Read(all);
        Assert.Equal(ProxyStatus.Header, status);
        Assert.Equal(header.Length, used);
        (status, ProxyHeader? split, used) = Read(InPieces(all, piece));
        Assert.Equal((ProxyStatus.Header, (long)header.Length), (status, used));
        Assert.Equal(whole, split);
        for (int i = 0; i < header.Length; i++)
        {
            Assert.Equal((ProxyStatus.NeedMore, null, 0), Read(header[..i]));
        }
    }, iter: 300);

    [Fact]
    public void Whatever_comes_is_answered() => Gen.Select(Example, Gen.Int[0, 60], Gen.Byte, Gen.Byte.Array[0, 30]).Sample(static (header, at, octet, behind) =>
    {
        byte[] changed = [.. header, .. behind];
        changed[at % changed.Length] = octet;
        (ProxyStatus status, ProxyHeader? read, long used) = Read(changed);
        Assert.Equal(status == ProxyStatus.Header, read is not null);
        Assert.True(status == ProxyStatus.Header ? used > 0 : used == 0);
    }, iter: 20_000);

    private static byte[][] Examples() =>
    [
        "PROXY TCP4 192.0.2.1 198.51.100.7 51234 25\r\n"u8.ToArray(),
        "PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n"u8.ToArray(),
        "PROXY UNKNOWN\r\n"u8.ToArray(),
        Binary(0x20, 0x00, []),
        Binary(0x21, 0x11, V4("192.0.2.1", "198.51.100.7", 51234, 25)),
        Binary(0x21, 0x11, [.. V4("192.0.2.1", "198.51.100.7", 51234, 25), 0x02, 0, 3, 1, 2, 3]),
        Binary(0x21, 0x31, new byte[216]),
    ];

    private static byte[] V4(string source, string destination, ushort from, ushort to) =>
        [.. IPAddress.Parse(source).GetAddressBytes(), .. IPAddress.Parse(destination).GetAddressBytes(), (byte)(from >> 8), (byte)from, (byte)(to >> 8), (byte)to];

    private static byte[] Binary(byte command, byte family, byte[] rest) => [.. Signature, command, family, (byte)(rest.Length >> 8), (byte)rest.Length, .. rest];

    private static ProxyHeader Good(byte[] octets)
    {
        (ProxyStatus status, ProxyHeader? header, long used) = Read(octets);
        Assert.Equal(ProxyStatus.Header, status);
        Assert.Equal(octets.Length, used);
        return header!;
    }

    private static (ProxyStatus Status, ProxyHeader? Header, long Used) Read(byte[] octets) => Read(new ReadOnlySequence<byte>(octets));

    private static (ProxyStatus Status, ProxyHeader? Header, long Used) Read(ReadOnlySequence<byte> octets)
    {
        ProxyStatus status = ProxyHeaderParser.TryRead(octets, out ProxyHeader? header, out SequencePosition consumed);
        return (status, header, octets.Slice(0, consumed).Length);
    }

    private static ReadOnlySequence<byte> InPieces(byte[] octets, int size)
    {
        Piece first = new(octets.AsMemory(0, Math.Min(size, octets.Length)), null);
        Piece last = first;
        for (int at = size; at < octets.Length; at += size)
        {
            last = new Piece(octets.AsMemory(at, Math.Min(size, octets.Length - at)), last);
        }

        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Piece : ReadOnlySequenceSegment<byte>
    {
        public Piece(ReadOnlyMemory<byte> octets, Piece? before)
        {
            Memory = octets;
            if (before is not null)
            {
                RunningIndex = before.RunningIndex + before.Memory.Length;
                before.Next = this;
            }
        }
    }
}
