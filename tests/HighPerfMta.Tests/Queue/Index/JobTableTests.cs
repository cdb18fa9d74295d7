using CsCheck;
using HighPerfMta.Queue.Index;

namespace HighPerfMta.Tests.Queue.Index;

public class JobTableTests
{
    /// <summary>Jobs that a chunk takes: its slot 0 is never used.</summary>
    private const int ChunkRoom = JobTable.ChunkJobs - 1;

    private const long ChunkBytes = JobTable.ChunkJobs * (long)Job.Bytes;

    [Fact]
    public void Every_job_keeps_its_slot_and_is_found_until_it_is_removed() =>
        Gen.Int[0, 99].Array[1, 400].Sample(steps =>
        {
            JobTable table = new();
            List<(int Slot, ulong Id)> jobs = [];
            ulong lastId = 0;
            foreach (int step in steps)
            {
                if (step < 60 || jobs.Count == 0)
                {
                    ulong id = ++lastId;
                    jobs.Add((table.Add(new Job { Id = id, Size = (uint)id }), id));
                }
                else
                {
                    (int slot, ulong id) = jobs[step % jobs.Count];
                    jobs.RemoveAt(step % jobs.Count);
                    table.Remove(slot);
                    Assert.False(table.TryRead(slot, out Job gone) && gone.Id == id);
                }
            }

            Assert.Equal(jobs.Count, table.Count);
            Assert.Equal(jobs.Count, jobs.Select(static j => j.Slot).Distinct().Count());
            Assert.All(jobs, j => Assert.True(table.TryRead(j.Slot, out Job job) && job.Id == j.Id && job.Size == (uint)j.Id && job.Sibling == j.Slot));
        });

    [Fact]
    public void A_backlog_gives_its_memory_back()
    {
        JobTable table = new();
        List<int> slots = [];
        for (int i = 0; i < 5 * ChunkRoom; i++)
        {
            slots.Add(table.Add(new Job { Id = 1 }));
        }

        Assert.Equal(5 * ChunkBytes, table.ResidentBytes);
        slots.ForEach(table.Remove);
        Assert.Equal(0, table.Count);
        Assert.Equal(2 * ChunkBytes, table.ResidentBytes);
        Assert.False(table.ReadChunk(1).IsEmpty);
        Assert.True(table.ReadChunk(2).IsEmpty && table.ReadChunk(3).IsEmpty && table.ReadChunk(4).IsEmpty);
    }

    [Fact]
    public void A_queue_that_swings_about_a_chunks_end_allocates_nothing()
    {
        JobTable table = new();
        for (int i = 0; i < ChunkRoom; i++)
        {
            table.Add(new Job { Id = 1 });
        }

        table.Remove(table.Add(new Job { Id = 1 }));
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            table.Remove(table.Add(new Job { Id = 1 }));
        }

        // A chunk has a million octets; the runtime may have allocated a few on this thread of its own accord.
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 64 << 10);
    }

    [Fact]
    public void New_jobs_go_to_the_lowest_chunk_with_room()
    {
        JobTable table = new();
        List<int> slots = [];
        for (int i = 0; i < 3 * ChunkRoom; i++)
        {
            slots.Add(table.Add(new Job { Id = 1 }));
        }

        table.Remove(slots[^1]);
        table.Remove(slots[10]);
        Assert.Equal(slots[10], table.Add(new Job { Id = 2 }));
        Assert.Equal(slots[^1], table.Add(new Job { Id = 3 }));
    }

    [Fact]
    public void Of_an_adopted_chunk_only_what_is_below_its_last_job_counts_and_all_of_it_can_be_used()
    {
        JobTable table = new();
        table.Reserve(2);
        Job[] jobs = new Job[JobTable.ChunkJobs];
        foreach (int i in (int[])[3, 5, 900])
        {
            jobs[i].Id = (ulong)i;
        }

        table.Adopt(0, jobs);
        table.Unreserve(1);
        Assert.Equal((3, 901L * Job.Bytes), (table.Count, table.ResidentBytes));
        Assert.Equal(0, JobTable.LastUsed(jobs.AsSpan(900)));
        Assert.All(jobs[901..], static j => Assert.Equal((0, 0UL), (j.Next, j.Id)));
        HashSet<int> slots = [3, 5, 900];
        for (int i = 0; i < ChunkRoom; i++)
        {
            Assert.True(slots.Add(table.Add(new Job { Id = 1000 + (ulong)i })));
        }

        Assert.Equal((ChunkRoom, 3), (slots.Count(static s => s < JobTable.ChunkJobs), slots.Count(static s => s >= JobTable.ChunkJobs)));
        Assert.All((int[])[3, 5, 900], i => Assert.True(table.TryRead(i, out Job job) && job.Id == (ulong)i));
    }

    [Fact]
    public void A_job_takes_64_bytes() => Assert.Equal(Job.Bytes, System.Runtime.CompilerServices.Unsafe.SizeOf<Job>());
}
