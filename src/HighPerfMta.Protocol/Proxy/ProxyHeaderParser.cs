using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Numerics;
using System.Text;

namespace HighPerfMta.Protocol.Proxy;

/// <summary>
/// The header that a balancer puts before the octets of a connection: the PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy). Pure: "need more"
/// consumes nothing, and any split of the same octets gives the same result.
/// </summary>
public static class ProxyHeaderParser
{
    /// <summary>Octets of a header of version 1 with its CRLF (§2.1).</summary>
    public const int MaxText = 107;

    /// <summary>Octets of a header of version 2 that are looked at; §2.2 asks for 536 at least, and certificates in TLVs are not sent to mail servers.</summary>
    public const int MaxBinary = 4096;

    private const int FixedPart = 16;
    private const byte Crc32C = 3;

    private static ReadOnlySpan<byte> Text => "PROXY "u8;

    private static ReadOnlySpan<byte> Signature => [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];

    /// <param name="buffer">What was received, from the first octet of the connection.</param>
    /// <param name="header">Only for <see cref="ProxyStatus.Header"/>.</param>
    /// <param name="consumed">Where the octets of the connection itself begin; the buffer's start unless <see cref="ProxyStatus.Header"/>.</param>
    public static ProxyStatus TryRead(in ReadOnlySequence<byte> buffer, out ProxyHeader? header, out SequencePosition consumed)
    {
        header = null;
        consumed = buffer.Start;
        int length = (int)Math.Min(buffer.Length, MaxBinary);
        byte[]? rented = null;
        ReadOnlySpan<byte> octets = buffer.FirstSpan;
        try
        {
            if (octets.Length < length)
            {
                rented = ArrayPool<byte>.Shared.Rent(length);
                buffer.Slice(0, length).CopyTo(rented);
                octets = rented.AsSpan(0, length);
            }

            ProxyStatus status = Read(octets, out header, out int used);
            consumed = buffer.GetPosition(used);
            return status;
        }
        finally
        {
            if (rented is not null)
            {
                ArrayPool<byte>.Shared.Return(rented);
            }
        }
    }

    private static ProxyStatus Read(ReadOnlySpan<byte> octets, out ProxyHeader? header, out int used)
    {
        header = null;
        used = 0;
        if (Begins(octets, Text))
        {
            return octets.Length < Text.Length ? ProxyStatus.NeedMore : ReadText(octets, out header, out used);
        }

        if (Begins(octets, Signature))
        {
            return octets.Length < FixedPart ? ProxyStatus.NeedMore : ReadBinary(octets, out header, out used);
        }

        return ProxyStatus.Missing;
    }

    private static bool Begins(ReadOnlySpan<byte> octets, ReadOnlySpan<byte> signature) =>
        octets.Length < signature.Length ? signature.StartsWith(octets) : octets.StartsWith(signature);

    private static ProxyStatus ReadText(ReadOnlySpan<byte> octets, out ProxyHeader? header, out int used)
    {
        header = null;
        used = 0;
        ReadOnlySpan<byte> line = octets.Length > MaxText ? octets[..MaxText] : octets;
        int end = line.IndexOf("\r\n"u8);
        if (end < 0)
        {
            return line.Length == MaxText ? ProxyStatus.Malformed : ProxyStatus.NeedMore;
        }

        used = end + 2;
        ReadOnlySpan<byte> rest = line[Text.Length..end];
        bool six = rest.StartsWith("TCP6 "u8);
        if (rest.StartsWith("UNKNOWN"u8) && (rest.Length == 7 || rest[7] == ' '))
        {
            // §2.1: whatever stands behind it is not looked at.
            header = ProxyHeader.Unknown;
        }
        else if (six || rest.StartsWith("TCP4 "u8))
        {
            header = ReadAddresses(rest[5..], six ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork);
        }

        used = header is null ? 0 : used;
        return header is null ? ProxyStatus.Malformed : ProxyStatus.Header;
    }

    /// <summary>Source, destination, source port, destination port, one space between each.</summary>
    private static ProxyHeader? ReadAddresses(ReadOnlySpan<byte> text, AddressFamily family)
    {
        string[] parts = Encoding.ASCII.GetString(text).Split(' ');
        if (parts.Length != 4
            || ReadAddress(parts[0], family) is not { } source || ReadAddress(parts[1], family) is not { } destination
            || ReadPort(parts[2]) is not { } sourcePort || ReadPort(parts[3]) is not { } destinationPort)
        {
            return null;
        }

        return new ProxyHeader(ProxyOrigin.Tcp, new IPEndPoint(source, sourcePort), new IPEndPoint(destination, destinationPort));
    }

