using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Storage;

public class CommitSlotsTests
{
    private const string Name = "/slots";
    private const ulong Salt = 0x1234_5678_9ABC_DEF0;
    private readonly FaultyDisk _disk = new();

    [Fact]
    public void A_torn_or_lost_write_leaves_the_slot_before_it()
    {
        CommitSlots.Create(_disk, Name, Salt, new CommitPoint(64, 64));
        _disk.SyncDirectory("/");
        using CommitSlots slots = CommitSlots.Open(_disk, Name, Salt);
        for (int i = 1; i < 40; i++)
        {
            var next = new CommitPoint(64 + (i * 1000), 70 + (i * 1000));
            CommitPoint before = slots.Latest!.Value;
            using (DiskFault flush = _disk.Fail(DiskOperations.Flush, DiskException.InputOutput))
            {
                Assert.Throws<DiskException>(() => slots.Write(next));
            }

            Assert.Equal(before, slots.Latest);
            using CommitSlots cut = CommitSlots.Open(_disk.PowerCut(i), Name, Salt);
            Assert.Contains(cut.Latest!.Value, new[] { before, next });
            slots.Write(next);
            using CommitSlots after = CommitSlots.Open(_disk.PowerCut(i), Name, Salt);
            Assert.Equal(next, after.Latest);
        }
    }

    [Fact]
    public void A_write_that_fails_is_told()
    {
        CommitSlots.Create(_disk, Name, Salt, new CommitPoint(64, 64));
        using CommitSlots slots = CommitSlots.Open(_disk, Name, Salt);
        using DiskFault full = _disk.Fail(DiskOperations.Write, DiskException.NoSpace);
        Assert.True(Assert.Throws<DiskException>(() => slots.Write(new CommitPoint(1000, 1000))).IsFull);
        Assert.Equal(new CommitPoint(64, 64), slots.Latest);
    }

    [Fact]
    public void Any_flipped_octet_makes_a_slot_unreadable_and_so_does_another_salt()
    {
        CommitSlots.Create(_disk, Name, Salt, new CommitPoint(64, 64));
        using (CommitSlots slots = CommitSlots.Open(_disk, Name, Salt))
        {
            slots.Write(new CommitPoint(5000, 6000));
        }

        for (int at = 0; at < 36; at++)
        {
            FaultyDisk damaged = _disk.Crash();
            damaged.Flip(Name, 4096 + at);
            damaged.Flip(Name, at);
            using CommitSlots slots = CommitSlots.Open(damaged, Name, Salt);
            Assert.Null(slots.Latest);
        }

        using CommitSlots other = CommitSlots.Open(_disk, Name, Salt + 1);
        Assert.Null(other.Latest);
    }
}
