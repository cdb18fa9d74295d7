using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Offline;
using HighPerfMta.Queue.Storage;
using HighPerfMta.TestKit;
using HighPerfMta.Tests.Queue.Log;

namespace HighPerfMta.Tests.Queue.Offline;

/// <summary>Verification of a data directory: silent about all that is well, and exact about what is not.</summary>
public class SpoolVerifierTests
{
    private readonly SpoolBed _bed = new();

    [Fact]
    public async Task A_healthy_queue_with_every_kind_of_record_has_no_findings()
    {
        await FillAsync(_bed);
        SpoolReport report = await _bed.VerifyAsync();
        Assert.Empty(report.Findings);
        Assert.Equal((0, 0), (report.Damage, report.Notes));
        Assert.Equal((4, 5), (report.Messages, report.Jobs));
        Dictionary<RecordType, long> records = report.Records.ByType().ToDictionary(static t => t.Type, static t => t.Records);
        Assert.Equal(7, records[RecordType.Accepted]);
        Assert.Equal(4, records[RecordType.BodyChunk]);
        Assert.True(records.ContainsKey(RecordType.Deferred) && records.ContainsKey(RecordType.Completed) && records.ContainsKey(RecordType.Routed) && records.ContainsKey(RecordType.SteeredMany));
    }

    [Fact]
    public async Task Whatever_happened_to_a_healthy_queue_nothing_is_called_damage()
    {
        for (int seed = 0; seed < 20; seed++)
        {
            FaultyDisk disk = await SpoolBed.WorkAsync(seed);
            SpoolReport report = await new SpoolBed(disk).VerifyAsync();
            Assert.True(report.Damage == 0, $"seed {seed}: {string.Join('\n', report.Findings)}");
        }
    }

    [Theory]
    [InlineData(28)] // the header's payload length
    [InlineData(12)] // the header's message id
    [InlineData(40)] // the payload's first octet
    [InlineData(90)] // in the middle of the payload
    public async Task A_flipped_octet_is_told_with_its_place_and_its_message(int offset)
    {
        Filled filled = await FillAsync(_bed);
        long address = filled.Deferred.Body.Accepted.Address;
        _bed.Flip(address + offset);
        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding finding = Assert.Single(report.Findings, f => f.Severity == SpoolSeverity.Damage && f.Subject == SpoolSubject.Record && f.Address == address);
        Assert.Equal(LogBed.Segment((int)(address / LogBed.SegmentSize)), finding.File);
        Assert.Equal(address % LogBed.SegmentSize, finding.Offset);
        Assert.Contains(filled.Deferred.Id, report.Hit);
        if (offset >= RecordHeader.Overhead)
        {
            // The header vouches for itself: it names the message and the type, and the rest of the page is not lost.
            Assert.Equal((filled.Deferred.Id, RecordType.Accepted), (finding.Message, finding.Type));
            Assert.Equal([filled.Deferred.Id], report.Hit);
        }
    }

    [Fact]
    public async Task Without_a_checkpoint_a_lost_message_is_known_from_its_states()
    {
        Filled filled = await FillAsync(_bed);
        _bed.RemoveCheckpoint();
        _bed.Disk.Corrupt(LogBed.Segment(0), octets =>
        {
            octets.AsSpan((int)filled.First.Body.Accepted.Address, LogBed.PageSize - (int)filled.First.Body.Accepted.Address).Fill(7);
            return octets;
        });
        SpoolReport report = await _bed.VerifyAsync();
        Assert.Contains(report.Findings, f => f.Severity == SpoolSeverity.Damage && f.Subject == SpoolSubject.State && f.Message == filled.Late.Id);
    }

    [Fact]
    public async Task A_missing_segment_is_told_with_the_messages_that_the_checkpoint_knows_in_it()
    {
        (MessageId[] ids, long[] addresses) = await FillSegmentsAsync();
        _bed.Disk.Remove(LogBed.Segment(1));
        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding finding = Assert.Single(report.Findings, static f => f.Subject == SpoolSubject.File);
        Assert.Equal((SpoolSeverity.Damage, "the segment file is missing", LogBed.Segment(1), 0L), (finding.Severity, finding.Text, finding.File, finding.Offset));
        Assert.Equal(ids.Where((_, i) => addresses[i] / LogBed.SegmentSize == 1), report.Hit);
    }

