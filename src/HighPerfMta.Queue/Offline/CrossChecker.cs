using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>
/// Checks that what jobs point to is in the log: their messages' records, their states, and the pieces of messages in chunks. Payloads were verified by the scan: here only headers are read, and
/// each place is compared with the damaged ranges.
/// </summary>
internal sealed class CrossChecker(OfflineFiles files, IReadOnlyList<Finding> damage, FindingList findings)
{
    /// <summary>Every job of a queue that was read from the log alone: its records were seen, the pieces of its message are looked for.</summary>
    public void CheckChunks(JobBook book) => ForEach(book, (in Job job, bool first) =>
    {
        if (first && book.FirstChunks.ContainsKey(job.Id))
        {
            CheckChunks(job);
        }
    });

    /// <summary>Every job of a queue that was read from a checkpoint: its records are looked for too.</summary>
    public void CheckReferences(JobBook book) => ForEach(book, (in Job job, bool first) =>
    {
        if (first)
        {
            Check(job, job.Accepted, "the message's record", static t => t is RecordType.Accepted or RecordType.Copied);
        }

        if (job.State != 0)
        {
            Check(job, job.State, "the record with its state", static t => t is RecordType.Deferred or RecordType.Steered or RecordType.Routed or RecordType.Completed);
        }
    });

    private delegate void JobVisitor(in Job job, bool first);

    private static void ForEach(JobBook book, JobVisitor visit)
    {
        for (int chunk = 0; chunk < book.Jobs.Chunks; chunk++)
        {
            ReadOnlySpan<Job> jobs = book.Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                if (jobs[i].Id != 0)
                {
                    visit(jobs[i], IsFirst(book.Jobs, (chunk * JobTable.ChunkJobs) + i));
                }
            }
        }
    }

    // Of the jobs of a message, the one with the lowest slot.
    private static bool IsFirst(JobTable jobs, int slot)
    {
        for (int at = jobs[slot].Sibling; at != slot; at = jobs[at].Sibling)
        {
            if (at < slot)
            {
                return false;
            }
        }

        return true;
    }

    private void Check(in Job job, long address, string what, Func<RecordType, bool> isRight)
    {
        if (address > files.Extent.End)
        {
            // Appended in memory while the queue was loaded.
            return;
        }

        string? problem = Problem(address, out RecordHeader? header);
        if (problem is null && (header!.Value.MessageId != job.Id || !isRight(header.Value.Type)))
        {
            problem = "another record is there";
        }

        if (problem is not null)
        {
            findings.Add(new SpoolFinding(SpoolSeverity.Damage, SpoolSubject.State, $"{what} cannot be read: {problem}; the checkpoint refers to it") { Address = address, Message = job.MessageId });
        }
    }

    private void CheckChunks(in Job job)
    {
        try
        {
            using StoredRecord stored = files.Reader.Read(job.Accepted);
            AcceptedRecord accepted = JobReader.ReadAccepted(stored, job);
            for (int i = 0; i < accepted.Chunks.Length; i++)
            {
                CheckChunk(job.MessageId, accepted, i);
            }
        }
        catch (RecordUnreadableException e)
        {
            findings.Add(new SpoolFinding(SpoolSeverity.Damage, SpoolSubject.Record, e.Message) { Address = job.Accepted, Message = job.MessageId });
        }
    }

    private void CheckChunk(MessageId id, in AcceptedRecord accepted, int index)
    {
        RecordRef chunk = accepted.Chunks[index];
        string? problem = Problem(chunk.Address, out RecordHeader? header);
        if (problem is null && (header!.Value.Type != RecordType.BodyChunk || header.Value.MessageId != accepted.ChunkOwner || header.Value.PayloadLength != chunk.Length))
        {
            problem = "another record is there";
        }

        if (problem is not null)
        {
            string text = $"piece {index + 1} of {accepted.Chunks.Length} of the message cannot be read: {problem}";
            findings.Add(SpoolSeverity.Damage, SpoolSubject.Chunk, text, chunk, RecordType.BodyChunk, id.Value);
        }
    }

    /// <summary>Why there is no intact record at an address; null when there is one.</summary>
    private string? Problem(long address, out RecordHeader? header)
    {
        header = null;
        if (address < files.Extent.Begin)
        {
            return "it lies before the beginning of the log";
        }

        try
        {
            header = files.Store.Contains((int)(address >> files.Store.Bits)) ? files.Reader.ReadHeader(address) : null;
        }
        catch (DiskException e)
        {
            return e.Message;
        }

        int at = FindDamage(address);
        return at >= 0 ? damage[at].Range.Reason : header is null ? "no intact record header" : null;
    }

    /// <summary>The damaged range that holds an address; -1: none.</summary>
    private int FindDamage(long address)
    {
        int low = 0;
        int high = damage.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            if (damage[middle].To <= address)
            {
                low = middle + 1;
            }
            else if (damage[middle].From > address)
            {
                high = middle - 1;
            }
            else
            {
                return middle;
            }
        }

        return -1;
    }
}
