using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Storage;

/// <summary>What becomes of segments that nobody needs any more, in a log where they have to be zeros before they are used again. The stock's loop goes only where a test lets it.</summary>
public sealed class SegmentReuseTests : IDisposable
{
    private const int Size = 64 << 10;
    private static readonly byte[] Mail = LogBed.Payload(1, Size);
    private readonly FaultyDisk _disk = new();
    private readonly FakeTimeProvider _time = new();
    private readonly StepBackground _background = new();
    private readonly List<string> _deleted = [];
    private readonly SegmentStore _store;
    private readonly SegmentStock _stock;
    private long _tail;

    public SegmentReuseTests()
    {
        _disk.CreateDirectory("/log");
        _disk.SyncDirectory("/");
        _disk.Before = (operation, path) =>
        {
            if (operation == DiskOperations.Delete)
            {
                _deleted.Add(path);
            }

            // Zeroing a segment takes a millisecond.
            _time.Advance(TimeSpan.FromMilliseconds(operation == DiskOperations.Flush && path.Contains("filling", StringComparison.Ordinal) ? 1 : 0));
        };
        _store = new SegmentStore(_disk, "/log", Size);
        _stock = new SegmentStock(_disk, _store, target: 2, lowWater: 10 * Size, static () => { }, NullLogger.Instance, () => _tail, _time, _background);
        _stock.Start();
        _background.Run();
        _stock.Provide(0);
        _background.Run();
        _store.Open(0).Write(0, Mail);
    }

    public void Dispose()
    {
        _stock.Dispose();
        _store.Dispose();
    }

    [Fact]
    public void It_is_the_next_spare_when_it_is_zeros_and_nothing_is_made_or_deleted()
    {
        Enter(1);
        string[] before = _disk.AllFiles().Order().ToArray();
        Assert.Equal(1, _stock.TakeBack(1));
        Assert.False(_store.Contains(0));
        Assert.Equal(3 * Size, _stock.CapacityEnd);
        _background.Run();
        Assert.Equal(4 * Size, _stock.CapacityEnd);
        Assert.Equal(before.Length, _disk.AllFiles().Count);
        Assert.Empty(_deleted);
        Assert.All(Spares(), path =>
        {
            Assert.Equal(new byte[Size], _disk.Contents(path));
            Assert.True(_disk.IsDurable(path, 0, Size));
        });
    }

    [Fact]
    public void The_last_segment_and_those_from_the_address_on_stay()
    {
        Enter(1);
        Assert.Equal(0, _stock.TakeBack(0));
        Assert.Equal(1, _stock.TakeBack(5));
        Assert.True(_store.Contains(1));
    }

    [Fact]
    public void More_than_are_wanted_are_deleted()
    {
        Enter(1, lasted: TimeSpan.Zero);
        Enter(2, lasted: TimeSpan.Zero);
        Assert.Equal(2, _stock.TakeBack(2));
        Assert.Equal(["/log/seg.0000000000", "/log/seg.0000000001"], _deleted);
        Assert.Equal(5 * Size, _stock.CapacityEnd);
    }

    [Fact]
    public void A_new_file_is_made_only_when_half_of_the_segment_is_used()
    {
        Enter(1);
        Assert.Equal(3 * Size, _stock.CapacityEnd);
        _tail = (3 * Size / 2) - 1;
        _stock.Reached(_tail);
        _stock.Poke();
        _background.Run();
        Assert.Equal(3 * Size, _stock.CapacityEnd);
        _stock.Reached(++_tail);
        _background.Run();
        Assert.Equal(4 * Size, _stock.CapacityEnd);
    }

    /// <summary>The thread that writes can be faster than the one that appended and has not said so yet.</summary>
    [Fact]
    public void What_was_written_counts_before_it_is_known_to_be_appended()
    {
        Enter(1);
        _tail = (3 * Size / 2) - 1000;
        _stock.Reached(3 * Size / 2);
        _background.Run();
        Assert.Equal(4 * Size, _stock.CapacityEnd);
    }

