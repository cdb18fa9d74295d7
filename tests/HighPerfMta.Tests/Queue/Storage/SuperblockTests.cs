using System.Buffers.Binary;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;

namespace HighPerfMta.Tests.Queue.Storage;

public sealed class SuperblockTests
{
    private const string Place = LogBed.Root + "/log/" + Superblock.FileName;

    [Theory]
    [InlineData(1, "the log has format 1, of a version of this program that was never released; this program reads formats 2 to 3")]
    [InlineData(4, "the log has format 4, of a newer version of this program; this program reads formats 2 to 3")]
    [InlineData(0, "the log has format 0, which no version of this program writes; this program reads formats 2 to 3")]
    public async Task Another_format_is_refused_and_left_as_it_is(int version, string problem)
    {
        FaultyDisk disk = new();
        await LogBed.Open(disk).DisposeAsync();
        disk.Corrupt(Place, block =>
        {
            BinaryPrimitives.WriteInt32LittleEndian(block.AsSpan(8), version);
            BinaryPrimitives.WriteUInt32LittleEndian(block.AsSpan(32), Crc32C.Compute(Crc32C.Initial, block.AsSpan(0, 32)));
            return block;
        });
        byte[] before = disk.Contents(Place);
        LogOpenException refused = Assert.Throws<LogOpenException>(() => LogBed.Open(disk));
        Assert.Contains(problem, refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, disk.Contents(Place));
    }

    [Fact]
    public async Task The_format_is_3()
    {
        FaultyDisk disk = new();
        await LogBed.Open(disk).DisposeAsync();
        Assert.Equal(3, BinaryPrimitives.ReadInt32LittleEndian(disk.Contents(Place).AsSpan(8)));
    }

    [Fact]
    public async Task A_damaged_superblock_is_refused()
    {
        FaultyDisk disk = new();
        await LogBed.Open(disk).DisposeAsync();
        disk.Flip(Place, 24);
        Assert.Contains("damaged (checksum)", Assert.Throws<LogOpenException>(() => LogBed.Open(disk)).Message, StringComparison.Ordinal);
    }
}