    [Theory]
    [InlineData(LogBed.SegmentSize - 3000)]
    [InlineData(LogBed.PageSize)]
    [InlineData(0)]
    public async Task A_short_segment_is_told_with_the_messages_behind_its_end(int length)
    {
        (MessageId[] ids, long[] addresses) = await FillSegmentsAsync();
        _bed.Disk.Corrupt(LogBed.Segment(1), octets => octets[..length]);
        SpoolReport report = await _bed.VerifyAsync();
        Assert.Contains(report.Findings, static f => f.Subject == SpoolSubject.File && f.File == LogBed.Segment(1) && f.Text.Contains("too short", StringComparison.Ordinal));
        long end = LogBed.SegmentSize + length;
        Assert.All(ids.Where((_, i) => addresses[i] >= end && addresses[i] < 2 * LogBed.SegmentSize), id => Assert.Contains(id, report.Hit));
        Assert.All(ids.Where((_, i) => addresses[i] / LogBed.SegmentSize != 1), id => Assert.DoesNotContain(id, report.Hit));
    }

    [Fact]
    public async Task A_damaged_piece_of_a_message_names_the_message_and_the_piece()
    {
        Filled filled = await FillAsync(_bed);
        RecordRef chunk = filled.Large.Body.Chunks[1];
        _bed.Flip(chunk.Address + 200);
        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding finding = Assert.Single(report.Findings, static f => f.Subject == SpoolSubject.Chunk);
        Assert.Equal((SpoolSeverity.Damage, filled.Large.Id, chunk.Address), (finding.Severity, finding.Message, finding.Address));
        Assert.Equal("piece 2 of 4 of the message cannot be read: the record's checksum does not match", finding.Text);
        Assert.Equal([filled.Large.Id], report.Hit);
    }

    [Fact]
    public async Task A_missing_piece_of_a_message_in_an_earlier_segment_names_the_message()
    {
        QueuedMessage large;
        await using (MailQueue queue = await _bed.StartAsync())
        {
            large = await SpoolBed.AcceptAsync(queue, new string('x', 100_000) + "\r\n");
        }

        Assert.NotEqual(0, large.Body.Accepted.Address / LogBed.SegmentSize);
        _bed.Disk.Remove(LogBed.Segment(0));
        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding[] pieces = [.. report.Findings.Where(static f => f.Subject == SpoolSubject.Chunk)];
        Assert.Equal(large.Body.Chunks.Count(static c => c.Address < LogBed.SegmentSize), pieces.Length);
        Assert.All(pieces, f => Assert.Equal((large.Id, "the segment file is missing"), (f.Message, f.Text.Split(": ")[1])));
        Assert.Equal([large.Id], report.Hit);
    }

    [Fact]
    public async Task A_record_of_a_newer_version_is_told_as_one()
    {
        Filled filled = await FillAsync(_bed);
        await using (FasterRecordLog log = LogBed.Open(_bed.Disk, SpoolBed.Options))
        {
            log.Checkpoint?.Dispose();
            RecordRef newer = await log.AppendAsync(RecordType.Accepted, 99ul << 20, new byte[] { 3, 0, 1, 2, 3 });
            RecordRef type = await log.AppendAsync((RecordType)77, 98ul << 20, new byte[] { 1, 0, 0 });
            await log.WaitDurableAsync(type);
            Assert.True(newer.Address < type.Address);
        }

        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding[] found = [.. report.Findings.Where(static f => f.Subject == SpoolSubject.Version)];
        Assert.Equal([new MessageId(99ul << 20), new MessageId(98ul << 20)], found.Select(static f => f.Message!.Value));
        Assert.Contains("has version 3; this program reads versions 1 and 2", found[0].Text, StringComparison.Ordinal);
        Assert.Contains("there is no type 77", found[1].Text, StringComparison.Ordinal);
        await using (MailQueue server = await new SpoolBed(_bed.Disk.Crash()).StartAsync())
        {
            // A start leaves both aside as well: the second one's octets would be the end of a message in a record of states.
            Assert.Equal(2, server.Damage.Count);
            Assert.Contains(server.Damage, static d => d.Reason.Contains("There is no record type 77", StringComparison.Ordinal));
        }


        long address = filled.Late.Body.Accepted.Address;
        _bed.Disk.Corrupt(LogBed.Segment((int)(address / LogBed.SegmentSize)), octets =>
        {
            octets[(address % LogBed.SegmentSize) + RecordHeader.EntryHeaderSize + 4] = 3;
            return octets;
        });
        Assert.Contains(await FindingsAsync(), f => f.Subject == SpoolSubject.Version && f.Address == address && f.Text == "a record header of version 3; this program reads version 1");
    }

