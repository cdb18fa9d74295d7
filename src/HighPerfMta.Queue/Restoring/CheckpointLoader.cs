using System.Runtime.InteropServices;
using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Storage;
using Microsoft.Extensions.Logging;

namespace HighPerfMta.Queue.Restoring;

/// <summary>
/// Reads a checkpoint's jobs, brings them up to the tail of the log and puts them into the table; then makes the jobs that the tail only mapped. All or nothing: a checkpoint
/// with a damaged block is not used, and the log from its beginning is read instead.
/// </summary>
internal sealed class CheckpointLoader(MailQueue queue, Replayer replayer, CheckpointReader? checkpoint)
{
    private readonly JobBook _book = queue.Book;
    private readonly JobRestorer _restorer = new(queue, replayer);
    private readonly Dictionary<ulong, List<int>> _rings = [];

    public async Task RunAsync(CancellationToken cancellation)
    {
        if (checkpoint is not null)
        {
            if (ReadAll(out Job[][] chunks))
            {
                Adopt(chunks);
                await CatchUpAsync(cancellation);
            }
            else
            {
                MailQueue.CheckpointDamaged(queue.Logger);
                await ReadLogAsync(cancellation);
            }

            EndRestore();
        }

        foreach ((ulong id, RecipientMap map) in replayer.Many)
        {
            await _restorer.RestoreAsync(id, replayer.Slots[id], map, cancellation);
        }

        await WriteInexactAsync();
        foreach ((ulong id, long address) in replayer.Orphans)
        {
            await RevokeAsync(id, address);
        }
    }

    private bool ReadAll(out Job[][] chunks)
    {
        chunks = new Job[checkpoint!.Blocks][];
        Job[] block = GC.AllocateUninitializedArray<Job>(JobTable.ChunkJobs);
        for (int i = 0; i < chunks.Length; i++)
        {
            if (!checkpoint.TryReadBlock(i, MemoryMarshal.AsBytes(block.AsSpan())))
            {
                return false;
            }

            // Slot 0 is never a job's. What is above the last one stays untouched memory.
            int last = JobTable.LastUsed(block);
            chunks[i] = last == 0 ? [] : GC.AllocateArray<Job>(JobTable.ChunkJobs, pinned: true);
            block.AsSpan(0, last == 0 ? 0 : last + 1).CopyTo(chunks[i]);
            if (checkpoint.Version == CheckpointFile.FormerVersion)
            {
                foreach (ref Job job in chunks[i].AsSpan())
                {
                    job.ConvertFromFormat1();
                }
            }
        }

        return true;
    }

    private void Adopt(Job[][] chunks)
    {
        for (int chunk = 0; chunk < chunks.Length; chunk++)
        {
            Job[] jobs = chunks[chunk];
            if (jobs.Length == 0)
            {
                _book.Jobs.Unreserve(chunk);
                continue;
            }

            jobs[0] = default;
            int last = JobTable.LastUsed(jobs);
            for (int i = 1; i <= last; i++)
            {
                ref Job job = ref jobs[i];
                if (job.Id == 0 || !IsWanted(job))
                {
                    job = default;
                    continue;
                }

                int slot = (chunk * JobTable.ChunkJobs) + i;
                bool first = true;
                if (MayHaveSiblings(job, slot))
                {
                    first = AddToRing(job.Id, slot);
                }

                Mend(ref job);
                job.Sibling = slot;
                _book.Count(job, first);
            }

            _book.Jobs.Adopt(chunk, jobs);
        }

        foreach ((ulong id, List<int> ring) in _rings)
        {
            Close(id, ring);
        }
    }

    // What the tail tells the whole of, it tells better; what ended there is gone; a slot that was being filled or freed when it was written may hold anything.
    private bool IsWanted(in Job job)
    {
        if (replayer.Ended.Contains(job.Id) || replayer.Slots.ContainsKey(job.Id) || job.Accepted >= checkpoint!.Address)
        {
            return false;
        }

        // The head of the log may have moved on since: then the message did too.
        return job.Accepted >= queue.Log.BeginAddress
            || (replayer.Foreign.TryGetValue(job.Id, out List<TailChange>? changes) && changes.Exists(static c => c.Type == RecordType.Copied));
    }

    /// <summary>
    /// Whether the message may have another job in the checkpoint. What a job says of its siblings is of the moment in which its chunk was written: of one that was split or ended meanwhile two may
    /// each say that they are alone. The tail tells of each such change.
    /// </summary>
    private bool MayHaveSiblings(in Job job, int slot) =>
        job.Sibling != slot || ((job.Count != 1 || job.IsPart) && replayer.Foreign.ContainsKey(job.Id));

    private bool AddToRing(ulong id, int slot)
    {
        if (_rings.TryGetValue(id, out List<int>? ring))
        {
            ring.Add(slot);
            return false;
        }

        _rings.Add(id, [slot]);
        return true;
    }

