using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Storage;

public class SegmentStockTests
{
    private const int Size = 64 << 10;
    private const int Piece = 256 << 10;
    private const int Pieces = 4;
    private readonly FaultyDisk _disk = new();

    public SegmentStockTests()
    {
        _disk.CreateDirectory("/log");
        _disk.SyncDirectory("/");
    }

    [Fact]
    public void A_segment_is_zeros_and_durable_before_it_has_its_name()
    {
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        var cuts = new List<FaultyDisk>();
        _disk.Before = (_, _) => cuts.Add(_disk.PowerCut(cuts.Count));
        stock.Provide(0);
        stock.Provide(1);
        cuts.Add(_disk.PowerCut(99));
        Assert.True(cuts.Count > 5);
        foreach (FaultyDisk cut in cuts)
        {
            using var found = new SegmentStore(cut, "/log", Size);
            found.Load();
            for (int segment = 0; segment <= found.Last; segment++)
            {
                Assert.Equal(Size, found.LengthOf(segment));
                Assert.Equal(new byte[Size], cut.Contents($"/log/seg.{segment:D10}"));
            }
        }

        Assert.Equal(1, store.Last);
    }

    [Fact]
    public void Spares_of_an_earlier_run_are_taken_over_and_half_filled_ones_deleted()
    {
        Put("/log/spare.0000000007", new byte[Size]);
        Put("/log/filling.0000000008", new byte[Size / 2]);
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        stock.Start();
        Assert.True(stock.Stop(TimeSpan.FromSeconds(60)));
        Assert.DoesNotContain("/log/filling.0000000008", _disk.AllFiles());
        stock.Provide(0);
        Assert.DoesNotContain("/log/spare.0000000007", _disk.AllFiles());
        Assert.Equal(new byte[Size], _disk.Contents("/log/seg.0000000000"));
    }

    [Fact]
    public void A_spare_that_is_not_whole_is_not_used()
    {
        Put("/log/spare.0000000007", new byte[Size - 4096]);
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        stock.Start();
        Assert.True(stock.Stop(TimeSpan.FromSeconds(60)));
        stock.Provide(0);
        Assert.Equal(Size, store.LengthOf(0));
    }

    [Fact]
    public void Without_room_there_is_no_segment_and_no_litter()
    {
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        _disk.Free = Size / 2;
        Assert.True(Assert.Throws<DiskException>(() => stock.Provide(0)).IsFull);
        Assert.Empty(_disk.AllFiles());
        Assert.False(store.Contains(0));
        _disk.Free = 10 * Size;
        stock.Provide(0);
        Assert.True(store.Contains(0));
    }

    [Fact]
    public void A_spare_whose_name_could_not_be_synced_leaves_no_litter()
    {
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        using DiskFault fault = _disk.Fail(DiskOperations.SyncDirectory, DiskException.InputOutput);
        for (int attempt = 0; attempt < 3; attempt++)
        {
            Assert.Throws<DiskException>(() => stock.Ensure(0));
        }

        Assert.Empty(_disk.AllFiles());
    }

    [Fact]
    public void A_spare_that_could_not_be_renamed_is_used_by_the_next_attempt()
    {
        Put("/log/spare.0000000001", new byte[Size]);
        Put("/log/spare.0000000002", new byte[Size]);
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        stock.Start();
        Assert.True(stock.Stop(TimeSpan.FromSeconds(60)));
        using (DiskFault fault = _disk.Fail(DiskOperations.Rename, DiskException.InputOutput))
        {
            for (int attempt = 0; attempt < 5; attempt++)
            {
                Assert.Throws<DiskException>(() => stock.Provide(0));
            }
        }

        Assert.Equal(2 * Size, stock.CapacityEnd);
        stock.Provide(0);
        stock.Provide(1);
        Assert.Equal(["/log/seg.0000000000", "/log/seg.0000000001"], _disk.AllFiles());
    }

    [Fact]
    public void A_segment_is_there_only_when_its_name_is_on_stable_storage_and_the_next_attempt_replaces_it()
    {
        using var store = new SegmentStore(_disk, "/log", Size);
        using SegmentStock stock = Stock(store);
        stock.Ensure(0);
        using (DiskFault fault = _disk.Fail(DiskOperations.SyncDirectory, DiskException.InputOutput))
        {
            Assert.Throws<DiskException>(() => stock.Provide(0));
        }

        Assert.False(store.Contains(0));
        Assert.Equal(0, stock.CapacityEnd);
        stock.Provide(0);
        Assert.True(_disk.IsDurable("/log/seg.0000000000", 0, Size));
        Assert.Equal(["/log/seg.0000000000"], _disk.AllFiles());
    }

