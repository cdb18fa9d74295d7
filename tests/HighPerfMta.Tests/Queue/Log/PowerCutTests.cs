using HighPerfMta.Queue.Log;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>
/// Random appends, commits, power cuts, crashes and re-opens. After each: every record whose durability wait returned is replayed byte for byte and in
/// order, every other replayed record is one that was appended, nothing comes twice, and nothing is called damage.
/// </summary>
public class PowerCutTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Every_acknowledged_record_survives_any_series_of_power_cuts(int series)
    {
        for (int seed = series * 1000; seed < (series * 1000) + 25; seed++)
        {
            await RunAsync(seed);
        }
    }

    private static async Task RunAsync(int seed)
    {
        var random = new Random(seed);
        var history = new History();
        var disk = new FaultyDisk();
        int lives = random.Next(2, 6);
        for (int life = 0; life < lives; life++)
        {
            var end = new End(disk, history, random);
            FasterRecordLog log = LogBed.Open(disk);
            history.Check(log, seed, opened: end.Survivor is null);
            disk = await LiveAsync(log, history, random, end);
            await log.DisposeAsync();
        }

        await using FasterRecordLog last = LogBed.Open(disk);
        history.Check(last, seed, opened: true);
    }

    /// <summary>Writes from several tasks until the life ends. Returns the disk that the next life finds.</summary>
    private static async Task<FaultyDisk> LiveAsync(FasterRecordLog log, History history, Random random, End end)
    {
        Task[] writers =
        [
            .. Enumerable.Range(0, random.Next(1, 6)).Select(_ =>
            {
                int writerSeed = random.Next();
                return Task.Run(() => WriteAsync(new Random(writerSeed)));
            }),
        ];
        await Task.WhenAll(writers).WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        return end.Survivor!;

        async Task WriteAsync(Random choices)
        {
            while (end.Survivor is null)
            {
                int length = choices.Next(10) == 0 ? choices.Next(LogBed.PageSize - 200) : choices.Next(1500);
                Written record = await log.AppendAsync(history.NextId(), length, (RecordType)choices.Next(1, 6));
                history.Appended(record);
                switch (choices.Next(8))
                {
                    case 0:
                        log.CommitSoon();
                        break;
                    case 1:
                        break;
                    default:
                        await log.WaitDurableAsync(record.Ref);
                        // What the world learned before the power went; later ones may be lost.
                        history.Acknowledge(record, () => end.Survivor is null);
                        break;
                }
            }
        }
    }

    /// <summary>The end of a life: just before one of its operations on the disk the power goes or the process is killed.</summary>
    private sealed class End
    {
        private readonly History _history;
        private readonly FaultyDisk _disk;
        private readonly int _seed;
        private readonly bool _power;
        private int _left;
        private volatile FaultyDisk? _survivor;

        public End(FaultyDisk disk, History history, Random random)
        {
            _history = history;
            _disk = disk;
            _seed = random.Next();
            _power = random.Next(3) != 0;
            _left = random.Next(1, random.Next(2) == 0 ? 40 : 300);
            disk.Before = Count;
        }

        public FaultyDisk? Survivor => _survivor;

        private void Count(DiskOperations operation, string path)
        {
            if (operation != DiskOperations.Read && Interlocked.Decrement(ref _left) == 0)
            {
                _history.Cut(() => _survivor = _power ? _disk.PowerCut(_seed) : _disk.Crash());
            }
        }
    }

    private sealed class History
    {
        private readonly Lock _gate = new();
        private readonly Dictionary<ulong, Written> _appended = [];
        private readonly HashSet<ulong> _acknowledged = [];
        private long _lastId;

        public ulong NextId() => (ulong)Interlocked.Increment(ref _lastId);

        public void Appended(Written record)
        {
            lock (_gate)
            {
                _appended.Add(record.Id, record);
            }
        }

        public void Acknowledge(Written record, Func<bool> before)
        {
            lock (_gate)
            {
                if (before())
                {
                    _acknowledged.Add(record.Id);
                }
            }
        }

        // Together with Acknowledge: nothing is acknowledged between the cut and its becoming known.
        public void Cut(Action cut)
        {
            lock (_gate)
            {
                cut();
            }
        }

        public void Check(FasterRecordLog log, int seed, bool opened)
        {
            Assert.True(log.Damage.Count == 0, $"seed {seed}: {string.Join("; ", log.Damage)} after no more than power cuts");
            List<Written> replayed = log.Replayed();
            var known = new HashSet<ulong>();
            long previous = -1;
            foreach (Written record in replayed)
            {
                Assert.True(_appended.TryGetValue(record.Id, out Written? original), $"seed {seed}: {record} was never appended");
                Assert.True(record.Equals(original), $"seed {seed}: {record} is not {original}");
                Assert.True(record.Ref.Address > previous, $"seed {seed}: {record} is out of order");
                Assert.True(known.Add(record.Id), $"seed {seed}: {record} comes twice");
                previous = record.Ref.Address;
            }

            foreach (ulong id in _acknowledged)
            {
                Assert.True(known.Contains(id), $"seed {seed}: {_appended[id]} was acknowledged and is gone");
            }

            if (opened)
            {
                // What was replayed is what the owner of the log acts on: it must stay.
                _acknowledged.UnionWith(known);
            }
        }
    }
}
