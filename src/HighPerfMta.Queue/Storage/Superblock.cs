using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;

namespace HighPerfMta.Queue.Storage;

/// <summary>
/// What never changes in a log: its format, its salt and its sizes. The sizes here win over the configured ones. Little-endian:
/// magic (8), version (4), page size (4), segment size (8), salt (8), CRC32C of all that (4).
/// </summary>
/// <param name="SegmentSize">Bytes of a segment.</param>
/// <param name="PageSize">Bytes of a page.</param>
/// <param name="Salt">What every sum of this log takes in.</param>
/// <param name="Format">The log's format, one of those that this program reads.</param>
internal sealed record Superblock(long SegmentSize, int PageSize, ulong Salt, int Format = Superblock.CurrentVersion)
{
    public const string FileName = "superblock";

    /// <summary>
    /// Raised with every change that an older program would misread: it must not open the log then. Format 1 knew no Routed, Copied and SteeredMany records and was never released; a log of format 2 stays one.
    /// </summary>
    public const int CurrentVersion = 3;

    /// <summary>The oldest format that this program reads and goes on writing where it finds it.</summary>
    public const int OldestVersion = 2;

    /// <summary>Octets that are in use; the file has 4 KiB.</summary>
    public const int Length = 36;

    public const ulong Magic = 0x474F4C41544D5048; // "HPMTALOG"

    /// <summary>
    /// The sum of a record's header takes in the record's address, so that what a segment held under an earlier number is never taken for records of the present one. Before format 3 a segment has to
    /// be zeros before it is used again.
    /// </summary>
    public bool BindsAddresses => Format >= 3;

    public static Superblock Create(long segmentSize, int pageSize, int format = CurrentVersion)
    {
        Span<byte> salt = stackalloc byte[sizeof(ulong)];
        RandomNumberGenerator.Fill(salt);
        return new Superblock(segmentSize, pageSize, BinaryPrimitives.ReadUInt64LittleEndian(salt), format);
    }

    public void Write(IDisk disk, string path)
    {
        byte[] block = new byte[4096];
        BinaryPrimitives.WriteUInt64LittleEndian(block, Magic);
        BinaryPrimitives.WriteInt32LittleEndian(block.AsSpan(8), Format);
        BinaryPrimitives.WriteInt32LittleEndian(block.AsSpan(12), PageSize);
        BinaryPrimitives.WriteInt64LittleEndian(block.AsSpan(16), SegmentSize);
        BinaryPrimitives.WriteUInt64LittleEndian(block.AsSpan(24), Salt);
        BinaryPrimitives.WriteUInt32LittleEndian(block.AsSpan(32), Crc32C.Compute(Crc32C.Initial, block.AsSpan(0, 32)));
        using IDiskFile file = disk.Open(path, DiskFileMode.CreateNew);
        file.Write(0, block);
        file.Flush();
    }

    /// <summary>Reads the superblock; null with the reason if it is not one that this program understands.</summary>
    public static Superblock? Read(IDisk disk, string path, out string problem)
    {
        Span<byte> block = stackalloc byte[Length];
        using (IDiskFile file = disk.Open(path, DiskFileMode.ReadExisting))
        {
            if (file.Read(0, block) < Length || BinaryPrimitives.ReadUInt64LittleEndian(block) != Magic)
            {
                problem = "it is not the superblock of a HighPerfMta log";
                return null;
            }
        }

        // Every format keeps magic and version where they are; the rest, its sum among it, may be elsewhere.
        int version = BinaryPrimitives.ReadInt32LittleEndian(block[8..]);
        if (version is < OldestVersion or > CurrentVersion)
        {
            string whose = version switch
            {
                1 => ", of a version of this program that was never released",
                > CurrentVersion => ", of a newer version of this program",
                _ => ", which no version of this program writes",
            };
            problem = $"the log has format {version}{whose}; this program reads formats {OldestVersion} to {CurrentVersion}";
            return null;
        }

        int pageSize = BinaryPrimitives.ReadInt32LittleEndian(block[12..]);
        long segmentSize = BinaryPrimitives.ReadInt64LittleEndian(block[16..]);
        bool intact = BinaryPrimitives.ReadUInt32LittleEndian(block[32..]) == Crc32C.Compute(Crc32C.Initial, block[..32]);
        if (!intact || !BitOperations.IsPow2(pageSize) || !BitOperations.IsPow2(segmentSize) || pageSize > segmentSize)
        {
            problem = "the superblock is damaged (checksum)";
            return null;
        }

        problem = "";
        return new Superblock(segmentSize, pageSize, BinaryPrimitives.ReadUInt64LittleEndian(block[24..]), version);
    }
}