    [Theory]
    [InlineData(5, 20)]
    // At least a millisecond, at most 50.
    [InlineData(0, 1)]
    [InlineData(1000, 50)]
    public void The_next_spare_is_filled_in_turns_with_commits_while_one_is_ready(int pieceTakes, int pause)
    {
        FakeTimeProvider time = new();
        WatchedBackground background = new();
        _disk.Before = (operation, path) => time.Advance(TimeSpan.FromMilliseconds(operation == DiskOperations.Flush && path.Contains("filling", StringComparison.Ordinal) ? pieceTakes : 0));
        using var store = new SegmentStore(_disk, "/log", Pieces * Piece);
        using (SegmentStock stock = Stock(store, time, background))
        {
            // Before there is a segment mail waits for the first two.
            stock.Start();
            AwaitCapacity(stock, 2 * Pieces * Piece);
            Assert.Empty(background.Pauses);
            stock.Provide(0);
            AwaitCapacity(stock, 3 * Pieces * Piece);
        }

        // None after the last piece.
        Assert.Equal(Enumerable.Repeat(TimeSpan.FromMilliseconds(pause), Pieces - 1), background.Pauses);
    }

    [Theory]
    // Of a segment in eight pieces, while the next one is filled, mail takes nothing, an eighth, half, or all.
    [InlineData(0, 7)]
    [InlineData(Piece, 6)]
    [InlineData(4 * Piece, 0)]
    [InlineData(8 * Piece, 0)]
    public void A_spare_is_filled_without_rest_when_mail_comes_near(long used, int pauses)
    {
        const int Eight = 8 * Piece;
        WatchedBackground background = new();
        long tail = 0;
        using var store = new SegmentStore(_disk, "/log", Eight);
        using (SegmentStock stock = Stock(store, background: background, tail: () => Volatile.Read(ref tail)))
        {
            stock.Start();
            AwaitCapacity(stock, 2 * Eight);
            // Segment 0 takes one of two spares, and a third is made: mail has this segment until it is ready.
            int before = background.Pauses.Length;
            _disk.Before = (operation, path) => Volatile.Write(ref tail, operation == DiskOperations.Flush && path.Contains("filling", StringComparison.Ordinal) ? used : tail);
            stock.Provide(0);
            AwaitCapacity(stock, 3 * Eight);
            Assert.Equal(pauses, background.Pauses.Length - before);
        }
    }

    [Fact]
    public void Without_much_free_space_no_spare_is_filled_in_turns()
    {
        WatchedBackground background = new();
        using var store = new SegmentStore(_disk, "/log", Pieces * Piece);
        int flushes = 0;
        _disk.Before = (operation, path) =>
        {
            if (operation == DiskOperations.Flush && path.Contains("filling", StringComparison.Ordinal) && Interlocked.Increment(ref flushes) == (2 * Pieces) + 1)
            {
                // While the third one is being filled others take the disk.
                _disk.Free = Pieces * Piece;
            }
        };
        using SegmentStock stock = Stock(store, background: background, lowWater: 2 * Pieces * Piece);
        stock.Start();
        AwaitCapacity(stock, 2 * Pieces * Piece);
        stock.Provide(0);
        AwaitCapacity(stock, 3 * Pieces * Piece);
        Assert.True(stock.LowSpace);
        Assert.Empty(background.Pauses);
    }

    [Fact]
    public async Task A_spare_that_is_being_filled_in_turns_is_given_up_at_the_end()
    {
        WatchedBackground background = new();
        using var store = new SegmentStore(_disk, "/log", Pieces * Piece);
        using DiskFault flush = _disk.Block(DiskOperations.Flush, "filling.0000000002");
        SegmentStock stock = Stock(store, background: background);
        stock.Start();
        await flush.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        Assert.False(stock.Stop(TimeSpan.Zero));
        flush.Dispose();
        Assert.True(stock.Stop(LogBed.Patience));
        Assert.Equal(["/log/spare.0000000001"], _disk.AllFiles());
        Assert.Empty(background.Pauses);
    }

    private static void AwaitCapacity(SegmentStock stock, long end) => Assert.True(SpinWait.SpinUntil(() => stock.CapacityEnd == end, LogBed.Patience));

    private SegmentStock Stock(SegmentStore store, TimeProvider? time = null, Background? background = null, Func<long>? tail = null, long lowWater = 0) =>
        new(_disk, store, target: 2, lowWater, static () => { }, NullLogger.Instance, tail ?? (static () => 0), time ?? TimeProvider.System, background ?? Background.Threads);

    private void Put(string path, byte[] contents)
    {
        using IDiskFile file = _disk.Open(path, DiskFileMode.CreateNew);
        file.Write(0, contents);
        file.Flush();
        _disk.SyncDirectory("/log");
    }
}
