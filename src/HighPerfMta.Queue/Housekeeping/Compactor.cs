using HighPerfMta.Protocol.Smtp;
using HighPerfMta.Queue.Index;
using HighPerfMta.Queue.Log;
using HighPerfMta.Queue.Records;

namespace HighPerfMta.Queue.Housekeeping;

/// <summary>
/// Moves what lives in the log's first segment to its tail when less than half of the log lives, so that the head can be truncated. A message is copied whole: its
/// octets, its Accepted record, then the state of each of its jobs. Copies count only when they are on stable storage, and the originals stay until then: a crash at any step
/// leaves one or the other. What its owner changed meanwhile stays where it is and is moved the next time.
/// </summary>
internal sealed partial class Compactor(MailQueue queue)
{
    /// <summary>Octets copied before the copies are made durable and put in place.</summary>
    private const long BatchOctets = 2 << 20;
    private const int BatchMessages = 1024;

    private readonly List<Move> _moves = [];
    private long _copied;

    /// <summary>Octets copied since the start.</summary>
    public long CopiedBytes => Interlocked.Read(ref _copied);

    public long MovedMessages { get; private set; }

    /// <summary>A message's copies, waiting to be put in place.</summary>
    private sealed record Move(ulong Id, int Recipients, long Accepted, StoredBody? Body, List<(int Slot, byte Number, RecordRef State)> States, RecordRef Last);

    /// <summary>More than two bytes of the log for each that lives, and a segment besides.</summary>
    public bool IsDue() => Used > (2 * queue.Book.LiveBytes) + queue.Options.SegmentSize && Target() > queue.Log.BeginAddress;

    private long Used => queue.Log.TailAddress - queue.Log.BeginAddress;

    /// <summary>Empties the first segment, as far as that is possible now. False when nothing could be moved.</summary>
    /// <exception cref="LogUnavailableException">The log takes no copies now.</exception>
    public async Task<bool> StepAsync(CancellationToken cancellation)
    {
        long target = Target();
        long before = MovedMessages;
        List<(ulong Id, int Slot)> living = Find(target);
        long batch = 0;
        _moves.Clear();
        foreach ((ulong id, int slot) in living)
        {
            cancellation.ThrowIfCancellationRequested();
            if (await CopyAsync(id, slot, target, cancellation) is { } move)
            {
                _moves.Add(move);
                batch += (move.Body?.Size ?? 0) + 512;
            }

            if (batch >= BatchOctets || _moves.Count >= BatchMessages)
            {
                await SettleAsync();
                batch = 0;
            }
        }

        await SettleAsync();
        queue.TruncateHead();
        return MovedMessages > before || queue.Log.BeginAddress >= target;
    }

    /// <summary>
    /// Moves whole messages once more, whose move a crash may have cut short: what was to follow the copy is still before it, where the head may not pass. Returns those that could not be moved now.
    /// </summary>
    /// <exception cref="LogUnavailableException">The log takes no copies now.</exception>
    public async Task<List<JobRef>> MoveAgainAsync(List<JobRef> messages, CancellationToken cancellation)
    {
        List<JobRef> left = [];
        _moves.Clear();
        foreach (JobRef message in messages)
        {
            ulong id = message.Id.Value;
            if (Snapshot(id, message.Slot, out bool isChanging).Count == 0)
            {
                continue;
            }

            if (isChanging || await CopyAsync(id, message.Slot, long.MaxValue, cancellation) is not { } move)
            {
                left.Add(message);
                continue;
            }

            long before = MovedMessages;
            _moves.Add(move);
            await SettleAsync();
            if (MovedMessages == before && queue.Jobs.TryRead(message.Slot, out Job job) && job.MessageId == message.Id)
            {
                left.Add(message);
            }
        }

        return left;
    }

    // Never the segment that is being written, nor the one before it: copies go there.
    private long Target()
    {
        long segment = queue.Options.SegmentSize;
        long next = ((queue.Log.BeginAddress / segment) + 1) * segment;
        return Math.Min(next, ((queue.Log.TailAddress / segment) - 1) * segment);
    }

    /// <summary>The messages that need a record below the target, in the order of the log.</summary>
    private List<(ulong Id, int Slot)> Find(long target)
    {
        List<(long Address, ulong Id, int Slot)> found = [];
        for (int chunk = 0; chunk < queue.Jobs.Chunks; chunk++)
        {
            ReadOnlySpan<Job> jobs = queue.Jobs.ReadChunk(chunk);
            for (int i = 0; i < jobs.Length; i++)
            {
                ref readonly Job job = ref jobs[i];
                if (job.Id == 0)
                {
                    continue;
                }

                long first = job.Size > queue.ChunkSize / 2 ? queue.Book.FirstRecordOf(job) : job.Accepted;
                if (first < target)
                {
                    found.Add((first, job.Id, (chunk * JobTable.ChunkJobs) + i));
                }
            }
        }

        found.Sort();
        List<(ulong, int)> messages = new(found.Count);
        HashSet<ulong> seen = [];
        foreach ((_, ulong id, int slot) in found)
        {
            if (seen.Add(id))
            {
                messages.Add((id, slot));
            }
        }

        return messages;
    }

