using System.Buffers.Binary;
using System.Globalization;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>
/// Verifies a data directory: superblock, commit slots, every segment and record, the records that jobs point to, and the checkpoint against the log. Reads the log once, page by page, and the part
/// behind the checkpoint again; writes nothing. Memory: one page, two tables of jobs (one of the log, one of the checkpoint) of 64 bytes a job and the names that they share, 16 bytes a job for their
/// comparison, and the ids of the messages in the log.
/// </summary>
public sealed class SpoolVerifier
{
    /// <summary>Findings that are kept; further ones are counted only.</summary>
    public const int MaxFindings = 10_000;

    private readonly OfflineDirectory _directory;
    private readonly TimeProvider _time;
    private readonly FindingList _findings = new(MaxFindings);
    private readonly RecordTally _tally = new();

    private SpoolVerifier(OfflineDirectory directory, TimeProvider time)
    {
        _directory = directory;
        _time = time;
    }

    /// <param name="directory">The data directory.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="DiskException">The folder of the log cannot be read.</exception>
    public static async Task<SpoolReport> RunAsync(OfflineDirectory directory, TimeProvider time, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(directory);
        return await new SpoolVerifier(directory, time).RunAsync(cancellation);
    }

    private async Task<SpoolReport> RunAsync(CancellationToken cancellation)
    {
        OfflineFiles files;
        try
        {
            files = OfflineFiles.Open(_directory);
        }
        catch (LogOpenException e)
        {
            // Without a superblock nothing else can be looked at.
            SpoolSubject subject = e.Message.Contains("has format", StringComparison.Ordinal) ? SpoolSubject.Version : SpoolSubject.Superblock;
            _findings.AddFile(SpoolSeverity.Damage, subject, Path.Combine(_directory.Folder, Superblock.FileName), e.Message);
            return new SpoolReport { Findings = _findings.InOrder(), Damage = _findings.Damage };
        }

        using (files)
        {
            _findings.Files = files;
            return await RunAsync(files, cancellation);
        }
    }

    private async Task<SpoolReport> RunAsync(OfflineFiles files, CancellationToken cancellation)
    {
        CheckSlots(files);
        CheckNames(files);
        RecordChecker records = new(_findings, _tally);
        CheckpointChecker checkpoint = new(files, _findings);
        bool usable = checkpoint.CheckFile();
        await using OfflineQueue log = await OfflineQueue.OpenAsync(files, OfflineSource.Log, _time, records.Visit, cancellation);
        Report(files, log.State);
        records.ReportOrphans(log.State.Damage);
        CrossChecker references = new(files, log.State.Damage, _findings);
        references.CheckChunks(log.MailQueue.Book);
        if (usable)
        {
            await using OfflineQueue start = await OfflineQueue.OpenAsync(files, OfflineSource.Checkpoint, _time, null, cancellation);
            references.CheckReferences(start.MailQueue.Book);
            checkpoint.Compare(log.MailQueue.Book, start.MailQueue.Book);
        }

        return new SpoolReport
        {
            Findings = _findings.InOrder(),
            Damage = _findings.Damage,
            Notes = _findings.Notes,
            Sizes = log.Sizes,
            Records = _tally,
            Messages = log.Queue.Count,
            Jobs = log.Queue.Jobs.Count,
            Hit = _findings.Hit,
        };
    }

    private void CheckSlots(OfflineFiles files)
    {
        string path = Path.Combine(_directory.Folder, CommitSlots.FileName);
        if (files.IntactSlots == 0)
        {
            string cause = files.SlotsProblem is { } problem ? $"{LogExtent.NoSlots} ({problem})" : LogExtent.NoSlots;
            _findings.AddFile(SpoolSeverity.Damage, SpoolSubject.Commits, path, cause);
        }
        else if (files.IntactSlots == 1)
        {
            _findings.AddFile(SpoolSeverity.Note, SpoolSubject.Commits, path, "one of the two commit slots is not intact, as a crash may leave it; the other one holds");
        }
    }

