using System.Collections.Concurrent;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>Records that the system has in memory are read at once; those that have to come from the disk are read by others than their reader, and what the disk does meanwhile is its matter.</summary>
public sealed class ColdReadTests : IDisposable
{
    private const int Share = 5;

    private readonly FaultyDisk _disk = new();
    private readonly ConcurrentQueue<string?> _asked = [];

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose() => _disk.Before = null;

    [Fact]
    public async Task What_is_in_memory_is_read_at_once_and_asks_no_reader()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> all = await log.FillAsync(40_000);
        Watch(cold: false);
        foreach (Written written in all)
        {
            byte[] payload = new byte[written.Ref.Length];
            ValueTask read = log.ReadAsync(written.Ref, written.Type, written.Id, payload, Share, Cancellation);
            Assert.True(read.IsCompletedSuccessfully);
            await read;
            Assert.Equal(written.Payload, payload);
            ValueTask<StoredRecord> whole = log.ReadAsync(written.Ref.Address, Share, Cancellation);
            Assert.True(whole.IsCompletedSuccessfully);
            using StoredRecord stored = await whole;
            Assert.Equal(written.Payload, stored.Payload.ToArray());
        }

        Assert.Empty(_asked);
    }

    [Fact]
    public async Task What_is_not_in_memory_is_read_by_readers_with_the_same_result()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> all = await log.FillAsync(200_000);
        Watch(cold: true);
        await Parallel.ForEachAsync(all, new ParallelOptions { MaxDegreeOfParallelism = 40 }, async (written, _) =>
        {
            Assert.Equal(written.Payload, await log.ReadAsync(written));
            using StoredRecord stored = await log.ReadAsync(written.Ref.Address, (int)written.Id % 9, Cancellation);
            Assert.Equal((written.Ref, written.Type, written.Id), (stored.Ref, stored.Type, stored.MessageId));
            Assert.Equal(written.Payload, stored.Payload.ToArray());
        });
        Assert.NotEmpty(_asked);
        Assert.All(_asked, static thread => Assert.Equal("hpmta-log-reader", thread));
        Assert.Equal(0, log.ReadsWaiting);
    }

    [Fact]
    public async Task A_record_that_is_not_the_one_is_called_that_whether_in_memory_or_not()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        Written written = await log.AppendDurablyAsync(1, 500);
        byte[] payload = new byte[1000];
        foreach (bool cold in new[] { false, true })
        {
            Watch(cold);
            foreach (Written other in new[] { written with { Id = 2 }, written with { Type = RecordType.Copied }, written with { Ref = written.Ref with { Length = 400 } } })
            {
                RecordUnreadableException error = await Assert.ThrowsAsync<RecordUnreadableException>(
                    () => log.ReadAsync(other.Ref, other.Type, other.Id, payload, Share, Cancellation).AsTask());
                Assert.Contains("another record is there", error.Message, StringComparison.Ordinal);
                Assert.False(error.IsRefusedByDisk);
            }
        }
    }

    [Fact]
    public async Task A_refusal_of_the_disk_comes_through_and_is_no_word_on_the_record()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        Written written = await log.AppendDurablyAsync(1, 500);
        using (_disk.Fail(DiskOperations.Read, DiskException.InputOutput, "seg."))
        {
            RecordUnreadableException error = await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(written));
            Assert.Equal((true, false), (error.IsRefusedByDisk, error.IsUnserved));
            Assert.Equal(DiskException.InputOutput, Assert.IsType<DiskException>(error.InnerException).Errno);
        }

        Assert.Equal(written.Payload, await log.ReadAsync(written));
    }

    [Fact]
    public async Task While_reads_hang_the_disk_fails_mail_is_taken_and_when_they_come_back_it_does_not()
    {
        FakeTimeProvider time = new();
        FasterRecordLog log = LogBed.Open(_disk, time);
        Written written = await log.AppendDurablyAsync(1, 500);
        await using MailQueue queue = MailQueue.Open(log, LogBed.Options(), time, NullLogger.Instance);
        DiskFault hang = _disk.Block(DiskOperations.Read, "seg.");
        Task<byte[]> read = log.ReadAsync(written);
        await hang.Struck.WaitAsync(LogBed.Patience, Cancellation);
        Assert.False(queue.DiskFails);
        time.Advance(DiskReaders.Limit);
        RecordUnreadableException error = await Assert.ThrowsAsync<RecordUnreadableException>(() => read);
        Assert.IsType<TimeoutException>(error.InnerException);
        Assert.Equal((true, LogCondition.Healthy), (queue.DiskFails, queue.Condition));
        Written other = await log.AppendDurablyAsync(2, 500);
        hang.Dispose();
        Assert.Equal(other.Payload, await log.ReadAsync(other));
        await Waiting.UntilAsync(() => !queue.DiskFails);
        Assert.Equal(written.Payload, await log.ReadAsync(written));
    }

    [Fact]
    public async Task A_log_that_is_closed_while_reads_hang_ends_them_and_can_be_opened_again()
    {
        QueueOptions options = LogBed.Options();
        FasterRecordLog log = LogBed.Open(_disk, options with { WriteTimeout = TimeSpan.FromMilliseconds(100) }, new FakeTimeProvider());
        Written written = await log.AppendDurablyAsync(1, 500);
        DiskFault hang = _disk.Block(DiskOperations.Read, "seg.");
        Task<byte[]>[] reads = [.. Enumerable.Range(0, 30).Select(_ => log.ReadAsync(written))];
        await Waiting.UntilAsync(() => log.ReadsWaiting == 30 - DiskReaders.MostOfShare);
        await log.DisposeAsync().AsTask().WaitAsync(LogBed.Patience, Cancellation);
        foreach (Task<byte[]> read in reads)
        {
            await Assert.ThrowsAsync<ObjectDisposedException>(() => read);
        }

        hang.Dispose();
        await using FasterRecordLog next = LogBed.Open(_disk, options);
        Assert.Equal(written.Payload, await next.ReadAsync(written));
    }

    [Fact]
    public async Task The_start_reads_what_is_not_in_memory_too()
    {
        List<Written> all;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            all = await log.FillAsync(3 * LogBed.SegmentSize);
        }

        Watch(cold: true);
        await using FasterRecordLog next = LogBed.Open(_disk);
        Assert.Equal(all, next.Replayed());
    }

    private void Watch(bool cold)
    {
        _disk.OutOfMemory = (_, _) => cold;
        _disk.Before = (operation, path) =>
        {
            if (operation == DiskOperations.Read && path.Contains("seg.", StringComparison.Ordinal))
            {
                _asked.Enqueue(Thread.CurrentThread.Name);
            }
        };
    }
}