    /// <summary>Appends copies of all that the message needs; null when it is gone, or cannot be read (it stays where it is, and holds the log there).</summary>
    private async ValueTask<Move?> CopyAsync(ulong id, int slot, long target, CancellationToken cancellation)
    {
        List<(int Slot, Job Job)> jobs = Snapshot(id, slot, out bool isChanging);
        if (jobs.Count == 0 || isChanging || queue.Book.FirstRecordOf(jobs[0].Job) >= target)
        {
            return null;
        }

        try
        {
            using StoredRecord stored = await queue.Log.ReadAsync(jobs[0].Job.Accepted, cancellation);
            AcceptedRecord accepted = JobReader.ReadAccepted(stored, jobs[0].Job);
            StoredBody body = await CopyBodyAsync(id, stored, accepted, cancellation);
            Interlocked.Add(ref _copied, body.Size);
            RecordRef last = body.Accepted;
            List<(int, byte, RecordRef)> states = [];
            bool[] living = new bool[accepted.Envelope.Recipients.Length];
            foreach ((int at, Job job) in jobs)
            {
                RecordRef state = default;
                if (job.Number == 0)
                {
                    Array.Fill(living, true);
                }
                else
                {
                    (state, last) = await CopyStateAsync(job, accepted.Envelope, body, living, cancellation);
                }

                states.Add((at, job.Number, state));
            }

            if (Array.IndexOf(living, false) >= 0)
            {
                last = await EndOthersAsync(id, living, cancellation);
            }

            return new Move(id, living.Length, jobs[0].Job.Accepted, body, states, last);
        }
        catch (RecordUnreadableException e)
        {
            queue.ReportUnmovable(new MessageId(id), e);
            return null;
        }
    }

    /// <summary>The message's jobs of one moment; none when it is gone.</summary>
    private List<(int Slot, Job Job)> Snapshot(ulong id, int slot, out bool isChanging)
    {
        isChanging = false;
        List<(int, Job)> jobs = [];
        lock (queue.Book.LockOf(id))
        {
            if (queue.Jobs.TryRead(slot, out Job job) && job.Id == id)
            {
                int at = slot;
                bool changing = false;
                do
                {
                    jobs.Add((at, queue.Jobs[at]));
                    changing |= queue.Book.IsChanging(at, id);
                    at = queue.Jobs[at].Sibling;
                }
                while (at != slot);
                isChanging = changing;
            }
        }

        return jobs;
    }

