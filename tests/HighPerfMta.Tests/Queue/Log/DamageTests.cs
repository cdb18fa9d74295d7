using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;

namespace HighPerfMta.Tests.Queue.Log;

/// <summary>
/// Damaged files: what verifies is replayed byte for byte, what does not is reported with its place, nothing is invented and nothing deleted.
/// </summary>
public class DamageTests
{
    private readonly FaultyDisk _disk = new();

    [Theory]
    [InlineData(0)] // FASTER's length
    [InlineData(4)] // our magic
    [InlineData(12)] // the message id
    [InlineData(28)] // the payload's length
    [InlineData(40)] // the first octet of the payload
    [InlineData(1039)] // its last octet
    public async Task A_flipped_octet_hides_one_record_or_the_rest_of_its_page_and_is_reported(int offset)
    {
        List<Written> written = await WriteAsync(3 * LogBed.SegmentSize);
        Written victim = written[40];
        Flip(victim.Ref.Address + offset);

        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> replayed = log.Replayed();
        Assert.Equal(replayed, written.Where(replayed.Contains));
        if (offset == 0)
        {
            // The length in front of our header vouches for nothing and is not needed.
            Assert.Equal(written, replayed);
            return;
        }

        DamagedRange range = Assert.Single(log.Damage);
        Assert.Equal(victim.Ref.Address, range.FromAddress);
        Assert.DoesNotContain(victim, replayed);
        Assert.All(written.Except(replayed), w => Assert.InRange(w.Ref.Address, range.FromAddress, range.ToAddress - 1));
        Assert.True(range.ToAddress <= (victim.Ref.Address | (LogBed.PageSize - 1)) + 1);
        await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(victim));
        Assert.Equal(written[39].Payload, await log.ReadAsync(written[39]));
    }

    [Fact]
    public async Task A_flipped_octet_is_found_in_the_page_written_last_too()
    {
        // Stock FASTER does not check pages that are in memory after recovery.
        var written = new List<Written>();
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            for (ulong id = 1; id <= 5; id++)
            {
                written.Add(await log.AppendDurablyAsync(id, 100));
            }

            Flip(written[2].Ref.Address + RecordHeader.Overhead + 10);
            await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(written[2]));
        }

        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Equal([.. written.Where((_, i) => i != 2)], again.Replayed());
        Assert.Equal(written[2].Ref.Address, Assert.Single(again.Damage).FromAddress);
        await Assert.ThrowsAsync<RecordUnreadableException>(() => again.ReadAsync(written[2]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_record_forged_inside_a_payload_is_never_returned(bool withTheSalt)
    {
        ulong salt;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            salt = Superblock.Read(_disk, $"{LogBed.Root}/log/{Superblock.FileName}", out _)!.Salt;
        }

        // Even with the salt: after damage the scan never looks inside a payload.
        RecordRef carrier;
        Written next;
        await using (FasterRecordLog log = LogBed.Open(_disk))
        {
            await log.AppendDurablyAsync(1, 100);
            byte[] hostile = Forged(new Superblock(LogBed.SegmentSize, LogBed.PageSize, withTheSalt ? salt : salt + 1), 6000, log.TailAddress + RecordHeader.Overhead);
            carrier = await log.AppendAsync(RecordType.BodyChunk, 2, hostile, TestContext.Current.CancellationToken);
            next = await log.AppendDurablyAsync(3, 100);
            await log.AppendDurablyAsync(4, 12_000);
        }

        foreach (long place in new long[] { carrier.Address, carrier.Address + 6, carrier.Address + RecordHeader.Overhead + 2 })
        {
            FaultyDisk damaged = _disk.Crash();
            Flip(place, damaged);
            await using FasterRecordLog log = LogBed.Open(damaged);
            List<Written> replayed = log.Replayed();
            Assert.DoesNotContain(replayed, static w => w.Id == 666);
            Assert.Contains(replayed, static w => w.Id == 4);
            await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(new Written(
                new RecordRef(carrier.Address + RecordHeader.Overhead, 100), RecordType.Accepted, withTheSalt ? 665u : 666u, [])));
        }

        Assert.Equal(3ul, next.Id);
    }

    [Fact]
    public async Task A_record_of_another_log_does_not_verify()
    {
        List<Written> written = await WriteAsync(LogBed.SegmentSize / 2);
        var other = new FaultyDisk();
        await using (FasterRecordLog log = LogBed.Open(other))
        {
            await log.FillAsync(LogBed.SegmentSize / 2);
        }

        byte[] foreign = other.Contents(LogBed.Segment(0));
        _disk.Corrupt(LogBed.Segment(0), octets => [.. octets.AsSpan(0, LogBed.PageSize), .. foreign.AsSpan(LogBed.PageSize)]);
        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Equal(written.Where(static w => w.Ref.Address < LogBed.PageSize), again.Replayed());
        Assert.NotEmpty(again.Damage);
    }

    [Fact]
    public async Task A_missing_segment_is_reported_and_the_others_are_replayed()
    {
        List<Written> written = await WriteAsync(4 * LogBed.SegmentSize);
        _disk.Remove(LogBed.Segment(1));

        await using FasterRecordLog log = LogBed.Open(_disk);
        DamagedRange range = Assert.Single(log.Damage);
        Assert.Equal((LogBed.SegmentSize, 2L * LogBed.SegmentSize), (range.FromAddress, range.ToAddress));
        Assert.Equal(written.Where(static w => w.Ref.Address / LogBed.SegmentSize != 1), log.Replayed());
        Written gone = written.First(static w => w.Ref.Address / LogBed.SegmentSize == 1);
        await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(gone));
        // A read must not create it.
        Assert.DoesNotContain(LogBed.Segment(1), _disk.AllFiles());
        await log.AppendDurablyAsync(9999, 100);
    }

    [Theory]
    [InlineData(LogBed.SegmentSize - 1)]
    [InlineData(LogBed.SegmentSize - 3000)]
    [InlineData(LogBed.PageSize)]
    [InlineData(0)]
    public async Task A_shortened_segment_is_reported_and_the_rest_replayed(int length)
    {
        List<Written> written = await WriteAsync(4 * LogBed.SegmentSize);
        _disk.Corrupt(LogBed.Segment(1), octets => octets[..length]);

        await using FasterRecordLog log = LogBed.Open(_disk);
        Assert.NotEmpty(log.Damage);
        List<Written> replayed = log.Replayed();
        long end = LogBed.SegmentSize + length;
        Assert.Equal(
            written.Where(w => w.Ref.Address / LogBed.SegmentSize != 1 || w.Ref.Address + RecordHeader.Footprint(w.Ref.Length) <= end), replayed);
        await log.AppendDurablyAsync(9999, 100);
    }

    [Fact]
    public async Task A_segment_at_the_end_that_is_missing_is_known_from_the_clean_end_before()
    {
        List<Written> written = await WriteAsync(3 * LogBed.SegmentSize);
        int last = (int)(written[^1].Ref.Address / LogBed.SegmentSize);
        _disk.Remove(LogBed.Segment(last));

        await using FasterRecordLog log = LogBed.Open(_disk);
        Assert.NotEmpty(log.Damage);
        Assert.Equal(written.Where(w => w.Ref.Address / LogBed.SegmentSize != last), log.Replayed());
    }

    [Fact]
    public async Task Durable_pages_that_read_as_zeros_are_reported()
    {
        List<Written> written = await WriteAsync(2 * LogBed.SegmentSize);
        _disk.Corrupt(LogBed.Segment(0), octets =>
        {
            octets.AsSpan(LogBed.PageSize, LogBed.PageSize).Clear();
            return octets;
        });

        await using FasterRecordLog log = LogBed.Open(_disk);
        DamagedRange range = Assert.Single(log.Damage);
        Assert.Equal((LogBed.PageSize, 2L * LogBed.PageSize), (range.FromAddress, range.ToAddress));
        Assert.Equal(written.Where(static w => w.Ref.Address / LogBed.PageSize != 1), log.Replayed());
    }

    [Fact]
    public async Task A_page_that_cannot_be_read_is_reported_and_nothing_is_written_over_it()
    {
        List<Written> written = await WriteAsync(2 * LogBed.SegmentSize);
        Written next;
        using (DiskFault fault = _disk.Fail(DiskOperations.Read, DiskException.InputOutput, LogBed.Segment(0)))
        {
            await using FasterRecordLog log = LogBed.Open(_disk);
            Assert.NotEmpty(log.Damage);
            Assert.Equal(written.Where(static w => w.Ref.Address >= LogBed.SegmentSize), log.Replayed());
            await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(written[0]));
            next = await log.AppendDurablyAsync(77, 100);
        }

        await using FasterRecordLog again = LogBed.Open(_disk);
        Assert.Empty(again.Damage);
        Assert.Equal([.. written, next], again.Replayed());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4096)]
    public async Task One_damaged_commit_slot_loses_nothing(int slot)
    {
        List<Written> written = await WriteAsync(3 * LogBed.SegmentSize, truncate: true);
        _disk.Flip(LogBed.Slots, slot + 20);
        await using FasterRecordLog log = LogBed.Open(_disk);
        Assert.Empty(log.Damage);
        Assert.Equal(written, log.Replayed());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Without_any_commit_slot_the_segments_say_where_the_log_begins(bool missing)
    {
        List<Written> written = await WriteAsync(3 * LogBed.SegmentSize, truncate: true);
        if (missing)
        {
            _disk.Remove(LogBed.Slots);
        }
        else
        {
            _disk.Flip(LogBed.Slots, 20);
            _disk.Flip(LogBed.Slots, 4096 + 20);
        }

        await using FasterRecordLog log = LogBed.Open(_disk);
        Assert.Contains(log.Damage, static d => d.Reason.Contains("slots", StringComparison.Ordinal));
        List<Written> replayed = log.Replayed();
        // Records of the first kept segment that were truncated already come back: delivered twice rather than never.
        Assert.Equal(written, replayed.TakeLast(written.Count));
        await log.AppendDurablyAsync(9999, 100);
    }

    [Fact]
    public async Task An_empty_log_is_never_made_where_there_was_one()
    {
        await WriteAsync(LogBed.SegmentSize);
        FaultyDisk without = _disk.Crash();
        without.Remove($"{LogBed.Root}/log/{Superblock.FileName}");
        Assert.Contains("superblock", Assert.Throws<LogOpenException>(() => LogBed.Open(without)).Message, StringComparison.Ordinal);

        FaultyDisk flipped = _disk.Crash();
        flipped.Flip($"{LogBed.Root}/log/{Superblock.FileName}", 24);
        Assert.Contains("checksum", Assert.Throws<LogOpenException>(() => LogBed.Open(flipped)).Message, StringComparison.Ordinal);

        FaultyDisk newer = _disk.Crash();
        newer.Corrupt($"{LogBed.Root}/log/{Superblock.FileName}", static octets =>
        {
            octets[8]++;
            return octets;
        });
        Assert.Contains("format", Assert.Throws<LogOpenException>(() => LogBed.Open(newer)).Message, StringComparison.Ordinal);

        FaultyDisk empty = _disk.Crash();
        foreach (string file in empty.AllFiles().Where(static f => f.Contains("seg.", StringComparison.Ordinal)))
        {
            empty.Remove(file);
        }

        Assert.Contains("segment", Assert.Throws<LogOpenException>(() => LogBed.Open(empty)).Message, StringComparison.Ordinal);
        // Each refusal gave the directory back.
        await using FasterRecordLog whole = LogBed.Open(_disk);
        Assert.NotEmpty(whole.Replayed());
    }

    [Fact]
    public async Task A_reference_to_nowhere_is_unreadable_not_a_crash()
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        Written record = await log.AppendDurablyAsync(1, 100);
        foreach (RecordRef wrong in new RecordRef[]
        {
            new(record.Ref.Address + 4, 100), new(record.Ref.Address, 99), new(0, 20), new(1L << 50, 10), new(record.Ref.Address + 500, 100),
        })
        {
            await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(record with { Ref = wrong }));
        }

        await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(record with { Id = 2 }));
        await Assert.ThrowsAsync<RecordUnreadableException>(() => log.ReadAsync(record with { Type = RecordType.Completed }));
    }

    private async Task<List<Written>> WriteAsync(long until, bool truncate = false)
    {
        await using FasterRecordLog log = LogBed.Open(_disk);
        List<Written> written = await log.FillAsync(until);
        if (!truncate)
        {
            return written;
        }

        written.RemoveAll(static w => w.Ref.Address < LogBed.SegmentSize + 5000);
        using DiskFault deleting = _disk.Block(DiskOperations.Delete | DiskOperations.Rename, "seg.");
        log.TruncateBefore(written[0].Ref.Address);
        await deleting.Struck.WaitAsync(LogBed.Patience, TestContext.Current.CancellationToken);
        deleting.Dispose();
        return written;
    }

    private void Flip(long address, FaultyDisk? disk = null) =>
        (disk ?? _disk).Flip(LogBed.Segment((int)(address / LogBed.SegmentSize)), address % LogBed.SegmentSize);

    // A whole well-formed entry, as FASTER and we would write it, at every aligned place of a payload.
    private static byte[] Forged(Superblock superblock, int length, long address)
    {
        RecordSeeds seeds = new(superblock);
        byte[] inner = new byte[100];
        byte[] entry = new byte[RecordHeader.Footprint(inner.Length)];
        BitConverter.TryWriteBytes(entry, RecordHeader.Size + inner.Length);
        byte[] payload = new byte[length];
        for (int at = 0; at + entry.Length <= length; at += entry.Length)
        {
            new RecordHeader(RecordType.Accepted, 666, 0, inner.Length, Crc32C.Compute(seeds.Payload, inner)).Write(entry.AsSpan(RecordHeader.EntryHeaderSize), seeds.Header(address + at));
            entry.CopyTo(payload, at);
        }

        return payload;
    }
}
