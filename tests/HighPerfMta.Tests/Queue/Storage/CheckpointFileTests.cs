using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Storage;

/// <summary>The checkpoint file: what was completed is read back, and nothing else is ever believed.</summary>
public class CheckpointFileTests
{
    private const string Folder = "/log";
    private const ulong Salt = 77;
    private const string File = $"{Folder}/{CheckpointFile.FileName}";

    private readonly FaultyDisk _disk = new();

    public CheckpointFileTests()
    {
        _disk.CreateDirectory(Folder);
        _disk.SyncDirectory("/");
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 10)]
    [InlineData(3, 5000)]
    public void What_was_written_is_read_back(int blocks, int names)
    {
        Write(1000, blocks, names);
        using CheckpointReader reader = Open()!;
        Assert.Equal(1000, reader.Address);
        Assert.Equal(2000, reader.Durable);
        Assert.Equal(blocks, reader.Blocks);
        Assert.True(reader.TryReadNames(out byte[] found));
        Assert.Equal(Octets(names, 99), found);
        byte[] block = new byte[CheckpointFile.BlockSize];
        for (int i = blocks - 1; i >= 0; i--)
        {
            Assert.True(reader.TryReadBlock(i, block));
            Assert.Equal(Octets(CheckpointFile.BlockSize, i), block);
        }
    }

    [Fact]
    public void Without_a_file_there_is_none_and_nothing_is_wrong()
    {
        Assert.Null(CheckpointReader.Open(_disk, Folder, Salt, out string? problem));
        Assert.Null(problem);
    }

    [Fact]
    public void One_of_another_log_is_not_believed()
    {
        Write(1000, 1, 10);
        Assert.Null(CheckpointReader.Open(_disk, Folder, Salt + 1, out string? problem));
        Assert.NotNull(problem);
    }

    [Fact]
    public void One_of_a_newer_program_says_so()
    {
        Write(1000, 1, 10);
        _disk.Corrupt(File, static octets =>
        {
            octets[8] = 9;
            return octets;
        });
        Assert.Null(CheckpointReader.Open(_disk, Folder, Salt, out string? problem));
        Assert.Contains("format 9", problem, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(24)]
    [InlineData(40)]
    [InlineData(56)]
    public void A_flipped_header_is_not_believed(int offset)
    {
        Write(1000, 1, 10);
        _disk.Flip(File, offset);
        Assert.Null(Open());
    }

    [Fact]
    public void Flipped_names_and_blocks_are_found_when_they_are_read()
    {
        Write(1000, 3, 5000);
        _disk.Flip(File, CheckpointFile.HeaderSize + 100);
        _disk.Flip(File, CheckpointFile.BlocksAt(5000) + CheckpointFile.BlockSize + 5);
        using CheckpointReader reader = Open()!;
        Assert.False(reader.TryReadNames(out _));
        byte[] block = new byte[CheckpointFile.BlockSize];
        Assert.True(reader.TryReadBlock(0, block));
        Assert.False(reader.TryReadBlock(1, block));
        Assert.True(reader.TryReadBlock(2, block));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(CheckpointFile.BlockSize)]
    [InlineData((3 * CheckpointFile.BlockSize) + 4000)]
    public void A_file_cut_short_is_not_believed_as_far_as_it_is_missing(int cut)
    {
        Write(1000, 3, 5000);
        _disk.Corrupt(File, octets => octets[..^cut]);
        using CheckpointReader? reader = Open();
        byte[] block = new byte[CheckpointFile.BlockSize];
        Assert.False(reader?.TryReadBlock(2, block) ?? false);
    }

    [Fact]
    public void A_writer_that_gives_up_leaves_the_old_one()
    {
        Write(1000, 1, 10);
        using (CheckpointWriter writer = Begin(5000))
        {
            writer.AppendNames(Octets(10, 1));
            writer.AppendBlock(Octets(CheckpointFile.BlockSize, 1));
        }

        Assert.Equal(1000, Open()!.Address);
        Write(6000, 1, 10);
        Assert.Equal(6000, Open()!.Address);
    }

    [Theory]
    [InlineData(DiskOperations.Write)]
    [InlineData(DiskOperations.Flush)]
    [InlineData(DiskOperations.Rename)]
    public void A_disk_that_fails_leaves_the_old_one(DiskOperations operation)
    {
        Write(1000, 1, 10);
        using (_disk.Fail(operation, DiskException.InputOutput))
        {
            Assert.Throws<DiskException>(() => Write(5000, 2, 10));
        }

        using CheckpointReader reader = Open()!;
        Assert.Equal(1000, reader.Address);
        Assert.True(reader.TryReadBlock(0, new byte[CheckpointFile.BlockSize]));
    }

    [Fact]
    public void A_power_cut_leaves_the_old_one_or_the_new_one_whole()
    {
        Write(1000, 1, 10);
        List<FaultyDisk> cuts = [];
        int seed = 0;
        _disk.Before = (_, _) => cuts.Add(_disk.PowerCut(seed++));
        Write(5000, 2, 3000);
        _disk.Before = null;
        cuts.Add(_disk.PowerCut(seed));
        Assert.All(cuts, static cut =>
        {
            using CheckpointReader reader = CheckpointReader.Open(cut, Folder, Salt, out _)!;
            Assert.True(reader.TryReadNames(out _));
            Assert.True(reader.TryReadBlock(reader.Blocks - 1, new byte[CheckpointFile.BlockSize]));
        });
        Assert.Equal(5000, CheckpointReader.Open(cuts[^1], Folder, Salt, out _)!.Address);
    }

    private CheckpointReader? Open() => CheckpointReader.Open(_disk, Folder, Salt, out _);

    private CheckpointWriter Begin(long address) => new(_disk, Folder, Salt, address, static () => { });

    [Fact]
    public void The_device_gets_it_piece_by_piece_as_it_is_written()
    {
        List<DiskOperations> seen = [];
        _disk.Before = (operation, path) =>
        {
            if (path.Contains(CheckpointFile.NewFileName, StringComparison.Ordinal))
            {
                seen.Add(operation);
            }
        };

        Write(1000, 3, Writeback.Piece + 1);

        int pieces = 2 + (3 * CheckpointFile.BlockSize / Writeback.Piece);
        List<DiskOperations> puts = seen[seen.IndexOf(DiskOperations.Write)..(seen.LastIndexOf(DiskOperations.WriteBack) + 1)];
        Assert.Equal(Enumerable.Range(0, pieces).SelectMany(static _ => (DiskOperations[])[DiskOperations.Write, DiskOperations.WriteBack]), puts);
    }

    [Fact]
    public void Octets_that_the_device_did_not_take_are_an_error_though_the_flush_would_succeed()
    {
        Write(1000, 1, 10);
        using (CheckpointWriter writer = Begin(3000))
        {
            writer.AppendNames(Octets(10, 99));
            using DiskFault fault = _disk.Fail(DiskOperations.WriteBack, DiskException.InputOutput);
            Assert.Equal(DiskException.InputOutput, Assert.Throws<DiskException>(() => writer.AppendBlock(Octets(CheckpointFile.BlockSize, 0))).Errno);
        }

        using CheckpointReader reader = Open()!;
        Assert.Equal(1000, reader.Address);
    }

    private void Write(long address, int blocks, int names)
    {
        using CheckpointWriter writer = Begin(address);
        writer.AppendNames(Octets(names, 99));
        for (int i = 0; i < blocks; i++)
        {
            writer.AppendBlock(Octets(CheckpointFile.BlockSize, i));
        }

        writer.Complete(address + 1000);
    }

    private static byte[] Octets(int count, int seed)
    {
        byte[] octets = new byte[count];
        new Random(seed).NextBytes(octets);
        return octets;
    }
}
