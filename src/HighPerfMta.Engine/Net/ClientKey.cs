using System.Buffers.Binary;
using System.Net;

namespace HighPerfMta.Engine.Net;

/// <summary>Client addresses as numbers, for tables that hold many of them: 16 octets and no object. IPv4 is in its IPv4-mapped form.</summary>
internal static class ClientKey
{
    private const uint Mapped = 0xFFFF;

    public static UInt128 Of(IPAddress address)
    {
        Span<byte> octets = stackalloc byte[16];
        return address.TryWriteBytes(octets, out int length) && length == sizeof(uint)
            ? new UInt128(0, ((ulong)Mapped << 32) | BinaryPrimitives.ReadUInt32BigEndian(octets))
            : BinaryPrimitives.ReadUInt128BigEndian(octets);
    }

    /// <summary>The network that an address counts to: a /24 of IPv4, a /64 of IPv6.</summary>
    public static UInt128 NetworkOf(UInt128 address) => address >> 32 == Mapped ? address & ~(UInt128)byte.MaxValue : address & ~(UInt128)ulong.MaxValue;
}
