using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Storage;

namespace HighPerfMta.Queue.Offline;

/// <summary>Verifies a checkpoint: every sum in it, and that it and the log behind it come to the same as the whole log. No mail is lost by a bad one: the log is read instead.</summary>
internal sealed class CheckpointChecker(OfflineFiles files, FindingList findings)
{
    private const string Remedy = "a start leaves it out and reads the whole log";

    private readonly string _path = Path.Combine(files.Directory.Folder, CheckpointFile.FileName);

    /// <summary>Verifies the file alone; false when it cannot be used.</summary>
    public bool CheckFile()
    {
        CheckpointReader? checkpoint = CheckpointReader.Open(files.Directory.Disk, files.Directory.Folder, files.Superblock.Salt, out string? problem);
        if (checkpoint is null)
        {
            if (problem is not null)
            {
                bool otherFormat = problem.Contains("format", StringComparison.Ordinal);
                Add(otherFormat ? SpoolSeverity.Note : SpoolSeverity.Damage, otherFormat ? SpoolSubject.Version : SpoolSubject.Checkpoint, problem);
            }

            return false;
        }

        using (checkpoint)
        {
            return CheckTime(checkpoint) && CheckParts(checkpoint);
        }
    }

    /// <summary>Compares the messages that come of the log with those that come of the checkpoint and the log behind it.</summary>
    public void Compare(JobBook log, JobBook checkpoint)
    {
        List<(ulong Id, int Open)> first = MessagesOf(log);
        List<(ulong Id, int Open)> second = MessagesOf(checkpoint);
        int i = 0;
        int j = 0;
        while (i < first.Count || j < second.Count)
        {
            ulong one = i < first.Count ? first[i].Id : ulong.MaxValue;
            ulong other = j < second.Count ? second[j].Id : ulong.MaxValue;
            if (one == other && first[i].Open != second[j].Open)
            {
                Differ(one, $"{second[j].Open} open recipients by the checkpoint, {first[i].Open} by the log");
            }
            else if (one < other)
            {
                Differ(one, "the log has the message, the checkpoint does not");
            }
            else if (other < one)
            {
                Differ(other, "the checkpoint has the message, the log does not");
            }

            i += one <= other ? 1 : 0;
            j += other <= one ? 1 : 0;
        }
    }

    private bool CheckTime(CheckpointReader checkpoint)
    {
        if (checkpoint.Durable > files.Extent.End)
        {
            Add(SpoolSeverity.Damage, SpoolSubject.File, $"the log ends at {files.Extent.End}, and was durable up to {checkpoint.Durable} when the checkpoint was made: its last segments are missing");
            return false;
        }

        if (checkpoint.Address < files.Extent.Begin)
        {
            Add(SpoolSeverity.Note, SpoolSubject.Checkpoint, $"it stands for address {checkpoint.Address}, before the beginning of the log; {Remedy}");
            return false;
        }

        return true;
    }

    private bool CheckParts(CheckpointReader checkpoint)
    {
        bool intact = checkpoint.TryReadNames(out _);
        if (!intact)
        {
            Add(SpoolSeverity.Damage, SpoolSubject.Checkpoint, $"its names are damaged; {Remedy}");
        }

        byte[] block = new byte[CheckpointFile.BlockSize];
        for (int i = 0; i < checkpoint.Blocks; i++)
        {
            if (!checkpoint.TryReadBlock(i, block))
            {
                intact = false;
                Add(SpoolSeverity.Damage, SpoolSubject.Checkpoint, $"block {i + 1} of {checkpoint.Blocks} is damaged; {Remedy}");
            }
        }

        return intact;
    }

    private static List<(ulong Id, int Open)> MessagesOf(JobBook book)
    {
        List<(ulong Id, int Open)> jobs = new(book.Jobs.Count);
        for (int chunk = 0; chunk < book.Jobs.Chunks; chunk++)
        {
            foreach (ref readonly Job job in book.Jobs.ReadChunk(chunk))
            {
                if (job.Id != 0)
                {
                    jobs.Add((job.Id, job.Count));
                }
            }
        }

        jobs.Sort();
        int kept = 0;
        for (int i = 0; i < jobs.Count; i++)
        {
            if (kept > 0 && jobs[kept - 1].Id == jobs[i].Id)
            {
                jobs[kept - 1] = (jobs[i].Id, jobs[kept - 1].Open + jobs[i].Open);
            }
            else
            {
                jobs[kept++] = jobs[i];
            }
        }

        jobs.RemoveRange(kept, jobs.Count - kept);
        return jobs;
    }

    // Of a message that damage hits already nothing else can be expected.
    private void Differ(ulong id, string text)
    {
        if (!findings.IsHit(id))
        {
            findings.Add(new SpoolFinding(SpoolSeverity.Damage, SpoolSubject.Checkpoint, text) { File = _path, Message = new MessageId(id) });
        }
    }

    private void Add(SpoolSeverity severity, SpoolSubject subject, string text) => findings.AddFile(severity, subject, _path, text);
}
