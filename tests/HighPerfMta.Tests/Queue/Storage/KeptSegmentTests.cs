using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Storage;

/// <summary>What becomes of segments that nobody needs any more, in a log where they are used again as they are. The stock's loop goes only where a test lets it.</summary>
public sealed class KeptSegmentTests : IDisposable
{
    private const int Size = 64 << 10;
    private const int Kept = 4;
    private static readonly byte[] Mail = LogBed.Payload(1, Size);
    private readonly FaultyDisk _disk = new();
    private readonly FakeTimeProvider _time = new();
    private readonly StepBackground _background = new();
    private readonly List<(DiskOperations Operation, string Path)> _done = [];
    private readonly SegmentStore _store;
    private readonly SegmentStock _stock;
    private long _tail;

    public KeptSegmentTests()
    {
        _disk.CreateDirectory("/log");
        _disk.SyncDirectory("/");
        _store = new SegmentStore(_disk, "/log", Size);
        _stock = Stock(_disk, _store, _background);
        _stock.Start();
        _background.Run();
        Enter(0);
        _store.Open(0).Write(0, Mail);
        _store.Open(0).Flush();
    }

    public void Dispose()
    {
        _stock.Dispose();
        _store.Dispose();
    }

    [Fact]
    public void It_is_the_next_spare_with_what_is_in_it_and_nothing_is_written()
    {
        Enter(1);
        // The spare before was a new file, made at once: this segment is used up before another is missing.
        Enter(2);
        Watch();
        Assert.Equal(2, _stock.TakeBack(2));
        _background.Run();
        Enter(3);
        Assert.DoesNotContain(_done, static d => d.Operation is DiskOperations.Write or DiskOperations.Flush or DiskOperations.Delete);
        Assert.Contains(_disk.AllFiles(), static f => f.Contains(SegmentStock.SparePrefix, StringComparison.Ordinal));
        Enter(4);
        Enter(5);
        Assert.Contains(Enumerable.Range(3, 3), segment => _disk.Contents($"/log/seg.{segment:D10}").AsSpan().SequenceEqual(Mail));
        Assert.Equal([false, true], new[] { 3, 4 }.Select(_store.MayHoldOld).Order());
    }

    [Fact]
    public void Some_more_than_the_spares_are_kept_and_given_back_at_rest()
    {
        for (int segment = 1; segment < 10; segment++)
        {
            Enter(segment);
        }

        long capacity = _stock.CapacityEnd;
        Watch();
        Assert.Equal(9, _stock.TakeBack(9));
        int spares = (int)(capacity / Size) - 10;
        Assert.Equal(9 - (Kept + 2 - spares), _done.Count(static d => d.Operation == DiskOperations.Delete));
        _background.Run();
        Assert.Equal(12 * Size, _stock.CapacityEnd);
        Assert.Equal(Kept, Waiting());
        _stock.Rest();
        _background.Run();
        Assert.Equal(0, Waiting());
        Assert.Equal(12 * Size, _stock.CapacityEnd);
        // Nothing is left to be given back: nobody is woken for it.
        _done.Clear();
        _stock.Rest();
        _background.Run();
        Assert.Empty(_done);
    }

    [Fact]
    public void Where_room_is_short_no_more_than_the_spares_are_kept()
    {
        for (int segment = 1; segment < 5; segment++)
        {
            Enter(segment);
        }

        _tail += Size / 2;
        _stock.Reached(_tail);
        _background.Run();
        _disk.Free = 10 * Size;
        _stock.Poke();
        _background.Run();
        Assert.Equal(7 * Size, _stock.CapacityEnd);
        Assert.Equal(4, _stock.TakeBack(4));
        _background.Run();
        Assert.Equal(0, Waiting());
        Assert.False(_stock.LowSpace);
    }

    [Fact]
    public void What_is_kept_is_given_back_before_mail_is_refused()
    {
        for (int segment = 1; segment < 5; segment++)
        {
            Enter(segment);
        }

        Assert.Equal(4, _stock.TakeBack(4));
        _background.Run();
        Assert.True(Waiting() > 0);
        _disk.Free = 9 * Size;
        _disk.Before = (operation, _) => _disk.Free += operation == DiskOperations.Delete ? Size : 0;
        _stock.Poke();
        _background.Run();
        Assert.Equal(0, Waiting());
        Assert.False(_stock.LowSpace);
    }

    [Fact]
    public void What_has_holes_is_not_used_again()
    {
        _store.CreateHole(1);
        Enter(2);
        Watch();
        Assert.Equal(2, _stock.TakeBack(2));
        Assert.Equal((DiskOperations.Delete, "/log/seg.0000000001"), Assert.Single(_done, static d => d.Operation == DiskOperations.Delete));
    }

    [Fact]
    public void A_spare_with_holes_is_not_taken_over()
    {
        FaultyDisk disk = new();
        disk.CreateDirectory("/log");
        using (IDiskFile file = disk.Open("/log/spare.0000000007", DiskFileMode.CreateNew))
        {
            file.SetLength(Size);
        }

        using SegmentStore store = new(disk, "/log", Size);
        using SegmentStock stock = Stock(disk, store, new StepBackground());
        stock.Start();
        Assert.DoesNotContain("/log/spare.0000000007", disk.AllFiles());
        Assert.Equal(Size, stock.CapacityEnd);
    }

    [Fact]
    public void A_power_cut_at_any_operation_leaves_it_as_it_was_or_as_the_new_segment()
    {
        byte[] other = LogBed.Payload(2, Size);
        List<FaultyDisk> cuts = [];
        Enter(1);
        Enter(2);
        _disk.Before = (_, _) => cuts.AddRange(Enumerable.Range(0, 4).Select(seed => _disk.PowerCut((31 * cuts.Count) + seed)));
        Assert.Equal(1, _stock.TakeBack(1));
        _background.Run();
        for (int segment = 3; segment < 7; segment++)
        {
            Enter(segment);
            _store.Open(segment).Write(0, other);
            _store.Open(segment).Flush();
        }

        _disk.Before = null;
        Assert.True(cuts.Count > 40);
        foreach (FaultyDisk cut in cuts.Where(static c => c.AllFiles().Contains("/log/seg.0000000000")))
        {
            Assert.Equal(Mail, cut.Contents("/log/seg.0000000000"));
        }

        FaultyDisk last = _disk.PowerCut(1);
        Assert.DoesNotContain("/log/seg.0000000000", last.AllFiles());
        Assert.All(Enumerable.Range(3, 4), segment => Assert.Equal(other, last.Contents($"/log/seg.{segment:D10}")));
    }

    private void Watch() => _disk.Before = (operation, path) => _done.Add((operation, path));

    private int Waiting() => _disk.AllFiles().Count(static f => f.Contains(SegmentStock.FillingPrefix, StringComparison.Ordinal));

    private void Enter(int segment)
    {
        _time.Advance(TimeSpan.FromSeconds(1));
        _tail = segment * Size;
        _stock.Provide(segment);
        _background.Run();
    }

    private SegmentStock Stock(FaultyDisk disk, SegmentStore store, StepBackground background) =>
        new(disk, store, target: 2, lowWater: 10 * Size, static () => { }, NullLogger.Instance, () => _tail, _time, background, keepsOld: true);
}
