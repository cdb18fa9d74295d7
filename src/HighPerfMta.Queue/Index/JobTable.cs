using System.Numerics;

namespace HighPerfMta.Queue.Index;

/// <summary>
/// All jobs, packed in chunks of 1 MiB. A slot is a number that stays the job's as long as it is queued; slot 0 is never used. Adding takes the lowest chunk with
/// room, so that chunks empty and are given back after a backlog; one empty chunk is kept, so that a queue whose length swings about a chunk's end does not allocate one again and again.
/// Adding and removing are safe for concurrent use; the fields of a job are its owner's.
/// </summary>
public sealed class JobTable
{
    /// <summary>Jobs of one chunk.</summary>
    public const int ChunkJobs = 1 << ChunkBits;

    private const int ChunkBits = 14;
    private const int ChunkMask = ChunkJobs - 1;
    private const int MaxChunks = 1 << (31 - ChunkBits);

    private readonly Lock _gate = new();
    private Chunk?[] _chunks = new Chunk?[16];
    private ulong[] _withRoom = new ulong[1];
    private int _chunkCount;
    private int _count;
    private int _kept;

    private sealed class Chunk(Job[] jobs)
    {
        public readonly Job[] Jobs = jobs;
        public int Free;
        public int Fresh;
        public int Used;
    }

    /// <summary>Jobs in the table.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Chunks that a scan has to look at, given-back ones among them.</summary>
    public int Chunks => Volatile.Read(ref _chunkCount);

    /// <summary>Bytes of the slots that were ever used, in chunks not given back: what of the table is resident.</summary>
    public long ResidentBytes
    {
        get
        {
            lock (_gate)
            {
                long slots = 0;
                for (int i = 0; i < _chunkCount; i++)
                {
                    slots += _chunks[i] is { } chunk ? chunk.Fresh + 1 : 0;
                }

                return slots * Job.Bytes;
            }
        }
    }

    /// <summary>The job in a slot that is in use.</summary>
    public ref Job this[int slot] => ref Volatile.Read(ref _chunks)[slot >> ChunkBits]!.Jobs[slot & ChunkMask];

    /// <summary>
    /// A job as it is now, for readers that do not own it; false when the slot holds none. Fields may be of different moments; see <see cref="Job"/>.
    /// </summary>
    public bool TryRead(int slot, out Job job)
    {
        ReadOnlySpan<Job> chunk = ReadChunk(slot >> ChunkBits);
        job = chunk.IsEmpty ? default : chunk[slot & ChunkMask];
        return job.Id != 0 && Volatile.Read(in chunk[slot & ChunkMask].Id) == job.Id;
    }

    /// <summary>One chunk's jobs for a scan, free slots (<see cref="Job.Id"/> 0) among them; empty when it was given back. Slot of its first: index × <see cref="ChunkJobs"/>.</summary>
    public ReadOnlySpan<Job> ReadChunk(int chunk)
    {
        Chunk?[] chunks = Volatile.Read(ref _chunks);
        return chunk < chunks.Length && Volatile.Read(ref chunks[chunk]) is { } found ? found.Jobs : default;
    }

    /// <summary>Puts a copy of the job into a slot of its own and makes it its own only sibling.</summary>
    /// <exception cref="InvalidOperationException">There are 2,147,467,264 jobs already.</exception>
    public int Add(in Job job)
    {
        lock (_gate)
        {
            int at = FirstWithRoom();
            Chunk chunk = _chunks[at] ?? AddChunk(at);
            int index = chunk.Free;
            if (index != 0)
            {
                chunk.Free = chunk.Jobs[index].Next;
            }
            else
            {
                // Slot 0 stays unused in every chunk: 0 is the end of each list of free slots.
                index = ++chunk.Fresh;
            }

            chunk.Used++;
            SetRoom(at, chunk);
            _count++;
            int slot = (at << ChunkBits) | index;
            ref Job place = ref chunk.Jobs[index];
            ulong id = job.Id;
            place = job with { Id = 0, Sibling = slot, Next = 0, Previous = 0 };
            // Readers believe a slot from its id on.
            Volatile.Write(ref place.Id, id);
            return slot;
        }
    }

    /// <summary>Frees a slot; its job must be in no list.</summary>
    public void Remove(int slot)
    {
        lock (_gate)
        {
            int at = slot >> ChunkBits;
            Chunk chunk = _chunks[at]!;
            ref Job job = ref chunk.Jobs[slot & ChunkMask];
            Volatile.Write(ref job.Id, 0);
            job = new Job { Next = chunk.Free };
            chunk.Free = slot & ChunkMask;
            chunk.Used--;
            _count--;
            SetRoom(at, chunk);
            if (chunk.Used == 0 && at > 0)
            {
                KeepOne(at);
            }
        }
    }