    private void CheckNames(OfflineFiles files)
    {
        int first = (int)(files.Extent.Begin >> files.Store.Bits);
        foreach (string name in _directory.List())
        {
            string? text = Remark(name, first);
            if (text is not null)
            {
                _findings.AddFile(SpoolSeverity.Note, SpoolSubject.File, Path.Combine(_directory.Folder, name), text);
            }
        }
    }

    private static string? Remark(string name, int firstSegment)
    {
        if (name is Superblock.FileName or CommitSlots.FileName or CheckpointFile.FileName || name.StartsWith(SegmentStock.SparePrefix, StringComparison.Ordinal))
        {
            return null;
        }

        if (name.StartsWith(SegmentStore.Prefix, StringComparison.Ordinal) && int.TryParse(name.AsSpan(SegmentStore.Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int segment))
        {
            return segment < firstSegment ? "a segment before the beginning of the log; the next start deletes it" : null;
        }

        bool leftOver = name == CheckpointFile.NewFileName || name.StartsWith(SegmentStock.FillingPrefix, StringComparison.Ordinal);
        return leftOver ? "left over from a crash; the server removes it" : "not a file of the log";
    }

    private void Report(OfflineFiles files, LogState state)
    {
        foreach (Finding finding in state.Damage)
        {
            _findings.Add(Describe(files, finding));
        }

        foreach (Finding finding in state.Unfinished)
        {
            _findings.Add(Place(new SpoolFinding(SpoolSeverity.Note, SpoolSubject.Torn, $"a write was not finished ({finding.Range.Reason}); nothing in it was acknowledged"), finding.From, finding.To));
        }

        if (state.Torn.To > state.Torn.From)
        {
            _findings.Add(Place(new SpoolFinding(SpoolSeverity.Note, SpoolSubject.Torn, "unfinished, unacknowledged writes behind the last record, or what the segment held before; the next start overwrites them with zeros"), state.Torn.From, state.Torn.To));
        }
    }

    private static SpoolFinding Place(SpoolFinding finding, long from, long to) => finding with { Address = from, End = to };

    private static SpoolFinding Describe(OfflineFiles files, in Finding finding)
    {
        string reason = finding.Range.Reason;
        if (finding.Record is { } header)
        {
            bool isMessage = header.Type != RecordType.BodyChunk && header.MessageId != 0;
            return Place(new SpoolFinding(SpoolSeverity.Damage, SpoolSubject.Record, reason), finding.From, finding.To) with
            {
                Type = header.Type,
                Message = isMessage ? new MessageId(header.MessageId) : null,
            };
        }

        SpoolSubject subject = reason.StartsWith("the segment file", StringComparison.Ordinal) ? SpoolSubject.File : SpoolSubject.Record;
        if (finding.MayBeTorn && Elaborate(files, finding.From) is { } more)
        {
            subject = more.Subject;
            reason = more.Text;
        }

        return Place(new SpoolFinding(SpoolSeverity.Damage, subject, reason), finding.From, finding.To);
    }

    /// <summary>What is there instead of an intact record header, if that looks like one.</summary>
    private static (SpoolSubject Subject, string Text)? Elaborate(OfflineFiles files, long address)
    {
        Span<byte> head = stackalloc byte[RecordHeader.Size];
        try
        {
            if (files.Store.Read(address + RecordHeader.EntryHeaderSize, head) < head.Length || BinaryPrimitives.ReadUInt32LittleEndian(head) != RecordHeader.Magic)
            {
                return null;
            }
        }
        catch (DiskException)
        {
            return null;
        }

        if (head[4] != RecordHeader.Version)
        {
            return (SpoolSubject.Version, $"a record header of version {head[4]}; this program reads version {RecordHeader.Version}");
        }

        bool intact = RecordHeader.TryRead(head, new RecordSeeds(files.Superblock).Header(address), out _);
        return intact ? null : (SpoolSubject.Record, "a record header whose checksum does not match: it is damaged, of another place, or of another log");
    }
}