    /// <summary>Names that were given up while the checkpoint was written are not in it: the tail has what came instead, or the record is asked.</summary>
    private void Mend(ref Job job)
    {
        JobNames names = _book.Names;
        job.Place = JobPlace.Entering;
        job.Next = 0;
        job.Previous = 0;
        job.Site = 0;
        job.Reason = names.Reasons.Get(job.Reason) is null ? (ushort)0 : job.Reason;
        if (job.Has(JobFlags.Rerouted) && names.Routes.Get(job.Route) is null)
        {
            job.Flags &= ~JobFlags.Rerouted;
        }

        job.Route = job.Has(JobFlags.Rerouted) ? job.Route : (ushort)0;
        if (job.Domain != 0 && names.Domains.Get(job.Domain) is null)
        {
            job.Domain = 0;
        }

        job.Flags = job.Domain == 0 ? job.Flags | JobFlags.Mixed : job.Flags & ~JobFlags.Mixed;
        bool known = job.Sender == 0 || (job.Sender > 0 ? names.Senders.Get(job.Sender) : names.Domains.Get(-job.Sender)) is not null;
        job.Sender = known ? job.Sender : -JobNames.UnknownDomain;
    }

    private void Close(ulong id, List<int> ring)
    {
        lock (_book.LockOf(id))
        {
            for (int i = 0; i < ring.Count; i++)
            {
                _book.Jobs[ring[i]].Sibling = ring[(i + 1) % ring.Count];
            }
        }
    }

    private async Task CatchUpAsync(CancellationToken cancellation)
    {
        Dictionary<ulong, List<int>> slots = FindForeign();
        foreach ((ulong id, List<TailChange> changes) in replayer.Foreign)
        {
            if (slots.TryGetValue(id, out List<int>? jobs))
            {
                await _restorer.CatchUpAsync(id, jobs, changes, cancellation);
            }
        }
    }

    private Dictionary<ulong, List<int>> FindForeign()
    {
        Dictionary<ulong, List<int>> found = new(replayer.Foreign.Count);
        for (int chunk = 0; chunk < checkpoint!.Blocks; chunk++)
        {
            ReadOnlySpan<Job> jobs = _book.Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                if (jobs[i].Id != 0 && replayer.Foreign.ContainsKey(jobs[i].Id))
                {
                    ref List<int>? slots = ref CollectionsMarshal.GetValueRefOrAddDefault(found, jobs[i].Id, out _);
                    (slots ??= []).Add((chunk * JobTable.ChunkJobs) + i);
                }
            }
        }

        return found;
    }

    /// <summary>The checkpoint is of no use: reads the log below it, and then what the tail says of the messages found there.</summary>
    private async Task ReadLogAsync(CancellationToken cancellation)
    {
        for (int i = 0; i < checkpoint!.Blocks; i++)
        {
            _book.Jobs.Unreserve(i);
        }

        Replayer below = new(queue, onCheckpoint: false);
        below.Skip(replayer);
        queue.Log.Scan(queue.Log.BeginAddress, checkpoint.Address, below.Visit, cancellation);
        JobRestorer restorer = new(queue, below);
        foreach ((ulong id, RecipientMap map) in below.Many)
        {
            await restorer.RestoreAsync(id, below.Slots[id], map, cancellation);
        }

        foreach ((ulong id, List<TailChange> changes) in replayer.Foreign)
        {
            if (below.Slots.TryGetValue(id, out int slot))
            {
                await _restorer.CatchUpAsync(id, RingOf(slot), changes, cancellation);
            }
        }

        _restorer.Inexact.AddRange(restorer.Inexact.Where(m => !replayer.Foreign.ContainsKey(m.Id.Value)));
    }

    private List<int> RingOf(int slot)
    {
        List<int> ring = [];
        int at = slot;
        do
        {
            ring.Add(at);
            at = _book.Jobs[at].Sibling;
        }
        while (at != slot);
        return ring;
    }

    private void EndRestore()
    {
        _book.Names.Domains.EndRestore();
        _book.Names.Senders.EndRestore();
        _book.Names.Reasons.EndRestore();
        _book.Names.Routes.EndRestore();
    }

    private async Task WriteInexactAsync()
    {
        foreach (QueuedMessage message in _restorer.Inexact)
        {
            await queue.WriteStateAsync(message);
        }

        queue.Log.CommitSoon();
    }

    private async Task RevokeAsync(ulong id, long address)
    {
        try
        {
            await queue.RevokeAsync(id, address);
        }
        catch (LogUnavailableException e)
        {
            queue.Logger.LogWarning("The end of message {Id} could not be said again: {Reason}", new MessageId(id), e.Message);
        }
    }
}