    [Fact]
    public void Nothing_is_waited_for_where_mail_is_fast()
    {
        Enter(1, lasted: TimeSpan.FromMilliseconds(6));
        Assert.Equal(4 * Size, _stock.CapacityEnd);
    }

    [Fact]
    public async Task What_somebody_still_reads_is_deleted_and_he_reads_on()
    {
        Enter(1);
        byte[] read = new byte[Size];
        using (DiskFault disk = _disk.Block(DiskOperations.Read, "seg.0000000000"))
        {
            Task<int> reading = Task.Run(() => _store.Read(0, read), TestContext.Current.CancellationToken);
            await disk.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
            Assert.Equal(1, _stock.TakeBack(1));
            _background.Run();
            disk.Dispose();
            Assert.Equal(Size, await reading.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken));
        }

        Assert.Equal(Mail, read);
        Assert.Single(_deleted);
        Assert.DoesNotContain(_disk.AllFiles(), static f => f.Contains("filling", StringComparison.Ordinal));
        Assert.Throws<DiskException>(() => _store.Read(0, read));
    }

    [Fact]
    public async Task It_may_still_be_read_although_its_file_was_closed_for_others_and_opened_again()
    {
        using SegmentStore store = new(_disk, "/many", 1024);
        _disk.CreateDirectory("/many");
        for (int segment = 0; segment < 300; segment++)
        {
            using IDiskFile file = _disk.Open(store.PathOf(segment), DiskFileMode.CreateNew);
            file.Write(0, Mail.AsSpan(0, 1024));
        }

        store.Load();
        using DiskFault disk = _disk.Block(DiskOperations.Read, "/many/seg.0000000000");
        byte[] read = new byte[1024];
        Task<int> reading = Task.Run(() => store.Read(0, read), TestContext.Current.CancellationToken);
        await disk.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        for (int segment = 1; segment < 300; segment++)
        {
            store.Open(segment);
        }

        Assert.Equal(1024, store.LengthOf(0));
        Assert.False(store.Release(0, "/many/filling.0"));
        Assert.True(store.Release(1, "/many/filling.1"));
        disk.Dispose();
        Assert.Equal(1024, await reading.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken));
        Assert.Equal(Mail[..1024], read);
    }

    [Fact]
    public async Task While_a_new_file_is_filled_none_is_wanted()
    {
        Enter(1);
        _tail = 2 * Size;
        using DiskFault disk = _disk.Block(DiskOperations.Flush, "filling");
        _stock.Poke();
        Task filling = Task.Run(_background.Run, TestContext.Current.CancellationToken);
        await disk.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.Equal(1, _stock.TakeBack(1));
        Assert.Equal(["/log/seg.0000000000"], _deleted);
        disk.Dispose();
        await filling.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.Equal(4 * Size, _stock.CapacityEnd);
    }

    [Fact]
    public void Whoever_waits_for_capacity_ends_the_waiting_for_an_old_one()
    {
        Enter(1);
        Assert.Equal(3 * Size, _stock.CapacityEnd);
        _stock.Want((3 * Size) + 1);
        _background.Run();
        Assert.Equal(4 * Size, _stock.CapacityEnd);
        // Said before mail enters the segment, it holds as well.
        _stock.Want((4 * Size) + 1);
        Enter(2);
        Assert.Equal(5 * Size, _stock.CapacityEnd);
        Enter(3);
        Assert.Equal(5 * Size, _stock.CapacityEnd);
    }

    [Fact]
    public void What_cannot_be_renamed_is_deleted()
    {
        Enter(1);
        using DiskFault fault = _disk.Fail(DiskOperations.Rename, DiskException.InputOutput, "seg.");
        Assert.Equal(1, _stock.TakeBack(1));
        Assert.Equal(["/log/seg.0000000000"], _deleted);
        Assert.False(_store.Contains(0));
    }

    [Fact]
    public void What_is_not_whole_is_deleted()
    {
        Enter(1);
        _store.Open(0).SetLength(Size / 2);
        Assert.Equal(1, _stock.TakeBack(1));
        Assert.Equal(["/log/seg.0000000000"], _deleted);
    }

    [Fact]
    public void When_disk_is_low_it_is_given_back()
    {
        Enter(1);
        Assert.Equal(1, _stock.TakeBack(1));
        _disk.Free = 9 * Size;
        _background.Run();
        Assert.StartsWith("/log/filling", Assert.Single(_deleted), StringComparison.Ordinal);
        Assert.True(_stock.LowSpace);
        Enter(2);
        Assert.Equal(1, _stock.TakeBack(2));
        Assert.Equal("/log/seg.0000000001", _deleted[^1]);
    }

    [Fact]
    public void Where_there_is_no_room_for_another_it_is_used_all_the_same()
    {
        Enter(1);
        _disk.Free = 10 * Size;
        Assert.Equal(1, _stock.TakeBack(1));
        _background.Run();
        Assert.Equal(4 * Size, _stock.CapacityEnd);
        Assert.False(_stock.LowSpace);
    }

    [Fact]
    public void What_cannot_be_overwritten_is_deleted()
    {
        Enter(1);
        Assert.Equal(1, _stock.TakeBack(1));
        using (DiskFault fault = _disk.Fail(DiskOperations.Write, DiskException.InputOutput, "filling"))
        {
            _background.Run();
        }

        Assert.Contains(_deleted, static f => f.StartsWith("/log/filling", StringComparison.Ordinal));
        Assert.DoesNotContain(_disk.AllFiles(), static f => f.Contains("filling", StringComparison.Ordinal));
    }

    [Fact]
    public void At_the_end_those_that_wait_are_deleted()
    {
        Enter(1);
        Assert.Equal(1, _stock.TakeBack(1));
        Assert.True(_stock.Stop(LogBed.Patience));
        Assert.DoesNotContain(_disk.AllFiles(), static f => f.Contains("filling", StringComparison.Ordinal));
        Assert.Equal(3 * Size, _stock.CapacityEnd);
        _stock.Provide(2);
        Assert.Equal(1, _stock.TakeBack(2));
        Assert.Equal("/log/seg.0000000001", _deleted[^1]);
    }

    [Fact]
    public void A_power_cut_at_any_operation_leaves_no_spare_that_is_not_zeros_and_takes_nothing_of_the_others()
    {
        List<FaultyDisk> cuts = [];
        Enter(1);
        byte[] kept = LogBed.Payload(2, Size);
        _store.Open(1).Write(0, kept);
        _store.Open(1).Flush();
        _disk.Before = (_, _) => cuts.AddRange(Enumerable.Range(0, 4).Select(seed => _disk.PowerCut((31 * cuts.Count) + seed)));
        Assert.Equal(1, _stock.TakeBack(1));
        _background.Run();
        _stock.Provide(2);
        _stock.Provide(3);
        _disk.Before = null;
        Assert.True(cuts.Count > 20);
        foreach (FaultyDisk cut in cuts)
        {
            Assert.Equal(kept, cut.Contents("/log/seg.0000000001"));
            using SegmentStore found = new(cut, "/log", Size);
            found.Load();
            using SegmentStock stock = new(cut, found, target: 2, lowWater: 0, static () => { }, NullLogger.Instance, static () => 0, _time, new StepBackground());
            stock.Start();
            int last = found.Last;
            for (int segment = last + 1; segment <= last + 3; segment++)
            {
                stock.Provide(segment);
            }

            Assert.All(Enumerable.Range(2, last + 2), segment => Assert.Equal(new byte[Size], cut.Contents($"/log/seg.{segment:D10}")));
        }
    }

    /// <summary>Mail comes to a segment, after the one before lasted so long: long enough by default that an old one is waited for.</summary>
    private void Enter(int segment, TimeSpan? lasted = null)
    {
        _time.Advance(lasted ?? TimeSpan.FromSeconds(1));
        _tail = segment * Size;
        _stock.Provide(segment);
        _background.Run();
    }

    private IEnumerable<string> Spares() => _disk.AllFiles().Where(static f => f.Contains("spare", StringComparison.Ordinal));
}
