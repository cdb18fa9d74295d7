using System.Buffers.Binary;

namespace HighPerfMta.Queue.Storage;

/// <summary>
/// The layout of a checkpoint file. Little-endian. Header (4 KiB): magic (8), version (4), block size (4), salt (8), log address (8), durable address (8), blocks (4),
/// octets of names (4), CRC32C of the names (4), CRC32C of the table of sums (4), CRC32C of all that (4). Then the names, padded to 4 KiB; the blocks; a table with the CRC32C of each block.
/// </summary>
internal static class CheckpointFile
{
    public const string FileName = "checkpoint";
    public const string NewFileName = "checkpoint.new";
    public const int HeaderSize = 4096;
    public const int BlockSize = 1 << 20;
    public const ulong Magic = 0x54504B43544D5048; // "HPMTCKPT"
    public const int Version = 2;

    /// <summary>The one before it, which is read too: it had no deadlines (see <see cref="Index.Job"/>).</summary>
    public const int FormerVersion = 1;

    /// <summary>Most octets of names that are believed.</summary>
    public const int MaxNames = 1 << 30;

    /// <summary>Octets of the header before its sum.</summary>
    public const int Length = 56;

    public static long BlocksAt(int names) => HeaderSize + (((long)names + HeaderSize - 1) / HeaderSize * HeaderSize);

    public static void Write(Span<byte> header, in CheckpointHeader values, ulong salt)
    {
        header.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        BinaryPrimitives.WriteInt32LittleEndian(header[8..], Version);
        BinaryPrimitives.WriteInt32LittleEndian(header[12..], BlockSize);
        BinaryPrimitives.WriteUInt64LittleEndian(header[16..], salt);
        BinaryPrimitives.WriteInt64LittleEndian(header[24..], values.Address);
        BinaryPrimitives.WriteInt64LittleEndian(header[32..], values.Durable);
        BinaryPrimitives.WriteInt32LittleEndian(header[40..], values.Blocks);
        BinaryPrimitives.WriteInt32LittleEndian(header[44..], values.Names);
        BinaryPrimitives.WriteUInt32LittleEndian(header[48..], values.NamesSum);
        BinaryPrimitives.WriteUInt32LittleEndian(header[52..], values.TableSum);
        BinaryPrimitives.WriteUInt32LittleEndian(header[Length..], Crc32C.Compute(Crc32C.Seed(salt), header[..Length]));
    }

    /// <summary>Null with the reason if it is not the header of a checkpoint of this log that this program understands.</summary>
    public static CheckpointHeader? Read(ReadOnlySpan<byte> header, ulong salt, out string problem)
    {
        problem = "it is not a checkpoint, or is damaged";
        if (header.Length < HeaderSize || BinaryPrimitives.ReadUInt64LittleEndian(header) != Magic)
        {
            return null;
        }

        int version = BinaryPrimitives.ReadInt32LittleEndian(header[8..]);
        if (version is not (Version or FormerVersion))
        {
            problem = $"it has format {version}, this program reads formats {FormerVersion} and {Version}";
            return null;
        }

        bool intact = BinaryPrimitives.ReadUInt32LittleEndian(header[Length..]) == Crc32C.Compute(Crc32C.Seed(salt), header[..Length]);
        if (!intact || BinaryPrimitives.ReadUInt64LittleEndian(header[16..]) != salt || BinaryPrimitives.ReadInt32LittleEndian(header[12..]) != BlockSize)
        {
            return null;
        }

        CheckpointHeader values = new(
            BinaryPrimitives.ReadInt64LittleEndian(header[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(header[32..]),
            BinaryPrimitives.ReadInt32LittleEndian(header[40..]),
            BinaryPrimitives.ReadInt32LittleEndian(header[44..]),
            BinaryPrimitives.ReadUInt32LittleEndian(header[48..]),
            BinaryPrimitives.ReadUInt32LittleEndian(header[52..]),
            version);
        return values.Blocks >= 0 && values.Names is >= 0 and <= MaxNames && values.Address <= values.Durable ? values : null;
    }
}

internal readonly record struct CheckpointHeader(long Address, long Durable, int Blocks, int Names, uint NamesSum, uint TableSum, int Version = CheckpointFile.Version);

/// <summary>
/// Writes a checkpoint under another name and puts it in the old one's place when it is whole and on stable storage. Disposed before that, it leaves the old one as it was. Every failure
/// is a <see cref="DiskException"/>.
/// </summary>
public sealed class CheckpointWriter : IDisposable
{
    private readonly IDisk _disk;
    private readonly string _directory;
    private readonly ulong _salt;
    private readonly long _address;
    private readonly Action _ended;
    private readonly List<uint> _sums = [];
    private IDiskFile? _file;
    private int _names;
    private uint _namesSum;

    internal CheckpointWriter(IDisk disk, string directory, ulong salt, long address, Action ended)
    {
        _disk = disk;
        _directory = directory;
        _salt = salt;
        _address = address;
        _ended = ended;
        try
        {
            disk.Delete(NewPath);
            _file = disk.Open(NewPath, DiskFileMode.CreateNew);
        }
        catch
        {
            ended();
            throw;
        }
    }

    private string NewPath => Path.Combine(_directory, CheckpointFile.NewFileName);

    /// <summary>The names section; once, before the first block.</summary>
    public void AppendNames(ReadOnlySpan<byte> names)
    {
        _names = names.Length;
        _namesSum = Crc32C.Compute(Crc32C.Seed(_salt), names);
        Put(CheckpointFile.HeaderSize, names);
    }

    /// <summary>One block of <see cref="CheckpointFile.BlockSize"/> bytes.</summary>
    public void AppendBlock(ReadOnlySpan<byte> block)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(block.Length, CheckpointFile.BlockSize);
        Put(CheckpointFile.BlocksAt(_names) + ((long)_sums.Count * CheckpointFile.BlockSize), block);
        _sums.Add(Crc32C.Compute(Crc32C.Seed(_salt), block));
    }

    // Piece by piece: the flush at the end would send the whole table at once, and commits would wait for it.
    private void Put(long offset, ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            int count = Math.Min(data.Length, Writeback.Piece);
            _file!.Write(offset, data[..count]);
            _file.WriteBack(offset, count);
            offset += count;
            data = data[count..];
        }
    }