    private async ValueTask<StoredBody> CopyBodyAsync(ulong id, StoredRecord stored, AcceptedRecord accepted, CancellationToken cancellation)
    {
        if (accepted.Chunks.Length == 0)
        {
            RecordRef copy = await queue.Log.AppendAsync(RecordType.Copied, id, stored.Payload, cancellation);
            StoredBody inline = JobReader.BodyOf(stored, accepted);
            return inline.At(copy, RecordType.Copied, []);
        }

        RecordRef[] chunks = new RecordRef[accepted.Chunks.Length];
        for (int i = 0; i < chunks.Length; i++)
        {
            using StoredRecord chunk = await queue.Log.ReadAsync(accepted.Chunks[i].Address, cancellation);
            if (chunk.Type != RecordType.BodyChunk || chunk.MessageId != accepted.ChunkOwner || chunk.Payload.Length != accepted.Chunks[i].Length)
            {
                throw new RecordUnreadableException($"the record at address {accepted.Chunks[i].Address} is not the message's chunk {i}");
            }

            chunks[i] = await queue.Log.AppendAsync(RecordType.BodyChunk, accepted.ChunkOwner, chunk.Payload, cancellation);
        }

        RecordWriter writer = new(512);
        try
        {
            AcceptedCodec.Write(ref writer, accepted.Envelope, accepted.ChunkOwner, chunks);
            writer.Octets(stored.Payload.Span[accepted.InlineOffset..]);
            RecordRef copy = await queue.Log.AppendAsync(RecordType.Copied, id, writer.Written, cancellation);
            return JobReader.BodyOf(stored, accepted).At(copy, RecordType.Copied, chunks);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Appends the job's state as its record and its entry say it, under the number that it has: of two with that number either holds.</summary>
    private async ValueTask<(RecordRef State, RecordRef Last)> CopyStateAsync(
        Job job, Envelope envelope, StoredBody body, bool[] living, CancellationToken cancellation)
    {
        List<RecipientUpdate>? updates = job.State == 0 ? null : await queue.Reader.ReadStatesAsync(job.Id, job.State, cancellation);
        QueuedMessage message = JobReader.Make(job, envelope, body, updates);
        foreach (int index in message.Recipients)
        {
            living[index] = true;
        }

        RecordWriter writer = new(256);
        try
        {
            StateWriter.Write(ref writer, job.Number, message, queue.Log.MaxPayload);
            RecordRef state = await queue.Log.AppendAsync(RecordType.Deferred, job.Id, writer.Written, cancellation);
            RecordRef last = state;
            foreach (Steering steering in SteeringsOf(job))
            {
                writer.Cut(0);
                SteeringCodec.Begin(ref writer, steering, 1);
                SteeringCodec.WriteJob(ref writer, new SteeredJob(job.Id, state.Address, job.Number), default);
                last = await queue.Log.AppendAsync(RecordType.SteeredMany, 0, writer.Written, cancellation);
            }

            return (state, last);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>Says of the recipients that no job has any more that they are final: the records that said so stay behind.</summary>
    private async ValueTask<RecordRef> EndOthersAsync(ulong id, bool[] living, CancellationToken cancellation)
    {
        RecordWriter writer = new(64);
        try
        {
            UpdateCodec.Begin(ref writer, 0);
            RecipientState final = new(RecipientStatus.Delivered, 0, DateTimeOffset.UnixEpoch, null);
            for (int i = 0; i < living.Length; i++)
            {
                if (!living[i])
                {
                    UpdateCodec.WriteState(ref writer, i, final);
                }
            }

            return await queue.Log.AppendAsync(RecordType.Completed, id, writer.Written, cancellation);
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>What the entry says that a state record cannot.</summary>
    private IEnumerable<Steering> SteeringsOf(Job job)
    {
        DateTimeOffset due = new(job.DueAt, TimeSpan.Zero);
        if (job.Has(JobFlags.Rerouted) && queue.Names.Routes.Get(job.Route) is { } hop)
        {
            yield return new Steering(SteeringKind.Reroute, due, hop);
        }

        if (job.Has(JobFlags.Bouncing))
        {
            yield return new Steering(SteeringKind.Bounce, due);
        }
    }

    /// <summary>Makes the copies durable and puts them in place.</summary>
    private async ValueTask SettleAsync()
    {
        if (_moves.Count == 0)
        {
            return;
        }

        queue.Log.CommitSoon();
        await queue.Log.WaitDurableAsync(_moves[^1].Last);
        foreach (Move move in _moves)
        {
            if (!Place(move, out bool gone))
            {
                continue;
            }

            if (gone)
            {
                // Its end lies before the copy: without another one behind it the copy would come back when the first is truncated.
                await queue.RevokeAsync(move.Id, move.Body!.Accepted.Address);
            }
            else
            {
                MovedMessages++;
            }
        }

        _moves.Clear();
    }

    /// <summary>False: somebody changed a job since it was copied; the message stays where it is.</summary>
    private bool Place(Move move, out bool gone)
    {
        gone = false;
        lock (queue.Book.LockOf(move.Id))
        {
            List<(int Slot, Job Job)> jobs = [];
            bool isChanging = false;
            foreach ((int slot, _, _) in move.States)
            {
                if (jobs.Count == 0)
                {
                    jobs = Snapshot(move.Id, slot, out isChanging);
                }
            }

            if (jobs.Count == 0)
            {
                // What was one job may have been split meanwhile, and its slot's part be done: the others live where nobody has looked. That is rare enough for a look at all of the table.
                gone = move.Recipients == 1 || queue.FindJobs(new MessageId(move.Id)).Count == 0;
                return gone;
            }

            bool unchanged = !isChanging && jobs.TrueForAll(j => move.States.Exists(s => s.Slot == j.Slot && s.Number == j.Job.Number)) && jobs[0].Job.Accepted == move.Accepted;
            if (!unchanged)
            {
                return false;
            }

            for (int i = 0; i < jobs.Count; i++)
            {
                ref Job job = ref queue.Jobs[jobs[i].Slot];
                queue.Book.MoveMessage(ref job, move.Body!.Accepted.Address, move.Body.Chunks.Length > 0 ? move.Body.First : 0, repin: i == 0);
                RecordRef state = move.States.Find(s => s.Slot == jobs[i].Slot).State;
                if (state.Length > 0)
                {
                    queue.Book.SetState(ref job, state.Address, RecordHeader.Footprint(state.Length));
                }
            }

            return true;
        }
    }
}
