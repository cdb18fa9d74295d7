using System.Numerics;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Log;

/// <summary>What the sums of a log's records start from: its salt, and for a header, where the format has it so, the address at which the record is.</summary>
internal readonly struct RecordSeeds(Superblock superblock)
{
    /// <summary>See <see cref="Superblock.BindsAddresses"/>.</summary>
    public bool BindAddresses { get; } = superblock.BindsAddresses;

    /// <summary>For the sum of a payload.</summary>
    public uint Payload { get; } = Crc32C.Seed(superblock.Salt);

    /// <summary>For the sum of the header of the record at an address.</summary>
    public uint Header(long address) => BindAddresses ? BitOperations.Crc32C(Payload, (ulong)address) : Payload;
}