    /// <summary>Of two empty chunks the upper one is given back. Chunk 0 always stays.</summary>
    private void KeepOne(int empty)
    {
        int other = _kept;
        _kept = empty;
        if (other == empty || _chunks[other] is not { Used: 0 } || other == 0)
        {
            return;
        }

        _kept = Math.Min(empty, other);
        int upper = Math.Max(empty, other);
        Volatile.Write(ref _chunks[upper], null);
        SetRoom(upper, null);
    }

    /// <summary>
    /// Keeps the first chunks free of new jobs: <see cref="Adopt"/> fills them later with what a checkpoint holds. Only on an empty table.
    /// </summary>
    public void Reserve(int chunks)
    {
        lock (_gate)
        {
            Grow(chunks);
            _chunkCount = Math.Max(_chunkCount, chunks);
            for (int i = 0; i < chunks; i++)
            {
                _withRoom[i >> 6] &= ~(1UL << i);
            }
        }
    }

    /// <summary>
    /// Puts a reserved chunk's jobs in place, all at once; free slots have id 0. Takes over the array, which must be pinned and of <see cref="ChunkJobs"/> jobs.
    /// What lies above the last job is not touched: of a chunk that is mostly free only the used part becomes resident.
    /// </summary>
    public void Adopt(int at, Job[] jobs)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(jobs.Length, ChunkJobs);
        Chunk chunk = new(jobs);
        int free = 0;
        int last = LastUsed(jobs);
        for (int i = last; i > 0; i--)
        {
            if (jobs[i].Id != 0)
            {
                chunk.Used++;
            }
            else
            {
                jobs[i] = new Job { Next = free };
                free = i;
            }
        }

        chunk.Free = free;
        chunk.Fresh = last;
        lock (_gate)
        {
            bool empty = chunk.Used == 0 && at > 0;
            Volatile.Write(ref _chunks[at], empty ? null : chunk);
            SetRoom(at, empty ? null : chunk);
            _count += chunk.Used;
        }
    }

    /// <summary>The last of a chunk's slots that holds a job; 0 if none does.</summary>
    public static int LastUsed(ReadOnlySpan<Job> jobs)
    {
        int last = jobs.Length - 1;
        while (last > 0 && jobs[last].Id == 0)
        {
            last--;
        }

        return last;
    }

    /// <summary>Ends a reservation that <see cref="Adopt"/> will not fill.</summary>
    public void Unreserve(int at)
    {
        lock (_gate)
        {
            SetRoom(at, null);
        }
    }

    private int FirstWithRoom()
    {
        for (int i = 0; i < _withRoom.Length; i++)
        {
            if (_withRoom[i] != 0)
            {
                return (i << 6) + BitOperations.TrailingZeroCount(_withRoom[i]);
            }
        }

        int next = _chunkCount;
        if (next == MaxChunks)
        {
            throw new InvalidOperationException("The table of jobs is full");
        }

        Grow(next + 1);
        return next;
    }

    private Chunk AddChunk(int at)
    {
        // On the pinned heap nobody moves it.
        Chunk chunk = new(GC.AllocateArray<Job>(ChunkJobs, pinned: true));
        Volatile.Write(ref _chunks[at], chunk);
        Volatile.Write(ref _chunkCount, Math.Max(_chunkCount, at + 1));
        return chunk;
    }

    private void Grow(int chunks)
    {
        if (chunks > _chunks.Length)
        {
            Chunk?[] larger = new Chunk?[Math.Max(chunks, _chunks.Length * 2)];
            _chunks.CopyTo(larger, 0);
            Volatile.Write(ref _chunks, larger);
        }

        int words = (_chunks.Length + 63) >> 6;
        if (words > _withRoom.Length)
        {
            Array.Resize(ref _withRoom, words);
        }
    }

    // A chunk that was given back counts as one with room: it comes back when its turn comes.
    private void SetRoom(int at, Chunk? chunk)
    {
        bool room = chunk is null || chunk.Free != 0 || chunk.Fresh < ChunkMask;
        ulong bit = 1UL << at;
        _withRoom[at >> 6] = room ? _withRoom[at >> 6] | bit : _withRoom[at >> 6] & ~bit;
    }
}