    /// <summary>Canonical text only: no scope, no brackets, and for IPv4 four numbers without leading zeros.</summary>
    private static IPAddress? ReadAddress(string text, AddressFamily family)
    {
        bool six = family == AddressFamily.InterNetworkV6;
        if (text.AsSpan().ContainsAnyExcept(six ? "0123456789abcdefABCDEF:." : "0123456789.")
            || !IPAddress.TryParse(text, out IPAddress? address) || address.AddressFamily != family)
        {
            return null;
        }

        return six || address.ToString() == text ? address : null;
    }

    /// <summary>Digits without leading zeros.</summary>
    private static int? ReadPort(string text) =>
        ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) && (text.Length == 1 || text[0] != '0') ? port : null;

    private static ProxyStatus ReadBinary(ReadOnlySpan<byte> octets, out ProxyHeader? header, out int used)
    {
        header = null;
        used = 0;
        byte versionAndCommand = octets[12];
        byte familyAndProtocol = octets[13];
        int total = FixedPart + BinaryPrimitives.ReadUInt16BigEndian(octets[14..]);
        if (versionAndCommand is not (0x20 or 0x21) || total > MaxBinary)
        {
            return ProxyStatus.Malformed;
        }

        if (octets.Length < total)
        {
            return ProxyStatus.NeedMore;
        }

        ReadOnlySpan<byte> whole = octets[..total];
        header = versionAndCommand == 0x20 ? ProxyHeader.Local : ReadFamily(familyAndProtocol, whole[FixedPart..], out int addresses) is { } read && HasNoFault(whole, addresses) ? read : null;
        used = header is null ? 0 : total;
        return header is null ? ProxyStatus.Malformed : ProxyStatus.Header;
    }

    /// <param name="familyAndProtocol">§2.2: AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX in the upper half, UNSPEC, STREAM, DGRAM in the lower one.</param>
    /// <param name="rest">What follows the fixed part.</param>
    /// <param name="addresses">Octets of the addresses; TLVs follow.</param>
    private static ProxyHeader? ReadFamily(byte familyAndProtocol, ReadOnlySpan<byte> rest, out int addresses)
    {
        addresses = familyAndProtocol switch
        {
            0x11 => 12,
            0x21 => 36,
            0x31 or 0x32 => 216,
            _ => 0,
        };
        if (rest.Length < addresses)
        {
            return null;
        }

        switch (familyAndProtocol)
        {
            case 0x11:
                return Tcp(rest, 4);
            case 0x21:
                return Tcp(rest, 16);
            case 0x00 or 0x31 or 0x32:
                return ProxyHeader.Unknown;
            default:
                // Datagrams carry no SMTP, and what is not assigned must be refused (§2.2).
                return null;
        }
    }

    private static ProxyHeader Tcp(ReadOnlySpan<byte> octets, int size)
    {
        ReadOnlySpan<byte> ports = octets[(2 * size)..];
        return new ProxyHeader(
            ProxyOrigin.Tcp,
            new IPEndPoint(new IPAddress(octets[..size]), BinaryPrimitives.ReadUInt16BigEndian(ports)),
            new IPEndPoint(new IPAddress(octets[size..(2 * size)]), BinaryPrimitives.ReadUInt16BigEndian(ports[2..])));
    }

    /// <summary>
    /// The TLVs fill what is left of the header, and a checksum among them is right. Behind a family that is not said there may be anything (§2.2), which is not looked at.
    /// </summary>
    private static bool HasNoFault(ReadOnlySpan<byte> whole, int addresses)
    {
        if (whole[13] == 0x00)
        {
            return true;
        }

        for (int at = FixedPart + addresses; at < whole.Length;)
        {
            if (whole.Length - at < 3)
            {
                return false;
            }

            int length = BinaryPrimitives.ReadUInt16BigEndian(whole[(at + 1)..]);
            int value = at + 3;
            if (length > whole.Length - value || (whole[at] == Crc32C && !IsChecksum(whole, value, length)))
            {
                return false;
            }

            at = value + length;
        }

        return true;
    }

    /// <summary>§2.2.3: CRC-32C of the whole header with the checksum's own octets as zeros.</summary>
    private static bool IsChecksum(ReadOnlySpan<byte> whole, int at, int length)
    {
        if (length != sizeof(uint))
        {
            return false;
        }

        uint crc = uint.MaxValue;
        for (int i = 0; i < whole.Length; i++)
        {
            crc = BitOperations.Crc32C(crc, i >= at && i < at + length ? (byte)0 : whole[i]);
        }

        return ~crc == BinaryPrimitives.ReadUInt32BigEndian(whole[at..]);
    }
}
