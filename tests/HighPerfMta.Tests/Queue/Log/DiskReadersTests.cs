using System.Buffers;
using System.Collections.Concurrent;
using HighPerfMta.Queue.Async;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>The reads that have to ask the disk: how many at once, whose, in which order, for how long, and what is concluded from how they end.</summary>
public sealed class DiskReadersTests : IDisposable
{
    private static readonly TimeSpan Late = DiskReaders.Limit + TimeSpan.FromSeconds(1);

    private readonly FakeTimeProvider _time = new();
    private readonly SlowReads _disk = new();
    private readonly DiskReaders _readers;
    private long _durable = 1;

    public DiskReadersTests() => _readers = new DiskReaders(_disk.Read, () => Volatile.Read(ref _durable), _time, NullLogger.Instance, Background.Threads);

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _disk.ReleaseAll();
        _readers.Close(LogBed.Patience);
    }

    [Fact]
    public async Task A_read_gives_its_record_and_its_error()
    {
        using (StoredRecord stored = await ReadAsync(640, share: 3))
        {
            Assert.Equal((640, 640UL), (stored.Ref.Address, stored.MessageId));
        }

        _disk.Errors[64] = new InvalidOperationException("a bug");
        Assert.Equal("a bug", (await Assert.ThrowsAsync<InvalidOperationException>(() => ReadAsync(64, share: 3))).Message);
        (await ReadAsync(128, share: 3)).Dispose();
        Assert.Equal((1, 0), (_disk.MostAtOnce, _readers.Waiting));
    }

    [Fact]
    public async Task A_share_has_no_more_than_its_part_and_another_is_served_at_once_while_hundreds_of_its_reads_hang()
    {
        Task<StoredRecord>[] hanging = Hang(share: 1, from: 1000, count: 300);
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.MostOfShare);
        Assert.Equal(300 - DiskReaders.MostOfShare, _readers.Waiting);
        for (int i = 0; i < 50; i++)
        {
            (await ReadAsync(10 + i, share: 2)).Dispose();
        }

        Assert.Equal((DiskReaders.MostOfShare, 300 - DiskReaders.MostOfShare), (_disk.UnderWay, _readers.Waiting));
        Assert.All(hanging, static t => Assert.False(t.IsCompleted));
        _disk.ReleaseAll();
        await FinishAsync(hanging);
        Assert.Equal(Enumerable.Range(1000, 300).Select(static i => (long)i), _disk.Served.Where(static a => a >= 1000).Order());
        Assert.InRange(_disk.MostAtOnce, DiskReaders.MostOfShare, DiskReaders.MostOfShare + 1);
    }

    [Fact]
    public async Task All_shares_together_have_no_more_than_the_total_and_everybody_is_served()
    {
        List<Task<StoredRecord>> all = [];
        for (int share = 0; share < 12; share++)
        {
            all.AddRange(Hang(share, 1000 + (share * 100), 10));
        }

        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.Most);
        Assert.Equal(120 - DiskReaders.Most, _readers.Waiting);
        _disk.ReleaseAll();
        await FinishAsync(all);
        Assert.Equal((DiskReaders.Most, 120, 0), (_disk.MostAtOnce, _disk.Served.Count, _readers.Waiting));
    }

    [Fact]
    public async Task Shares_that_wait_have_their_turns_one_after_the_other()
    {
        Task<StoredRecord>[] first = Hang(share: 1, from: 1000, count: DiskReaders.MostOfShare);
        Task<StoredRecord>[] second = Hang(share: 2, from: 2000, count: DiskReaders.MostOfShare);
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.Most);
        Task<StoredRecord>[] many = [.. Enumerable.Range(10, 6).Select(a => ReadAsync(a, share: 3))];
        Task<StoredRecord>[] few = [.. Enumerable.Range(20, 2).Select(a => ReadAsync(a, share: 4))];

        // One reader comes free: all that follows is its.
        _disk.Release(1000);
        await FinishAsync([.. many, .. few, first[0]]);
        Assert.Equal([1000, 10, 20, 11, 21, 12, 13, 14, 15], _disk.Served);
        _disk.ReleaseAll();
        await FinishAsync([.. first[1..], .. second]);
    }

    [Fact]
    public async Task A_read_that_is_cancelled_while_it_waits_is_never_made()
    {
        Task<StoredRecord>[] hanging = Hang(share: 1, from: 1000, count: DiskReaders.MostOfShare);
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.MostOfShare);
        using CancellationTokenSource cancellation = new();
        Task<StoredRecord>[] cancelled = [.. Enumerable.Range(2000, 5).Select(a => _readers.ReadAsync(a, 1, cancellation.Token).AsTask())];
        Task<StoredRecord> stays = ReadAsync(3000, share: 1);
        await cancellation.CancelAsync();
        foreach (Task<StoredRecord> read in cancelled)
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => read.WaitAsync(LogBed.Patience, Cancellation));
        }

        Assert.Equal(1, _readers.Waiting);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _readers.ReadAsync(4000, 1, cancellation.Token).AsTask().WaitAsync(LogBed.Patience, Cancellation));
        _disk.ReleaseAll();
        await FinishAsync([.. hanging, stays]);
        Assert.DoesNotContain(_disk.Served, static a => a is (>= 2000 and < 3000) or 4000);
    }

    [Fact]
    public async Task A_read_that_is_cancelled_under_way_lets_its_caller_go_and_keeps_its_place_until_the_disk_answers()
    {
        using CancellationTokenSource cancellation = new();
        _disk.Hold(1000);
        Task<StoredRecord> cancelled = _readers.ReadAsync(1000, 1, cancellation.Token).AsTask();
        Task<StoredRecord>[] others = Hang(share: 1, from: 2000, count: DiskReaders.MostOfShare);
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.MostOfShare);
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled.WaitAsync(LogBed.Patience, Cancellation));
        Assert.Equal(1, _readers.Waiting);
        _disk.Release(1000);
        await Waiting.UntilAsync(() => _readers.Waiting == 0);
        _disk.ReleaseAll();
        await FinishAsync(others);
    }

    [Fact]
    public async Task A_read_whose_turn_does_not_come_in_time_says_nothing_of_its_record_and_one_that_hangs_does()
    {
        Task<StoredRecord>[] hanging = Hang(share: 1, from: 1000, count: DiskReaders.MostOfShare);
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.MostOfShare);
        Task<StoredRecord> waiting = ReadAsync(2000, share: 1);
        Assert.False(_readers.IsIll);
        _time.Advance(Late);
        RecordUnreadableException unserved = await Assert.ThrowsAsync<RecordUnreadableException>(() => waiting.WaitAsync(LogBed.Patience, Cancellation));
        Assert.Equal((true, true), (unserved.IsUnserved, unserved.IsRefusedByDisk));
        foreach (Task<StoredRecord> read in hanging)
        {
            RecordUnreadableException hung = await Assert.ThrowsAsync<RecordUnreadableException>(() => read.WaitAsync(LogBed.Patience, Cancellation));
            Assert.Equal((false, true), (hung.IsUnserved, hung.IsRefusedByDisk));
        }

        Assert.Equal((true, 0, DiskReaders.MostOfShare), (_readers.IsIll, _readers.Waiting, _disk.UnderWay));
        _disk.ReleaseAll();
        await Waiting.UntilAsync(() => !_readers.IsIll);
        (await ReadAsync(3000, share: 1)).Dispose();
        Assert.DoesNotContain(2000, _disk.Served);
    }

    [Fact]
    public async Task A_read_that_gets_its_turn_late_has_all_of_its_time_for_the_disk()
    {
        Task<StoredRecord>[] hanging = Hang(share: 1, from: 1000, count: DiskReaders.MostOfShare);
        Task<StoredRecord> late = Hang(share: 1, from: 2000, count: 1)[0];
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.MostOfShare);
        _time.Advance(DiskReaders.Limit - TimeSpan.FromSeconds(1));
        _disk.Release(1000);
        (await hanging[0].WaitAsync(LogBed.Patience, Cancellation)).Dispose();
        await Waiting.UntilAsync(() => _disk.Begun.Contains(2000));
        _time.Advance(DiskReaders.Limit - TimeSpan.FromSeconds(1));
        Assert.False(late.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(2));
        RecordUnreadableException hung = await Assert.ThrowsAsync<RecordUnreadableException>(() => late.WaitAsync(LogBed.Patience, Cancellation));
        Assert.False(hung.IsUnserved);
    }

    [Fact]
    public async Task A_disk_that_answers_others_is_not_ill_for_one_record_that_hangs()
    {
        _disk.Hold(1000);
        Task<StoredRecord> hanging = ReadAsync(1000, share: 1);
        await Waiting.UntilAsync(() => _disk.UnderWay == 1);
        _time.Advance(Late);
        Assert.True(_readers.IsIll);
        (await ReadAsync(10, share: 1)).Dispose();
        Assert.False(_readers.IsIll);
        _time.Advance(Late);
        Assert.True(_readers.IsIll);
        await Assert.ThrowsAsync<RecordUnreadableException>(() => hanging.WaitAsync(LogBed.Patience, Cancellation));
    }

    [Fact]
    public async Task A_disk_that_refuses_several_records_and_takes_no_write_is_ill_until_it_gives_one_or_takes_a_write()
    {
        for (int i = 0; i < 20; i++)
        {
            await RefuseAsync(64);
        }

        Assert.False(_readers.IsIll, "one record, however often, is no more than that record");
        for (int i = 1; i < DiskReaders.Several; i++)
        {
            Assert.False(_readers.IsIll);
            await RefuseAsync(64 * (i + 1));
        }

        Assert.True(_readers.IsIll);
        Volatile.Write(ref _durable, 100);
        Assert.False(_readers.IsIll, "it takes writes");
        for (int i = 0; i < DiskReaders.Several; i++)
        {
            await RefuseAsync(64 * (i + 1));
        }

        Assert.True(_readers.IsIll);
        (await ReadAsync(6400, share: 1)).Dispose();
        Assert.False(_readers.IsIll, "it gave a record");
    }

    [Fact]
    public async Task A_damaged_record_is_an_answer_of_the_disk()
    {
        for (int i = 0; i < 2 * DiskReaders.Several; i++)
        {
            _disk.Errors[i] = new RecordUnreadableException("it is damaged");
            Assert.False((await Assert.ThrowsAsync<RecordUnreadableException>(() => ReadAsync(i, share: 1))).IsRefusedByDisk);
        }

        Assert.False(_readers.IsIll);
    }

    [Fact]
    public async Task Closing_ends_those_who_wait_and_those_whose_read_hangs_and_does_not_wait_for_the_disk()
    {
        Task<StoredRecord>[] reads = Hang(share: 1, from: 1000, count: 50);
        await Waiting.UntilAsync(() => _disk.UnderWay == DiskReaders.MostOfShare);
        _readers.Close(TimeSpan.FromMilliseconds(1));
        foreach (Task<StoredRecord> read in reads)
        {
            ObjectDisposedException closed = await Assert.ThrowsAsync<ObjectDisposedException>(() => read.WaitAsync(LogBed.Patience, Cancellation));
            Assert.Contains("closed before the record was read", closed.Message, StringComparison.Ordinal);
        }

        Assert.Equal((DiskReaders.MostOfShare, 0), (_disk.UnderWay, _readers.Waiting));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => ReadAsync(10, share: 2));
        _disk.ReleaseAll();
        await Waiting.UntilAsync(() => _disk.UnderWay == 0);
        Assert.Equal(DiskReaders.MostOfShare, _disk.Begun.Count);
    }

    [Fact]
    public void Closing_what_never_read_needs_no_thread() => _readers.Close(TimeSpan.Zero);

    [Fact]
    public async Task Whatever_comes_and_is_given_up_at_once_everybody_gets_an_end()
    {
        using CancellationTokenSource cancellation = new();
        int served = 0, cancelled = 0;
        await Parallel.ForEachAsync(Enumerable.Range(0, 20_000), new ParallelOptions { MaxDegreeOfParallelism = 64, CancellationToken = Cancellation }, async (i, _) =>
        {
            using CancellationTokenSource mine = new();
            Task<StoredRecord> read = _readers.ReadAsync(i, i % 7, mine.Token).AsTask();
            if (i % 3 == 0)
            {
                await mine.CancelAsync();
            }

            try
            {
                using StoredRecord stored = await read.WaitAsync(LogBed.Patience, Cancellation);
                Assert.Equal(i, stored.Ref.Address);
                Interlocked.Increment(ref served);
            }
            catch (OperationCanceledException) when (mine.IsCancellationRequested)
            {
                Interlocked.Increment(ref cancelled);
            }
        });
        Assert.Equal((20_000, 0), (served + cancelled, _readers.Waiting));
        Assert.InRange(_disk.MostAtOnce, 1, DiskReaders.Most);
        (await ReadAsync(30_000, share: 1)).Dispose();
    }

    [Fact]
    public async Task A_reader_that_was_woken_for_nothing_is_not_counted_on_twice()
    {
        SteppedBackground background = new();
        DiskReaders readers = new(_disk.Read, () => 1, _time, NullLogger.Instance, background);
        Task<StoredRecord> first = readers.ReadAsync(10, 1, Cancellation).AsTask();
        for (int i = 0; i < 5; i++)
        {
            background.Loops[0].Turn(false);
        }

        (await first.WaitAsync(LogBed.Patience, Cancellation)).Dispose();
        background.Loops[0].Woken = false;
        Task<StoredRecord>[] two = [readers.ReadAsync(20, 1, Cancellation).AsTask(), readers.ReadAsync(30, 2, Cancellation).AsTask()];
        Assert.Equal([true, true], background.Loops.Select(static l => l.Woken));

        // A turn that nobody asked for may have the read: the one that was woken for it finds nothing, and is there for the next.
        background.Loops[0].Turn(false);
        background.Loops[0].Turn(false);
        await FinishAsync(two);
        background.Loops[0].Turn(false);
        background.Loops[1].Turn(false);
        background.Loops.ForEach(static l => l.Woken = false);
        Task<StoredRecord>[] again = [readers.ReadAsync(40, 1, Cancellation).AsTask(), readers.ReadAsync(50, 2, Cancellation).AsTask()];
        Assert.Equal([true, true], background.Loops.Select(static l => l.Woken));
        background.Loops[0].Turn(false);
        background.Loops[1].Turn(false);
        await FinishAsync(again);
    }

    private async Task RefuseAsync(long address)
    {
        _disk.Errors[address] = new RecordUnreadableException("it cannot be read", new DiskException("read", "seg.0000000000", DiskException.InputOutput));
        await Assert.ThrowsAsync<RecordUnreadableException>(() => ReadAsync(address, share: 1));
    }

    private Task<StoredRecord>[] Hang(int share, int from, int count)
    {
        Task<StoredRecord>[] reads = new Task<StoredRecord>[count];
        for (int i = 0; i < count; i++)
        {
            _disk.Hold(from + i);
            reads[i] = ReadAsync(from + i, share);
        }

        return reads;
    }

    private Task<StoredRecord> ReadAsync(long address, int share) => _readers.ReadAsync(address, share, Cancellation).AsTask().WaitAsync(LogBed.Patience, Cancellation);

    private static async Task FinishAsync(IEnumerable<Task<StoredRecord>> reads)
    {
        foreach (Task<StoredRecord> read in reads)
        {
            (await read.WaitAsync(LogBed.Patience, Cancellation)).Dispose();
        }
    }

    /// <summary>Loops whose turns the test takes.</summary>
    private sealed class SteppedBackground : Background
    {
        public List<SteppedLoop> Loops { get; } = [];

        public override Task Run(Func<Task> work) => throw new NotSupportedException();

        public override void Await(Func<Task> work) => throw new NotSupportedException();

        public override BackgroundLoop NewLoop(string name, LoopTurn turn)
        {
            Loops.Add(new SteppedLoop(turn));
            return Loops[^1];
        }
    }

    private sealed class SteppedLoop(LoopTurn turn) : BackgroundLoop
    {
        public LoopTurn Turn => turn;

        public bool Woken { get; set; }

        public override bool IsAtRest => false;

        public override void Start()
        {
        }

        public override void Wake() => Woken = true;

        public override bool Join(TimeSpan limit) => true;
    }

    /// <summary>Reads that a test holds at the disk, and counts.</summary>
    private sealed class SlowReads
    {
        private readonly ConcurrentDictionary<long, ManualResetEventSlim> _held = [];
        private readonly Lock _gate = new();

        public ConcurrentDictionary<long, Exception> Errors { get; } = [];

        public int UnderWay { get; private set; }

        public int MostAtOnce { get; private set; }

        public ConcurrentQueue<long> Begun { get; } = [];

        public ConcurrentQueue<long> Served { get; } = [];

        public void Hold(long address) => _held[address] = new ManualResetEventSlim();

        public void Release(long address) => _held[address].Set();

        public void ReleaseAll()
        {
            foreach (ManualResetEventSlim held in _held.Values)
            {
                held.Set();
            }
        }

        public StoredRecord Read(long address)
        {
            lock (_gate)
            {
                UnderWay++;
                MostAtOnce = Math.Max(MostAtOnce, UnderWay);
            }

            Begun.Enqueue(address);
            if (_held.TryGetValue(address, out ManualResetEventSlim? held))
            {
                held.Wait();
            }

            Served.Enqueue(address);
            lock (_gate)
            {
                UnderWay--;
            }

            return Errors.TryGetValue(address, out Exception? error)
                ? throw error
                : new StoredRecord(RecordType.Accepted, (ulong)address, new RecordRef(address, 0), ArrayPool<byte>.Shared.Rent(1));
        }
    }
}
