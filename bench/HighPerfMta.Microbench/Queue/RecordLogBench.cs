using BenchmarkDotNet.Attributes;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;

namespace HighPerfMta.Microbench.Queue;

/// <summary>The log on the disk that holds temporary files: appends alone, and appends of many that wait for one commit together.</summary>
public class RecordLogBench
{
    private const int Group = 20;

    private readonly byte[] _payload = new byte[1200];
    private readonly Task[] _waits = new Task[Group];
    private string _directory = "";
    private FasterRecordLog? _log;

    [GlobalSetup]
    public void Setup()
    {
        _directory = Directory.CreateTempSubdirectory("hpmta-bench-").FullName;
        var options = new QueueOptions { DataDirectory = _directory, SegmentSize = 16 << 20, PageSize = 1 << 20, Memory = 8 << 20, DiskLowWater = 0 };
        _log = FasterRecordLog.Open(options, TimeProvider.System);
    }

    /// <summary>Many appends to one commit: a bulk sender's share of the log's memory.</summary>
    [Benchmark(OperationsPerInvoke = 100)]
    public async Task Append()
    {
        var last = default(RecordRef);
        for (var i = 0; i < 100; i++)
        {
            last = await _log!.AppendAsync(RecordType.Accepted, 1, _payload);
            _log.TruncateBefore(last.Address);
        }

        await _log!.WaitDurableAsync(last);
    }

    /// <summary>Each of twenty appends waits for its own durability; a commit covers those that wait meanwhile.</summary>
    [Benchmark(OperationsPerInvoke = Group)]
    public async Task GroupCommit()
    {
        for (var i = 0; i < Group; i++)
        {
            _waits[i] = AppendDurablyAsync();
        }

        await Task.WhenAll(_waits);
    }

    /// <summary>One writer that waits for each record: what a commit costs.</summary>
    [Benchmark]
    public async Task AppendDurably()
    {
        var record = await _log!.AppendAsync(RecordType.Accepted, 1, _payload);
        _log.TruncateBefore(record.Address);
        await _log.WaitDurableAsync(record);
    }

    [GlobalCleanup]
    public async Task CleanupAsync()
    {
        if (_log is not null)
        {
            await _log.DisposeAsync();
            Directory.Delete(_directory, recursive: true);
        }
    }

    private async Task AppendDurablyAsync()
    {
        var record = await _log!.AppendAsync(RecordType.Accepted, 1, _payload);
        _log.TruncateBefore(record.Address);
        await _log.WaitDurableAsync(record);
    }
}