    [Theory]
    [InlineData(8)] // version
    [InlineData(30)] // address
    [InlineData(CheckpointFile.HeaderSize + 3)] // names
    [InlineData((2 * CheckpointFile.HeaderSize) + 200)] // a job
    [InlineData(-1)] // the table of sums
    public async Task A_damaged_checkpoint_is_told_and_hits_no_message(int offset)
    {
        await FillAsync(_bed);
        string path = $"{SpoolBed.Folder}/{CheckpointFile.FileName}";
        _bed.Disk.Flip(path, offset < 0 ? _bed.Disk.Contents(path).Length - 1 : offset);
        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding finding = Assert.Single(report.Findings);
        Assert.Equal(path, finding.File);
        Assert.Equal(offset == 8 ? (SpoolSeverity.Note, SpoolSubject.Version) : (SpoolSeverity.Damage, SpoolSubject.Checkpoint), (finding.Severity, finding.Subject));
        Assert.Empty(report.Hit);
        Assert.Equal(4, report.Messages);
    }

    [Fact]
    public async Task A_checkpoint_that_says_something_else_than_the_log_is_told()
    {
        await using (MailQueue queue = await _bed.StartAsync())
        {
            await SpoolBed.AcceptAsync(queue, "one\r\n", "a@example.net");
        }

        byte[] old = _bed.Disk.Contents($"{SpoolBed.Folder}/{CheckpointFile.FileName}");
        QueuedMessage added;
        await using (MailQueue queue = await _bed.StartAsync())
        {
            added = await SpoolBed.AcceptAsync(queue, "two\r\n", "b@example.net");
        }

        byte[] fresh = _bed.Disk.Contents($"{SpoolBed.Folder}/{CheckpointFile.FileName}");
        ulong salt = Superblock.Read(_bed.Disk, $"{SpoolBed.Folder}/{Superblock.FileName}", out _)!.Salt;
        CheckpointHeader late = CheckpointFile.Read(fresh, salt, out _)!.Value;
        CheckpointHeader early = CheckpointFile.Read(old, salt, out _)!.Value;
        // The jobs of then, as if they stood for the log of now.
        _bed.Disk.Corrupt($"{SpoolBed.Folder}/{CheckpointFile.FileName}", _ =>
        {
            CheckpointFile.Write(old.AsSpan(0, CheckpointFile.HeaderSize), early with { Address = late.Address, Durable = late.Durable }, salt);
            return old;
        });
        SpoolFinding finding = Assert.Single(await FindingsAsync());
        Assert.Equal((SpoolSeverity.Damage, SpoolSubject.Checkpoint, added.Id), (finding.Severity, finding.Subject, finding.Message));
        Assert.Equal("the log has the message, the checkpoint does not", finding.Text);
    }

    [Fact]
    public async Task A_torn_tail_is_a_note_and_the_same_below_what_was_durable_is_damage()
    {
        Filled filled = await FillAsync(_bed);
        long tail = (await _bed.VerifyAsync()).Sizes!.Tail;
        FaultyDisk torn = _bed.Disk.Crash();
        torn.Corrupt(LogBed.Segment((int)(tail / LogBed.SegmentSize)), octets =>
        {
            octets.AsSpan((int)(tail % LogBed.SegmentSize), 50).Fill(9);
            return octets;
        });
        SpoolReport report = await new SpoolBed(torn).VerifyAsync();
        SpoolFinding finding = Assert.Single(report.Findings);
        Assert.Equal((SpoolSeverity.Note, SpoolSubject.Torn, tail, tail + 50), (finding.Severity, finding.Subject, finding.Address, finding.End));

        FaultyDisk lost = _bed.Disk.Crash();
        long first = filled.First.Body.Accepted.Address;
        lost.Corrupt(LogBed.Segment(0), octets =>
        {
            octets.AsSpan((int)first, LogBed.PageSize - (int)first).Clear();
            return octets;
        });
        report = await new SpoolBed(lost).VerifyAsync();
        Assert.True(report.Damage > 0);
        Assert.Contains(filled.First.Id, report.Hit);
    }

