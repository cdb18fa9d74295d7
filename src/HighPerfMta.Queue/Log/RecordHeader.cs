using System.Buffers.Binary;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>
/// Our header before every payload, inside FASTER's entry. Little-endian: magic (4), version (1), type (1), zero (2), message id (8),
/// durable mark (8), payload length (4), CRC32C of the payload (4), CRC32C of the header (4). Both sums take in the log's salt (<see cref="RecordSeeds"/>), so that
/// nobody who does not know it can put a record into a message body. The durable mark is an address below which everything was on stable storage when
/// the record was appended: what is missing below it was lost, what is missing above it may never have been acknowledged.
/// </summary>
internal readonly record struct RecordHeader(RecordType Type, ulong MessageId, long DurableMark, int PayloadLength, uint PayloadSum)
{
    public const int Size = 36;

    /// <summary>FASTER's own header before an entry (length only).</summary>
    public const int EntryHeaderSize = 4;

    /// <summary>What a record takes besides its payload, bytes.</summary>
    public const int Overhead = EntryHeaderSize + Size;

    /// <summary>Type of the record that opens each run of the log; never shown to callers.</summary>
    public const RecordType Resumed = (RecordType)0xFE;

    public const uint Magic = 0x31524D48; // "HMR1"
    public const byte Version = 1;

    /// <summary>Bytes from one record's address to the next one's: entries are aligned to 4.</summary>
    public static int Footprint(int payloadLength) => EntryHeaderSize + ((Size + payloadLength + 3) & ~3);

    public void Write(Span<byte> destination, uint seed)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(destination, Magic);
        destination[4] = Version;
        destination[5] = (byte)Type;
        destination[6] = 0;
        destination[7] = 0;
        BinaryPrimitives.WriteUInt64LittleEndian(destination[8..], MessageId);
        BinaryPrimitives.WriteInt64LittleEndian(destination[16..], DurableMark);
        BinaryPrimitives.WriteInt32LittleEndian(destination[24..], PayloadLength);
        BinaryPrimitives.WriteUInt32LittleEndian(destination[28..], PayloadSum);
        BinaryPrimitives.WriteUInt32LittleEndian(destination[32..], Crc32C.Compute(seed, destination[..32]));
    }

    /// <summary>Reads a header and verifies its own sum; the payload's sum is the caller's.</summary>
    public static bool TryRead(ReadOnlySpan<byte> source, uint seed, out RecordHeader header)
    {
        header = default;
        if (source.Length < Size
            || BinaryPrimitives.ReadUInt32LittleEndian(source) != Magic
            || source[4] != Version
            || BinaryPrimitives.ReadUInt32LittleEndian(source[32..]) != Crc32C.Compute(seed, source[..32]))
        {
            return false;
        }

        header = new RecordHeader(
            (RecordType)source[5],
            BinaryPrimitives.ReadUInt64LittleEndian(source[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(source[16..]),
            BinaryPrimitives.ReadInt32LittleEndian(source[24..]),
            BinaryPrimitives.ReadUInt32LittleEndian(source[28..]));
        return true;
    }
}
