using System.Buffers.Binary;
using FASTER.core;

namespace HighPerfMta.Queue.Storage;

/// <summary>What a slot says: where the log begins, and an address up to which every record was durable when it was written.</summary>
internal readonly record struct CommitPoint(long Begin, long Durable);

/// <summary>
/// Two preallocated 4 KiB slots written in turn, each with a sequence number and a CRC32C: a torn write leaves the older one. The begin
/// address moves only here. FASTER's own commits carry nothing worth keeping: the log's tail is found by verifying its records. It is given this as its
/// commit manager so that it makes none of its own; its calls write nothing, and cannot fail inside FASTER where the failure would be swallowed.
/// </summary>
internal sealed class CommitSlots : ILogCommitManager
{
    public const string FileName = "commits";
    public const int SlotSize = 4096;
    public const int Length = 36;
    public const uint Magic = 0x544D4348; // "HCMT"

    private readonly IDiskFile _file;
    private readonly uint _seed;
    private readonly byte[] _slot = new byte[SlotSize];
    private ulong _sequence;

    private CommitSlots(IDiskFile file, ulong salt)
    {
        _file = file;
        _seed = Crc32C.Seed(salt);
    }

    /// <summary>The newest intact slot; null if neither is intact.</summary>
    public CommitPoint? Latest { get; private set; }

    /// <summary>Slots that were intact when the file was opened: 0 to 2.</summary>
    public int Intact { get; private set; }

    public static void Create(IDisk disk, string path, ulong salt, CommitPoint first)
    {
        CreateEmpty(disk, path);
        using var slots = new CommitSlots(disk.Open(path, DiskFileMode.OpenExisting), salt);
        slots.Write(first);
        slots.Write(first);
    }

    /// <summary>Makes a file whose slots are both unreadable.</summary>
    public static void CreateEmpty(IDisk disk, string path)
    {
        using IDiskFile file = disk.Open(path, DiskFileMode.CreateNew);
        file.Write(0, new byte[2 * SlotSize]);
        file.Flush();
    }

    /// <param name="disk">The disk.</param>
    /// <param name="path">The file.</param>
    /// <param name="salt">The log's.</param>
    /// <param name="mode"><see cref="DiskFileMode.ReadExisting"/>: the slots are looked at only, and never written.</param>
    public static CommitSlots Open(IDisk disk, string path, ulong salt, DiskFileMode mode = DiskFileMode.OpenExisting)
    {
        var slots = new CommitSlots(disk.Open(path, mode), salt);
        slots.Load(0);
        slots.Load(1);
        return slots;
    }

    /// <summary>Writes the slot that is not the newest and waits until it is on stable storage.</summary>
    /// <exception cref="DiskException">The newest slot is as it was.</exception>
    public void Write(CommitPoint point)
    {
        Span<byte> slot = _slot;
        slot.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(slot, Magic);
        BinaryPrimitives.WriteUInt64LittleEndian(slot[8..], _sequence + 1);
        BinaryPrimitives.WriteInt64LittleEndian(slot[16..], point.Begin);
        BinaryPrimitives.WriteInt64LittleEndian(slot[24..], point.Durable);
        BinaryPrimitives.WriteUInt32LittleEndian(slot[32..], Crc32C.Compute(_seed, slot[..32]));
        _file.Write((long)((_sequence + 1) & 1) * SlotSize, slot);
        _file.Flush();
        _sequence++;
        Latest = point;
    }

    public void Dispose() => _file.Dispose();

    void ILogCommitManager.Commit(long beginAddress, long untilAddress, byte[] commitMetadata, long commitNum, bool forceWriteMetadata)
    {
    }

    byte[]? ILogCommitManager.GetCommitMetadata(long commitNum) => null;

    IEnumerable<long> ILogCommitManager.ListCommits() => [];

    void ILogCommitManager.RemoveCommit(long commitNum)
    {
    }

    void ILogCommitManager.RemoveAllCommits()
    {
    }

    void ILogCommitManager.OnRecovery(long commitNum)
    {
    }

    private void Load(int index)
    {
        Span<byte> slot = stackalloc byte[Length];
        if (_file.Read((long)index * SlotSize, slot) < Length
            || BinaryPrimitives.ReadUInt32LittleEndian(slot) != Magic
            || BinaryPrimitives.ReadUInt32LittleEndian(slot[32..]) != Crc32C.Compute(_seed, slot[..32]))
        {
            return;
        }

        Intact++;
        ulong sequence = BinaryPrimitives.ReadUInt64LittleEndian(slot[8..]);
        if (Latest is null || sequence > _sequence)
        {
            _sequence = sequence;
            Latest = new CommitPoint(BinaryPrimitives.ReadInt64LittleEndian(slot[16..]), BinaryPrimitives.ReadInt64LittleEndian(slot[24..]));
        }
    }
}