    [Fact]
    public async Task Bad_commit_slots_and_strange_files_are_told()
    {
        await FillAsync(_bed);
        _bed.Disk.Flip(LogBed.Slots, 20);
        using (IDiskFile strange = _bed.Disk.Open($"{SpoolBed.Folder}/notes.txt", DiskFileMode.CreateNew))
        {
            strange.Write(0, [1]);
        }

        using (IDiskFile left = _bed.Disk.Open($"{SpoolBed.Folder}/{CheckpointFile.NewFileName}", DiskFileMode.CreateNew))
        {
            left.Write(0, [1]);
        }

        SpoolReport report = await _bed.VerifyAsync();
        Assert.Equal((0, 3), (report.Damage, report.Notes));
        Assert.Contains(report.Findings, static f => f.Subject == SpoolSubject.Commits && f.Text.StartsWith("one of the two", StringComparison.Ordinal));
        Assert.Contains(report.Findings, static f => f.Text == "not a file of the log" && f.File == $"{SpoolBed.Folder}/notes.txt");
        _bed.Disk.Flip(LogBed.Slots, CommitSlots.SlotSize + 20);
        Assert.Contains(await FindingsAsync(), static f => f.Subject == SpoolSubject.Commits && f.Severity == SpoolSeverity.Damage);
        _bed.Disk.Remove(LogBed.Slots);
        Assert.Contains(await FindingsAsync(), static f => f.Subject == SpoolSubject.Commits && f.Text.Contains("no such file", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_page_that_cannot_be_read_is_damage_with_the_disks_word_for_it()
    {
        Filled filled = await FillAsync(_bed);
        using DiskFault fault = _bed.Disk.Fail(DiskOperations.Read, DiskException.InputOutput, LogBed.Segment(0));
        SpoolReport report = await _bed.VerifyAsync();
        Assert.Contains(report.Findings, static f => f.Severity == SpoolSeverity.Damage && f.Text.Contains("EIO", StringComparison.Ordinal));
        Assert.Contains(filled.First.Id, report.Hit);
    }

    [Theory]
    [InlineData(8, SpoolSubject.Version)]
    [InlineData(24, SpoolSubject.Superblock)]
    [InlineData(0, SpoolSubject.Superblock)]
    public async Task A_superblock_that_cannot_be_used_is_the_only_finding(int offset, SpoolSubject subject)
    {
        await FillAsync(_bed);
        _bed.Disk.Flip($"{SpoolBed.Folder}/{Superblock.FileName}", offset);
        SpoolReport report = await _bed.VerifyAsync();
        SpoolFinding finding = Assert.Single(report.Findings);
        Assert.Equal((SpoolSeverity.Damage, subject, 1L), (finding.Severity, finding.Subject, report.Damage));
        Assert.Null(report.Sizes);
    }

    [Fact]
    public async Task A_running_server_and_a_directory_without_a_log_are_refused()
    {
        Assert.Contains("cannot be read", Assert.Throws<LogOpenException>(() => OfflineDirectory.Open("/nowhere/at/all", _bed.Disk)).Message, StringComparison.Ordinal);
        _bed.Disk.CreateDirectory("/empty");
        Assert.Contains("no data directory", Assert.Throws<LogOpenException>(() => OfflineDirectory.Open("/empty", _bed.Disk)).Message, StringComparison.Ordinal);
        await using (MailQueue queue = await _bed.StartAsync())
        {
            LogOpenException refused = Assert.Throws<LogOpenException>(() => OfflineDirectory.Open(LogBed.Root, _bed.Disk));
            Assert.Contains("in use by a running server", refused.Cause, StringComparison.Ordinal);
            Assert.Contains("Stop that server", refused.Remedy, StringComparison.Ordinal);
        }

        using OfflineDirectory directory = OfflineDirectory.Open(LogBed.Root, _bed.Disk);
        // And the other way round: no server starts on what is being read.
        Assert.Contains("in use", Assert.Throws<LogOpenException>(() => LogBed.Open(_bed.Disk, SpoolBed.Options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_the_right_to_write_a_real_directory_is_verified()
    {
        string root = Directory.CreateTempSubdirectory("hpmta-spool-").FullName;
        try
        {
            QueueOptions options = SpoolBed.Options with { DataDirectory = root };
            await using (FasterRecordLog log = FasterRecordLog.Open(options, TimeProvider.System))
            {
                await log.AppendDurablyAsync(7, 100, RecordType.BodyChunk);
            }

            string @lock = Path.Combine(root, LogFiles.LockFile);
            foreach (string file in (string[])[@lock, .. Directory.GetFiles(Path.Combine(root, "log"))])
            {
                File.SetAttributes(file, FileAttributes.ReadOnly);
            }

            using (OfflineDirectory directory = OfflineDirectory.Open(root))
            {
                Assert.Empty((await SpoolVerifier.RunAsync(directory, TimeProvider.System, TestContext.Current.CancellationToken)).Findings);
                Assert.Throws<LogOpenException>(() => OfflineDirectory.Open(root));
                Assert.False(directory.WasUsedMeanwhile);
            }

            // A copy of the log alone has no lock; a server that comes meanwhile makes one.
            File.Delete(@lock);
            using OfflineDirectory copy = OfflineDirectory.Open(root);
            Assert.False(copy.WasUsedMeanwhile);
            await File.WriteAllTextAsync(@lock, "", TestContext.Current.CancellationToken);
            Assert.True(copy.WasUsedMeanwhile);
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private async Task<IReadOnlyList<SpoolFinding>> FindingsAsync() => (await _bed.VerifyAsync()).Findings;

    private sealed record Filled(QueuedMessage First, QueuedMessage Deferred, QueuedMessage Large, QueuedMessage Late);

    /// <summary>Seven messages: one as it came, one deferred, one in chunks, one split and partly delivered; one delivered, one dropped, one revoked at the end of the first page and further.</summary>
    private static async Task<Filled> FillAsync(SpoolBed bed)
    {
        await using MailQueue queue = await bed.StartAsync();
        QueuedMessage first = await SpoolBed.AcceptAsync(queue, "first\r\n");
        QueuedMessage deferred = await SpoolBed.AcceptAsync(queue, "deferred\r\n", "two@example.net");
        await queue.UpdateAsync(deferred, new RecipientUpdate[] { new(0, QueueBench.Deferred(3, DateTimeOffset.UnixEpoch.AddDays(25000))) });
        QueuedMessage late = await SpoolBed.AcceptAsync(queue, "split\r\n", "a@one.example", "b@two.example", "c@three.example");
        QueuedMessage[] parts = await queue.SplitAsync(late, [[0], [1], [2]]);
        await queue.UpdateAsync(parts[0], new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        QueuedMessage large = await SpoolBed.AcceptAsync(queue, new string('x', 10_000) + "\r\n", "large@example.net");
        await queue.UpdateDurablyAsync(parts[1], new RecipientUpdate[] { new(1, QueueBench.Deferred(1, DateTimeOffset.UnixEpoch.AddDays(25000))) });
        QueuedMessage delivered = await SpoolBed.AcceptAsync(queue, "delivered\r\n");
        await queue.UpdateAsync(delivered, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        QueuedMessage dropped = await SpoolBed.AcceptAsync(queue, "dropped\r\n");
        await queue.SteerAsync(new[] { dropped.Slot }, new Steering(SteeringKind.Drop, default));
        await queue.SteerAsync(new[] { first.Slot }, new Steering(SteeringKind.Hold, default));
        QueuedMessage revoked = await SpoolBed.AcceptAsync(queue, "delivered too\r\n");
        await queue.UpdateDurablyAsync(revoked, new RecipientUpdate[] { new(0, QueueBench.Delivered()) });
        // Its last state in another page than its record.
        while (queue.Log.TailAddress < 2 * LogBed.PageSize)
        {
            await queue.UpdateDurablyAsync(parts[1], new RecipientUpdate[] { new(1, QueueBench.Deferred(2, DateTimeOffset.UnixEpoch.AddDays(25000), new string('t', 900))) });
        }

        return new Filled(first, deferred, large, late);
    }

    private async Task<(MessageId[] Ids, long[] Addresses)> FillSegmentsAsync()
    {
        await using MailQueue queue = await _bed.StartAsync();
        List<QueuedMessage> messages = [];
        while (queue.Log.TailAddress < (2 * LogBed.SegmentSize) + 5000)
        {
            messages.Add(await SpoolBed.AcceptAsync(queue, new string('y', 2000) + "\r\n"));
        }

        return ([.. messages.Select(static m => m.Id)], [.. messages.Select(static m => m.Body.Accepted.Address)]);
    }
}