    /// <summary>Makes it the log's checkpoint.</summary>
    /// <param name="durable">Address below which the log is on stable storage, at or above everything that the blocks refer to.</param>
    public void Complete(long durable)
    {
        byte[] table = new byte[sizeof(uint) * _sums.Count];
        for (int i = 0; i < _sums.Count; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(i * sizeof(uint)), _sums[i]);
        }

        byte[] header = new byte[CheckpointFile.HeaderSize];
        uint tableSum = Crc32C.Compute(Crc32C.Seed(_salt), table);
        CheckpointFile.Write(header, new CheckpointHeader(_address, durable, _sums.Count, _names, _namesSum, tableSum), _salt);
        _file!.Write(CheckpointFile.BlocksAt(_names) + ((long)_sums.Count * CheckpointFile.BlockSize), table);
        _file.Write(0, header);
        _file.Flush();
        _file.Dispose();
        _file = null;
        _disk.Rename(NewPath, Path.Combine(_directory, CheckpointFile.FileName));
        _disk.SyncDirectory(_directory);
    }

    public void Dispose()
    {
        _file?.Dispose();
        _file = null;
        _ended();
    }
}

/// <summary>A checkpoint found when the log was opened. Only its header is known to be intact; names and blocks are verified when they are read.</summary>
public sealed class CheckpointReader : IDisposable
{
    private readonly IDiskFile _file;
    private readonly CheckpointHeader _header;
    private readonly uint _seed;
    private byte[]? _table;

    private CheckpointReader(IDiskFile file, CheckpointHeader header, ulong salt)
    {
        _file = file;
        _header = header;
        _seed = Crc32C.Seed(salt);
    }

    /// <summary>Everything that the log holds below it is in the checkpoint; what is there or behind it may be.</summary>
    public long Address => _header.Address;

    /// <summary>The log was on stable storage below it when the checkpoint was completed.</summary>
    public long Durable => _header.Durable;

    public int Blocks => _header.Blocks;

    /// <summary>Format of its jobs.</summary>
    public int Version => _header.Version;

    /// <summary>Null with the reason if there is none or it cannot be used.</summary>
    internal static CheckpointReader? Open(IDisk disk, string directory, ulong salt, out string? problem)
    {
        problem = null;
        string path = Path.Combine(directory, CheckpointFile.FileName);
        IDiskFile? file = null;
        try
        {
            if (!disk.FileExists(path))
            {
                return null;
            }

            file = disk.Open(path, DiskFileMode.ReadExisting);
            byte[] header = new byte[CheckpointFile.HeaderSize];
            int read = file.Read(0, header);
            if (CheckpointFile.Read(header.AsSpan(0, read), salt, out string reason) is { } values)
            {
                return new CheckpointReader(file, values, salt);
            }

            problem = reason;
        }
        catch (DiskException e)
        {
            problem = e.Message;
        }

        file?.Dispose();
        return null;
    }

    /// <summary>False: they cannot be read, or are not what was written.</summary>
    public bool TryReadNames(out byte[] names)
    {
        names = new byte[_header.Names];
        return TryRead(CheckpointFile.HeaderSize, names) && Crc32C.Compute(_seed, names) == _header.NamesSum;
    }

    /// <summary>Reads one block into <paramref name="destination"/>, of a block's size. False: it cannot be read, or is not what was written.</summary>
    public bool TryReadBlock(int index, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Blocks);
        long blocks = CheckpointFile.BlocksAt(_header.Names);
        if (_table is null)
        {
            byte[] table = new byte[sizeof(uint) * Blocks];
            if (!TryRead(blocks + ((long)Blocks * CheckpointFile.BlockSize), table) || Crc32C.Compute(_seed, table) != _header.TableSum)
            {
                return false;
            }

            _table = table;
        }

        uint sum = BinaryPrimitives.ReadUInt32LittleEndian(_table.AsSpan(index * sizeof(uint)));
        return TryRead(blocks + ((long)index * CheckpointFile.BlockSize), destination) && Crc32C.Compute(_seed, destination) == sum;
    }

    public void Dispose() => _file.Dispose();

    private bool TryRead(long offset, Span<byte> destination)
    {
        try
        {
            return _file.Read(offset, destination) == destination.Length;
        }
        catch (DiskException)
        {
            return false;
        }
    }
}
